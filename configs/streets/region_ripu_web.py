# People answer in a browser: `make demo-annotate`. 12 superpixels a round.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="slic", n_segments=100),
    annotator=dict(type="web", answer="dominant"),
    warm_start=dict(amount=12, unit="region"),
    budget=dict(amount=12, unit="region"),
    rounds=3,
)
