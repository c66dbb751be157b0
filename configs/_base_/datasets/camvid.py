# CamVid as it comes, 360x480 JPEG.
_base_ = "./camvid_180x240.py"
data_root = "{{$CAMVID_ROOT:../shared/data/camvid}}"
train_dataloader = dict(dataset=dict(data_root=data_root, img_suffix=".jpg"))
val_dataloader = dict(dataset=dict(data_root=data_root, img_suffix=".jpg"))
test_dataloader = val_dataloader
