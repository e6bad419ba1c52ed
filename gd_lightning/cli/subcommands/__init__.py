"""The subcommands beside Lightning's own, a file each (layer 7)."""
