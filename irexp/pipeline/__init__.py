"""Fine-tune, encode, index, search, re-rank, evaluate and compare: as functions, which the stages call, too."""
