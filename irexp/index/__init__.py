"""Search engines, and the encoded documents that they are built from."""
