# 300 iterations a round: about what all labels of CamVid at 180x240 need.
_base_ = "./adamw_50.py"
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=300, by_epoch=False)]
train_cfg = dict(max_iters=300, val_interval=300)
