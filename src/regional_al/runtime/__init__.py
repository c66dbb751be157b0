"""Distributed processes, progress bars and timing."""
