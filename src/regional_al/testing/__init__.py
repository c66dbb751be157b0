"""Synthetic data and a toy engine for tests, demos and first experiments."""
