"""The stages of an experiment, one function each, and the runner that chains them."""
