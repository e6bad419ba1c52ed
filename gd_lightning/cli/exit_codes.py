"""The exit codes of the command line; one that a signal ended exits with 128 + the number of the signal."""

COMPLETED, FAILED, BAD_INPUT, DIVERGED, CTRL_C = 0, 1, 2, 3, 130
