"""The exit codes of the command line; if a signal ends it, the code is 128 + the number of the signal."""

COMPLETED, FAILED, BAD_INPUT, DIVERGED, CTRL_C = 0, 1, 2, 3, 130
