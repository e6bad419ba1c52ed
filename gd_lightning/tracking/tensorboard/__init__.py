"""TensorBoard: writing runs, groups of runs and settings to event files, and reading the losses of a run (layer 3)."""
