"""Functions that fine-tune, encode, index, search, re-rank, evaluate and compare; the stages call them, too."""
