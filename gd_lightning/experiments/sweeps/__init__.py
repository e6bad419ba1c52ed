"""Sweeps over every combination of settings: ranges, grid, training and report (layer 6)."""
