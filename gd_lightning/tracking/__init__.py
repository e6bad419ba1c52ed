"""How a history reaches files, terminal and TensorBoard (layer 3)."""
