"""Frozen image-text models: their names, their weights, and images to features through a cache."""
