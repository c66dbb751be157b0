# 50 iterations a round. Another length, e.g. 200:
#   --cfg-options train_cfg.max_iters=200 param_scheduler.0.end=200
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.01),
    # The head starts from nothing, the backbone does not.
    paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=10.0))),
)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=50, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=50, val_interval=50)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
