# 120 iterations a round: for runs that go on from the last round's weights.
_base_ = "./adamw_50.py"
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=120, by_epoch=False)]
train_cfg = dict(max_iters=120, val_interval=120)
