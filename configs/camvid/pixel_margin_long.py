# PixelPick (Shin et al., ICCVW 2021): ten rounds of ten pixels an image, margin, trained anew.
_base_ = "./_base_long.py"
acquisition = dict(
    level="pixel",
    heuristic="Margin",
    rounds=9,
    budget=dict(amount=10, unit="pixel", scope="image"),
    warm_start=dict(amount=10, unit="pixel", scope="image"),
)
