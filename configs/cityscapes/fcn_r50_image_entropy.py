_base_ = "./fcn_r50_region_ripu.py"
acquisition = dict(level="image", heuristic="Entropy")
