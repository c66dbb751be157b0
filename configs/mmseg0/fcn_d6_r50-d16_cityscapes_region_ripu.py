# A 0.x config as it stands, and one key.
_base_ = "./_fcn_d6_r50-d16_cityscapes.py"
acquisition = dict(level="region", heuristic="RIPU")
