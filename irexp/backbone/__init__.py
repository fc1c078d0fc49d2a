"""Pretrained transformers for the models: any of Hugging Face, or shipped in a Python package."""
