"""Pages that move: one HTML file each, which needs neither a network nor another file (layer 3)."""
