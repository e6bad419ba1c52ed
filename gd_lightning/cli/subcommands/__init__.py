"""The subcommands beside Lightning's own, a file each (floor 7)."""
