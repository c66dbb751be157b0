_base_ = "./_base.py"
acquisition = dict(level="image", heuristic="Entropy")
