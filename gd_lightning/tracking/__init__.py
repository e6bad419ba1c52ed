"""Writing histories to files, terminal and loggers, and reading them back (layer 3)."""
