"""The history of a run, its table, and groups of runs to compare (layer 0)."""
