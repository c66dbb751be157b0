_base_ = "./_streets.py"
acquisition = dict(level="image", heuristic="Entropy")
