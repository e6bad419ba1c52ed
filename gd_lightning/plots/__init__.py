"""How a history is drawn (layer 3)."""
