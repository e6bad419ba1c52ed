"""Exceptions for invalid input, whose messages say what failed, why, and what to do instead (layer 0)."""


class InputError(ValueError):
    """Something that was given (an option, a file, data, a class) cannot be used.

    The message is one line for a person: what cannot be done, because of what, and what to do. The command line
    prints it without a traceback and exits with code 2.
    """


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not blank, or the name of its class."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class StartError(InputError):
    """The loss at a start, or its gradient, is too large for the precision, so no statement is possible.

    Args:
        cause: The quantity that overflows; the part of the message after "because".
        cure: The advice.
    """

    def __init__(self, cause: str, cure: str) -> None:
        super().__init__(f"cannot plan from this start, because {cause}; {cure}")
        self.cause = cause


class ShapeError(InputError):
    """Predictions and targets do not have the same shape (B, K)."""


class DataWarning(UserWarning):
    """What a person should know of their data before they trust what is learned from them."""
