"""Collections: documents to stream and look up, topics to answer, examples to learn from."""
