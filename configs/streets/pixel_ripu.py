# RIPU's pixel mode (published with radius 32 on 1024x2048): a neighbourhood of 9x9 here.
_base_ = "./_base.py"
acquisition = dict(
    level="pixel",
    heuristic=dict(type="RIPU", radius=4),
    budget=dict(amount=10, unit="pixel", scope="image"),
    warm_start=dict(amount=10, unit="pixel", scope="image"),
)
