"""The transformer encoders that models are made of: any of Hugging Face, and those that packages ship."""
