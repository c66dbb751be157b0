"""Annotators answer queries. Importing this package registers the built-in ones."""

from .base import ANNOTATORS, Annotator, build_annotator
from .folder import FolderAnnotator
from .oracle import OracleAnnotator
from .simulated import SimulatedAnnotator
from .web import WebAnnotator

__all__ = [
    "ANNOTATORS",
    "Annotator",
    "FolderAnnotator",
    "OracleAnnotator",
    "SimulatedAnnotator",
    "WebAnnotator",
    "build_annotator",
]
