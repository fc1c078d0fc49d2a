"""Penalties that make sparse embeddings sparse: one file per penalty, named as in its paper."""
