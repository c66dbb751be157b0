_base_ = [
    "mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py",
    "../_base_/pipelines/sparse_ade20k_512x512.py",
]
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="region", heuristic="RIPU")
