"""Options: how they are read, checked and refused (floor 7)."""
