"""Fine-tuning in Lightning: batches, the training step, validation by retrieval, resuming, tracking."""
