# RIPU's published shares: 2.2 % of every image in five queries of 3x3 windows.
_base_ = "./_base_long.py"
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="window", radius=1),
    budget=dict(amount="0.44%", unit="pixel", scope="image"),
    warm_start=dict(amount="0.44%", unit="pixel", scope="image"),
)
