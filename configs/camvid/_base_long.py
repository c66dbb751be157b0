# As _base.py, but each round trains anew from ImageNet weights, 300 iterations.
_base_ = [
    "../_base_/models/effnet_lite0.py",
    "../_base_/datasets/camvid_180x240.py",
    "../_base_/schedules/adamw_300.py",
    "../_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(180, 240)), decode_head=dict(num_classes=11))
acquisition = dict(
    rounds=5,
    round_init="scratch",
    budget=dict(amount="1%", unit="pixel", scope="pool"),
    warm_start=dict(amount="1%", unit="pixel", scope="pool"),
)
