# The source alone: what a model brings along that has seen no label of the pool. Its checkpoint is
# where adapt_source_free.py starts.
_base_ = ["./_base.py", "../_base_/datasets/streets_source.py"]
acquisition = dict(level="region", heuristic="Random", region="window", warm_start=None, rounds=0)
