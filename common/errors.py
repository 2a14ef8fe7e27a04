"""The error that a user can fix."""

# Characters of something given that a message quotes at most.
MAX_QUOTED = 200


class UserError(Exception):
    """A mistake that the user can fix.

    The message is one line that names what was given, what was expected and what to do. The
    programs print it without a traceback and exit with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of another library's error, short enough to quote in one of ours."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror  # without a number, and without the file, which we name ourselves
    return (str(error).splitlines() or [type(error).__name__])[0][:MAX_QUOTED]
