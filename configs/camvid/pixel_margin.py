_base_ = "./_base.py"
acquisition = dict(
    level="pixel",
    heuristic="Margin",
    budget=dict(amount=10, unit="pixel", scope="image"),
    warm_start=dict(amount=10, unit="pixel", scope="image"),
)
