"""The picture of a comparison (layer 3)."""
