"""The record of a run, the table that it is, and runs that are compared (layer 0)."""
