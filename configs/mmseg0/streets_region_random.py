_base_ = "./_streets.py"
acquisition = dict(level="region", heuristic="Random", region=dict(type="slic", n_segments=100))
