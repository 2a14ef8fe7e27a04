"""What a program does first of all, before anything that is slow to import.

Importing this module takes no time: it sees to it that Ctrl-C ends a program quietly while the rest
loads, and that a missing TensorFlow ends it in one line.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import TracebackType

_earlier_hook = sys.excepthook


def _end_quietly(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Prints no traceback when the user presses Ctrl-C."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        _earlier_hook(kind, error, trace)


def loaded() -> None:
    """Ends what this module has begun: from here on the program handles Ctrl-C itself."""
    if sys.excepthook is _end_quietly:
        sys.excepthook = _earlier_hook


sys.excepthook = _end_quietly

if find_spec("tensorflow") is None:
    # not UserError, which nobody would catch this early
    print(
        "TensorFlow is not installed in this Python: run the program with make, which installs "
        "what it needs (make dcgan, make cgan), or run pip install -r requirements.txt first",
        file=sys.stderr,
    )
    sys.exit(2)
