# One click a superpixel: the annotator names its most frequent class, for every pixel of it.
_base_ = "./region_ripu_slic.py"
acquisition = dict(annotator=dict(type="oracle", answer="dominant"))
