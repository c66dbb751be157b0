# Two thirds of the budget spread evenly over the classes, the noise of the ranking fades by round.
_base_ = "./_base.py"
acquisition = dict(level="region", heuristic="ClaSPPE", region=dict(type="slic", n_segments=100))
