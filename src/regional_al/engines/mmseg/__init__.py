"""What the engines of both MMSegmentation generations share."""
