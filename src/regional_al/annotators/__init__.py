"""Who answers queries. Importing this package registers every annotator in `ANNOTATORS`."""

from .base import ANNOTATORS, Annotator
from .folder import FolderAnnotator
from .oracle import OracleAnnotator

__all__ = ["ANNOTATORS", "Annotator", "FolderAnnotator", "OracleAnnotator"]
