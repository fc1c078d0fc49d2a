"""Artifacts: their identities, plans, store and provenance."""
