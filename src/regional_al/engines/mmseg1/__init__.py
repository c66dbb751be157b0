"""MMSegmentation 1.x (mmengine). Import the modules below only where the packages are there."""
