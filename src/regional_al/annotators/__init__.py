"""Annotators answer queries. Importing this package registers the built-in ones."""

from .base import ANNOTATORS, Annotator, build_annotator
from .folder import FolderAnnotator
from .oracle import OracleAnnotator

__all__ = ["ANNOTATORS", "Annotator", "FolderAnnotator", "OracleAnnotator", "build_annotator"]
