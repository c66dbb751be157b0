_base_ = [
    "mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py",
    "../_base_/pipelines/sparse_cityscapes_512x1024.py",
]
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="region", heuristic="RIPU")
