# The set of classes of a superpixel, one click a class, as PixBal was published (Hwang et al.,
# NeurIPS 2023); what is trained on superpixels of several classes: docs/region_classes.md.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic="PixBal",
    region=dict(type="slic", n_segments=100),
    annotator=dict(type="oracle", answer="multiclass"),
    budget=dict(amount=96, unit="region"),
    warm_start=dict(amount=96, unit="region"),
)
