# A labelled source beside the pool: the streets as a game draws them.
#   python -m regional_al.testing.streets data/streets_game --style game
source_dataloader = dict(
    batch_size=8,
    num_workers=0,
    loss_weight=1.0,
    dataset=dict(
        type="StreetsDataset",
        data_root="{{$STREETS_SOURCE_ROOT:data/streets_game}}",
        data_prefix=dict(img_path="images/train", seg_map_path="annotations/train"),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackSegInputs"),
        ],
    ),
)
