# Ten pixels an image and round; resizing and cropping that keep them.
_base_ = ["./_fcn_d6_r50-d16_cityscapes.py", "./_sparse_cityscapes_512x1024.py"]
data = dict(train=dict(pipeline={{_base_.sparse_pipeline}}))
acquisition = dict(level="pixel", heuristic="Margin", rounds=10)
