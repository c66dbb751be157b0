"""Training frameworks behind one protocol. mm* packages are imported here only, and lazily."""

from .loading import ENGINES, Loaded, dialect, generation, load

__all__ = ["ENGINES", "Loaded", "dialect", "generation", "load"]
