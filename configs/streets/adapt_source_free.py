# Source-free: a checkpoint of the source and a few labels of the pool, without the source's images.
# First: adapt_source_only.py
_base_ = "./adapt_ripu.py"
source_dataloader = None
load_from = "{{$STREETS_SOURCE_CKPT:work_dirs/adapt_source_only/rounds/000/fit/checkpoint.pth}}"
