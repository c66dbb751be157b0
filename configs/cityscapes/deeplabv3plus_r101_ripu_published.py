# RIPU (Xie et al., CVPR 2022) as published: 2.2 % of every image in five queries inside one run of
# 40000 iterations with one schedule; each asks for 1026 windows of 3x3 an image. There the first
# 10000 iterations see the source domain; here a random warm start of the size of one query takes
# that place. With a source checkpoint instead: load_from='source.pth', warm_start=None.
_base_ = [
    "mmseg::deeplabv3plus/deeplabv3plus_r101-d8_4xb2-40k_cityscapes-512x1024.py",
    "../_base_/pipelines/sparse_cityscapes_512x1024.py",
]
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="window", radius=1),
    budget=dict(amount=1026, unit="region", scope="image"),
    warm_start=dict(amount=1026, unit="region", scope="image"),
    queries=[10000, 12000, 14000, 16000, 18000],
)
