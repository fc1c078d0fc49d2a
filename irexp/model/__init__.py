"""The models: from tokens to embeddings and scores; and the checkpoint formats they are read from and saved in."""
