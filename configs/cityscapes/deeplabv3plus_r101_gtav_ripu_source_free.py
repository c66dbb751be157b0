# RIPU without the source's images: from a checkpoint, queries at 0 ... 8000 of 30000 (published).
# First: deeplabv3plus_r101_gtav_source_only.py
_base_ = "./deeplabv3plus_r101_gtav_ripu.py"
source_dataloader = None
load_from = "work_dirs/deeplabv3plus_r101_gtav_source_only/rounds/000/fit/checkpoint.pth"
train_cfg = dict(max_iters=30000)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, end=30000, by_epoch=False)]
acquisition = dict(queries=[0, 2000, 4000, 6000, 8000], round_init="pretrained")
