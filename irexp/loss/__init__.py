"""Training objectives, one file a loss, named as its paper names it."""
