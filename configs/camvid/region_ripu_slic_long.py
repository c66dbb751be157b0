# From ImageNet weights in every round, 300 iterations each.
_base_ = "./_base_long.py"
acquisition = dict(level="region", heuristic="RIPU", region=dict(type="slic", n_segments=200))
