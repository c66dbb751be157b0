# GTAV alone: the checkpoint that the source-free config starts from.
_base_ = "./deeplabv3plus_r101_gtav_ripu.py"
acquisition = dict(queries=None, rounds=0)
