"""Sweeps that search: Optuna studies of the configuration."""
