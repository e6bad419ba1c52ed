"""Comparisons of runs: training, table, significance of differences, and report (layer 6)."""
