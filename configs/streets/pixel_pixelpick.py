# Ten pixels an image and round, drawn from its 5 % most uncertain ones (PixelPick as published).
_base_ = "./_base.py"
acquisition = dict(
    level="pixel",
    heuristic=dict(type="PixelPick", score="margin", top="5%"),
    budget=dict(amount=10, unit="pixel", scope="image"),
    warm_start=dict(amount=10, unit="pixel", scope="image"),
)
