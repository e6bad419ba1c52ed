"""Options: how they are read, checked and refused (layer 7)."""
