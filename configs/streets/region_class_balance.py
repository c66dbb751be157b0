# One click a superpixel, weighted towards classes that are predicted seldom (Cai et al., CVPR
# 2021); 96 of the 4800 superpixels a round, as many as random ones would be in 2 % of the pixels.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic="ClassBalance",
    region=dict(type="slic", n_segments=100),
    annotator=dict(type="oracle", answer="dominant"),
    budget=dict(amount=96, unit="click"),
    warm_start=dict(amount=96, unit="click"),
)
