_base_ = "./_base.py"
acquisition = dict(level="region", heuristic="RIPU", region=dict(type="window", radius=1))
