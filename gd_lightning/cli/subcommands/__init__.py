"""The subcommands, one or more files each (layer 7)."""
