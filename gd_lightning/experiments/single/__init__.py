"""A single run in Python: training, loading, predicting and showing."""
