"""Checkpoint formats, irexp's own and other libraries', recognised by their content."""
