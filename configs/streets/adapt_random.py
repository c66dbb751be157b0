_base_ = "./adapt_ripu.py"
acquisition = dict(heuristic="Random")
