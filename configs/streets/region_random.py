_base_ = "./_base.py"
acquisition = dict(level="region", heuristic="Random", region=dict(type="slic", n_segments=100))
