# Small images of mixed sizes: crops of 128x128 with a resize and a crop that keep sparse labels.
sparse_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="SparseRandomResize", scale=(192, 128), ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type="LabelledRandomCrop", crop_size=(128, 128), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
