"""The models, from tokens to embeddings and scores, and the checkpoint formats that they are loaded and saved in."""
