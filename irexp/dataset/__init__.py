"""Collections: documents to stream and look up, topics to search for, training examples."""
