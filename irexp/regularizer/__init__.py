"""Penalties on embeddings, which make sparse ones sparse; one file each, named as its paper names it."""
