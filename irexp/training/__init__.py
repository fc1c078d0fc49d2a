"""Fine-tuning with Lightning: batches, the training step, validation by retrieval, resuming, tracking."""
