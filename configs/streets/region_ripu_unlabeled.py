# RIPU on superpixels; the trainings also learn from pixels without an answer (docs/unlabeled.md).
_base_ = "./region_ripu_slic.py"
acquisition = dict(unlabeled=dict(threshold=0.9))
