"""A user's mistakes as data, and damage to whatever is read."""
