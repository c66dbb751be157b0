# Superpixels of alike predictions are merged in each round; one click a merged one (Kim et al.,
# ICCV 2023). The superpixels to start from are small; as many clicks as in region_class_balance.py.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic=dict(type="AdaptiveSuperpixels", heuristic="ClassBalance", threshold=0.1),
    region=dict(type="slic", n_segments=200),
    annotator=dict(type="oracle", answer="dominant"),
    budget=dict(amount=96, unit="click"),
    warm_start=dict(amount=96, unit="click"),
)
