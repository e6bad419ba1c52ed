"""The picture of a comparison (floor 3)."""
