_base_ = [
    "mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py",
    "../_base_/pipelines/sparse_cityscapes_1024x1024.py",
]
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="region", heuristic="RIPU")
