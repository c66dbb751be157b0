# The published RIPU in region mode: 2.2 % of the pixels in five queries of one continuous run.
_base_ = ["./_fcn_d6_r50-d16_cityscapes.py", "./_sparse_cityscapes_512x1024.py"]
data = dict(train=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="window", radius=1),
    budget=dict(amount=1026, unit="region", scope="image"),
    queries=[10000, 12000, 14000, 16000, 18000],
)
