# One image a round: 2 % of the pixels would be just short of one.
_base_ = "./_base.py"
acquisition = dict(
    level="image",
    heuristic="Entropy",
    budget=dict(amount=1, unit="image"),
    warm_start=dict(amount=1, unit="image"),
)
