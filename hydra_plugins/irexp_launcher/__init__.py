"""Hydra finds the launchers of irexp here."""
