"""Plots of runs, comparisons, sweeps and outcome maps (layer 3)."""
