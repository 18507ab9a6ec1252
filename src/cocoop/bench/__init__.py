"""Measurements: the engine beside the reference path, in one run, as ratios with their spread."""
