"""hydra/sweeper=optuna."""
