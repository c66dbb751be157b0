"""The formats; importing this package registers them. One file each."""

from . import coco, cvat, label_studio, labelme, supervisely, voc

__all__ = ["coco", "cvat", "label_studio", "labelme", "supervisely", "voc"]
