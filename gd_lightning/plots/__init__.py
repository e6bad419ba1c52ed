"""How a history is drawn (floor 3)."""
