"""Data that tests, demos and users trying things out can generate on the spot."""
