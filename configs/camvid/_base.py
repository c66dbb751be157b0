# All CamVid configs at 180x240: 1 % of the pool's pixels to start from, then 1 % a round: 3 of the
# 367 images, or 734 regions of 216 pixels. Every round goes on from the last one's weights for 50
# iterations, so that a run of five rounds takes minutes on two CPU cores; *_long.py trains longer.
# The batch is 8 a process: for the same training on two processes,
#   --cfg-options train_dataloader.batch_size=4
_base_ = [
    "../_base_/models/effnet_lite0.py",
    "../_base_/datasets/camvid_180x240.py",
    "../_base_/schedules/adamw_50.py",
    "../_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(180, 240)), decode_head=dict(num_classes=11))
acquisition = dict(
    rounds=5,
    round_init="continue",
    budget=dict(amount="1%", unit="pixel", scope="pool"),
    warm_start=dict(amount="1%", unit="pixel", scope="pool"),
)
