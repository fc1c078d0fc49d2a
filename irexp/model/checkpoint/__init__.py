"""Checkpoint formats of irexp and of other libraries, recognised by their content."""
