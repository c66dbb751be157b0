# Ten pixels an image and round: uncertain ones among those that represent the images and the pool.
_base_ = "./_base.py"
acquisition = dict(
    level="pixel",
    heuristic=dict(type="EDALD", passes=5),
    budget=dict(amount=10, unit="pixel", scope="image"),
    warm_start=dict(amount=10, unit="pixel", scope="image"),
)
