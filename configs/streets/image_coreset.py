# Whole images, each as far as can be, in the model's features, from all that are labelled.
_base_ = "./_base.py"
acquisition = dict(level="image", heuristic="CoreSet")
