"""What a person can do wrong, as exceptions whose message says what, why, and what to do instead (floor 0)."""


class InputError(ValueError):
    """Something that was given (an option, a file, data, a class) cannot be used.

    The message is one line for a person: what cannot be done, because of what, and what to do. The command line
    prints it without a traceback and exits with code 2.
    """


class ShapeError(InputError):
    """Predictions and targets do not have the same shape (B, K)."""
