"""Run files, measures per query, significance tests and the table of a paper."""
