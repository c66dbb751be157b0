_base_ = "./_streets.py"
acquisition = dict(level="region", heuristic="RIPU", region=dict(type="slic", n_segments=100))
