# A folder of images of mixed sizes with mmseg's own data set class. A config that takes this sets
# data_root and metainfo of train_dataloader.dataset and val_dataloader.dataset.
_base_ = ["./streets.py", "../pipelines/sparse_128x128.py"]
dataset_type = "BaseSegDataset"
train_dataloader = dict(dataset=dict(type=dataset_type, pipeline={{_base_.sparse_pipeline}}))
val_dataloader = dict(dataset=dict(type=dataset_type))
test_dataloader = val_dataloader
