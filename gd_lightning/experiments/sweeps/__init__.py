"""Every combination of some settings: ranges, grid, training and report (floor 6)."""
