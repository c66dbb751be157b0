_base_ = [
    "mmseg::_base_/models/deeplabv3plus_r50-d8.py",
    "mmseg::_base_/datasets/pascal_voc12.py",
    "mmseg::_base_/schedules/schedule_20k.py",
    "mmseg::_base_/default_runtime.py",
    "../_base_/pipelines/sparse_voc_512x512.py",
]
model = dict(
    data_preprocessor=dict(size=(512, 512)),
    decode_head=dict(num_classes=21),
    auxiliary_head=dict(num_classes=21),
)
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="region", heuristic="RIPU")
