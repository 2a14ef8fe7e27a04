"""The error that a user can fix.

Nearly every function here may raise `UserError`, so their docstrings do not say so: a `Raises:`
names the errors that callers handle. `cli` catches it, prints its message without a traceback and
ends the program with status 2.
"""

# How many characters of a value a message quotes at most.
MAX_QUOTED = 200
# The first words of the error that ends a run with NaN.
DIVERGED = "training has diverged"


class UserError(Exception):
    """A mistake: one line that names what was given, what was expected and what to do."""


def diverged(what: str) -> UserError:
    """The error that ends a run before it writes what is no longer finite."""
    return UserError(
        f"{DIVERGED}: {what}; the files on the disk are from before: start again with another "
        "--seed"
    )


def first_line(error: BaseException) -> str:
    """The first line of another library's error, short enough to quote in one of ours."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without a number, and without the file, which we name ourselves
    return (str(error).splitlines() or [type(error).__name__])[0][:MAX_QUOTED]
