# CamVid at its own size, random scale and crop; no prepared copy needed.
_base_ = [
    "../_base_/models/effnet_lite0.py",
    "../_base_/datasets/camvid.py",
    "../_base_/pipelines/sparse_360x480.py",
    "../_base_/schedules/adamw_300.py",
    "../_base_/runtime.py",
]
model = dict(data_preprocessor=dict(size=(360, 480)), decode_head=dict(num_classes=11))
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="region", heuristic="RIPU", region=dict(type="slic", n_segments=600))
