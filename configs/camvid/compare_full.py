# All labels at once, as many iterations as the last round of compare.py has behind it.
_base_ = "./compare.py"
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=600, by_epoch=False)]
train_cfg = dict(max_iters=600, val_interval=600)
acquisition = dict(
    _delete_=True,
    level="image",
    heuristic="Random",
    rounds=0,
    warm_start=dict(amount="100%", unit="image"),
    previews=0,
)
