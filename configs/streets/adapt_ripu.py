# Active domain adaptation: round 0 trains on the source alone; then every round asks for one 3x3
# window an image of the pool (0.07 % of its pixels) and trains on both.
_base_ = ["./_base.py", "../_base_/datasets/streets_source.py"]
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="window", radius=1),
    budget=dict(amount=1, unit="region", scope="image"),
    warm_start=None,
)
