# The entropy of the image and of its mirror image, over grid cells.
_base_ = "./_base.py"
acquisition = dict(level="region", heuristic="EquAL", region=dict(type="grid", cell=16))
