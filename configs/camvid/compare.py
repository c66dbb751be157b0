# What strategies are compared with (benchmarks/camvid_grid.py): five scattered pixels an image to
# start from, then four rounds; every round goes on from the last one's weights for 120 iterations,
# 600 in all. compare_full.py is full supervision for as many.
_base_ = [
    "../_base_/models/effnet_lite0.py",
    "../_base_/datasets/camvid_180x240.py",
    "../_base_/schedules/adamw_120.py",
    "../_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(180, 240)), decode_head=dict(num_classes=11))
acquisition = dict(
    level="region",
    heuristic="RIPU",
    region=dict(type="slic", n_segments=200),
    rounds=4,
    round_init="continue",
    budget=dict(amount="0.5%", unit="pixel", scope="pool"),
    warm_start=dict(level="pixel", amount=5),
    previews=0,
)
