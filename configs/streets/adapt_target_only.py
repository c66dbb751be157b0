# As many labels of the pool without any source: one random window an image to start from.
_base_ = "./region_ripu_window.py"
acquisition = dict(
    budget=dict(amount=1, unit="region", scope="image"),
    warm_start=dict(amount=1, unit="region", scope="image"),
)
