"""What is a user's mistake, and not a bug of ours?"""


class UserError(Exception):
    """A mistake that its maker can mend.

    The message is one line that names what was given, what was expected and what to do; the
    programs print it without a traceback and exit with status 2.
    """


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, short enough to be quoted in one of ours."""
    return (str(error).splitlines() or [type(error).__name__])[0]
