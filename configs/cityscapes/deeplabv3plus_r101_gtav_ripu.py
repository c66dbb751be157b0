# RIPU's active domain adaptation GTAV -> Cityscapes with the published schedule: 10000 iterations
# on the source alone, then queries at 10000 ... 18000 of 40000, training on both all along. Rate,
# batch (2 + 2 on one GPU) and fixed BN statistics of the backbone are the published ones; what
# differs: docs/domain_adaptation.md
_base_ = ["./deeplabv3plus_r101_ripu_published.py", "../_base_/datasets/gtav_source.py"]
model = dict(backbone=dict(norm_eval=True))
optim_wrapper = dict(
    optimizer=dict(lr=2.5e-4),
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, end=40000, by_epoch=False)]
acquisition = dict(warm_start=None)
