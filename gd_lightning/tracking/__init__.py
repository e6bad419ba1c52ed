"""How a history reaches files, terminal and TensorBoard (floor 3)."""
