# GTAV (Richter et al., ECCV 2016) as the source of Cityscapes' 19 classes. The *_labelTrainIds.png
# are made from its masks once: docs/domain_adaptation.md
source_dataloader = dict(
    batch_size=2,
    num_workers=2,
    dataset=dict(
        type="CityscapesDataset",
        data_root="data/gta/",
        img_suffix=".png",
        seg_map_suffix="_labelTrainIds.png",
        data_prefix=dict(img_path="images", seg_map_path="labels"),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="Resize", scale=(1280, 720)),
            dict(type="RandomCrop", crop_size=(512, 1024), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
        ],
    ),
)
