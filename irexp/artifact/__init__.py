"""What was made and from what: identities, the store, provenance."""
