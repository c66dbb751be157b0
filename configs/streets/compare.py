# What strategies are compared with under annotation errors (benchmarks/noise_grid.py): five
# scattered pixels an image to start from, then four rounds; every round goes on from the last one's
# weights for 60 iterations of batch 4. About two minutes a run on one core.
_base_ = "./_base.py"
train_dataloader = dict(batch_size=4)
param_scheduler = [dict(type="PolyLR", power=0.9, eta_min=1e-5, begin=0, end=60, by_epoch=False)]
train_cfg = dict(max_iters=60, val_interval=60)
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="slic", n_segments=100),
    rounds=4,
    budget=dict(amount="1%", unit="pixel", scope="pool"),
    warm_start=dict(_delete_=True, level="pixel", amount=5),
    annotator=dict(type="simulated"),
    previews=0,
)
