# Whole images, each as far as can be, in the model's features, from all that are labelled.
# One image a round: 2 % of the pixels would be just short of one.
_base_ = "./_base.py"
acquisition = dict(
    level="image",
    heuristic="CoreSet",
    budget=dict(amount=1, unit="image"),
    warm_start=dict(amount=1, unit="image"),
)
