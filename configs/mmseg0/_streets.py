# The embedded street scenes (python -m regional_al.testing.streets data/streets) and a small U-Net
# that learns them without weights from anywhere, for MMSegmentation 0.x. The data set class and the
# two transforms that keep sparse labels come with the engine.
import os

img_norm_cfg = dict(mean=[127.0, 127.0, 127.0], std=[64.0, 64.0, 64.0], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="SparseResize", img_scale=(128, 96), ratio_range=(0.8, 1.5)),
    dict(type="LabelledRandomCrop", crop_size=(96, 128), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Normalize", **img_norm_cfg),
    dict(type="Pad", size=(96, 128), pad_val=0, seg_pad_val=255),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_semantic_seg"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(128, 96),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="RandomFlip"),
            dict(type="Normalize", **img_norm_cfg),
            dict(type="Pad", size_divisor=16),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
dataset = dict(type="StreetsDataset", data_root=os.environ.get("STREETS_ROOT", "data/streets"))
train = dict(img_dir="images/train", ann_dir="annotations/train", **dataset)
val = dict(img_dir="images/val", ann_dir="annotations/val", **dataset)
data = dict(
    samples_per_gpu=8,
    workers_per_gpu=0,  # small images: decoding costs 2 ms
    train=dict(pipeline=train_pipeline, **train),
    val=dict(pipeline=test_pipeline, **val),
    test=dict(pipeline=test_pipeline, **val),
)
norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    backbone=dict(
        type="UNet",
        base_channels=16,
        num_stages=4,
        strides=(1, 1, 1, 1),
        enc_num_convs=(2, 2, 2, 2),
        dec_num_convs=(2, 2, 2),
        downsamples=(True, True, True),
        enc_dilations=(1, 1, 1, 1),
        dec_dilations=(1, 1, 1),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type="FCNHead",
        in_channels=16,
        in_index=3,
        channels=16,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
# 50 iterations a round. Another length, e.g. 200: --cfg-options runner.max_iters=200
optimizer = dict(type="AdamW", lr=5e-3, weight_decay=0.01)
optimizer_config = dict()
lr_config = dict(policy="poly", power=0.9, min_lr=1e-5, by_epoch=False)
runner = dict(type="IterBasedRunner", max_iters=50)
checkpoint_config = None  # a round leaves its last checkpoint in any case
log_config = dict(interval=25, hooks=[dict(type="TextLoggerHook", by_epoch=False)])
dist_params = dict(backend="nccl")  # gloo is taken where there is no CUDA device
log_level = "INFO"
load_from = None
resume_from = None
workflow = [("train", 1)]
cudnn_benchmark = True
acquisition = dict(
    rounds=3,
    round_init="continue",
    budget=dict(amount="2%", unit="pixel", scope="pool"),
    warm_start=dict(amount="2%", unit="pixel", scope="pool"),
)
