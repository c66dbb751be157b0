# A stochastic batch: superpixels drawn in proportion to their RIPU score instead of the best ones.
_base_ = "./_base.py"
acquisition = dict(
    level="region",
    heuristic=dict(type="Stochastic", heuristic="RIPU", kind="power", beta=1.0),
    region=dict(type="slic", n_segments=100),
)
