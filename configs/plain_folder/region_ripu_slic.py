# Any folder of images of mixed sizes; no Python, only these lines:
#   ROOT/images/{train,val}/*.jpg   ROOT/annotations/{train,val}/*.png (ids from 0, 255 = void)
# To try it: python -m regional_al.testing.streets data/plain_folder --mixed-sizes
_base_ = [
    "../_base_/models/effnet_lite0.py",
    "../_base_/datasets/plain_folder.py",
    "../_base_/schedules/adamw_50.py",
    "../_base_/runtime.py",
]
data_root = "{{$PLAIN_FOLDER_ROOT:data/plain_folder}}"
metainfo = dict(
    classes=(
        "road", "sidewalk", "building", "fence", "pole", "traffic sign", "vegetation", "sky",
        "person", "car", "bicycle",
    )
)  # fmt: skip
model = dict(
    data_preprocessor=dict(size=(128, 128)), decode_head=dict(num_classes=len(metainfo["classes"]))
)
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
acquisition = dict(level="region", heuristic="RIPU", rounds=3)
