"""Round trips of a waiting run's query with other labelling tools: see docs/exchange.md.

`export` writes what is asked; `import_answers` reads what the tool returns, to where the `folder`
annotator looks. A format is one file in `formats/`, its codec for masks one in `codecs/`.
"""

from ..store.query import query_hash
from .base import EXCHANGE_FORMATS, Annotated, ExchangeFormat, Package, Picture, Shape
from .intake import Imported, import_answers
from .labels import Labels
from .package import export

__all__ = [
    "EXCHANGE_FORMATS",
    "Annotated",
    "ExchangeFormat",
    "Imported",
    "Labels",
    "Package",
    "Picture",
    "Shape",
    "export",
    "import_answers",
    "query_hash",
]
