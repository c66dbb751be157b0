_base_ = [
    "mmseg::segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py",
    "../_base_/pipelines/sparse_ade20k_512x512.py",
]
train_dataloader = dict(dataset=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="region", heuristic="RIPU")
