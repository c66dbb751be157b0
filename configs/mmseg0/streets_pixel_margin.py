_base_ = "./_streets.py"
acquisition = dict(
    level="pixel",
    heuristic="Margin",
    budget=dict(amount=10, unit="pixel", scope="image"),
    warm_start=dict(amount=10, unit="pixel", scope="image"),
)
