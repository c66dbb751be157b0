# All street configs: the data set, a model that learns it in seconds, equal budgets by level.
# 48 images of 96x128; 2 % of the pool's pixels is about one image, or 96 regions of 128 pixels.
_base_ = [
    "../_base_/models/effnet_lite0.py",
    "../_base_/datasets/streets.py",
    "../_base_/schedules/adamw_50.py",
    "../_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(96, 128)), decode_head=dict(num_classes=11))
acquisition = dict(
    rounds=3,
    round_init="continue",
    budget=dict(amount="2%", unit="pixel", scope="pool"),
    warm_start=dict(amount="2%", unit="pixel", scope="pool"),
)
