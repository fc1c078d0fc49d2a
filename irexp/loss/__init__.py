"""Training objectives: one file per loss, named as in its paper."""
