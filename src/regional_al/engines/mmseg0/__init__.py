"""Engine over MMSegmentation 0.x and mmcv-full 1.x. Import `engine`; nothing is imported here."""
