"""The subcommands, each in one or more files (layer 7)."""
