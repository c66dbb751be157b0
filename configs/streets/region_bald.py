# Ten predictions of each image, the head's dropout switched on; what they disagree about.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic=dict(type="BALD", passes=10),
    region=dict(type="slic", n_segments=100),
)
