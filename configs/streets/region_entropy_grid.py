_base_ = "./_base.py"
acquisition = dict(level="region", heuristic="Entropy", region=dict(type="grid", cell=12))
