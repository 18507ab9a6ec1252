"""Plots as SVG, the same bytes each time."""
