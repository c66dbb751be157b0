# Two heuristics on one scale: the share of the pool's superpixels that score less.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic=dict(
        type="Combine",
        normalize="rank",
        parts=[dict(type="RIPU", weight=2.0), dict(type="EquAL", weight=1.0)],
    ),
    region=dict(type="slic", n_segments=100),
)
