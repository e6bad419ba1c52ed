"""Every combination of some settings: ranges, grid, training and report (layer 6)."""
