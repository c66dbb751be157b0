"""How labelling tools write a mask: pure functions over numpy arrays, none by way of polygons."""
