"""What a run stores: labels, ledger, queries, results."""

from .labels import LabelStore
from .ledger import Ledger
from .query import Query, QueryInfo, read_query, write_query
from .work_dir import WorkDir

__all__ = ["LabelStore", "Ledger", "Query", "QueryInfo", "WorkDir", "read_query", "write_query"]
