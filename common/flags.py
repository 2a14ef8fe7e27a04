"""What a flag is: its type, the modes in which it has an effect, what it needs, and so on.

`common.options` declares the flags; this module holds the vocabulary of the declarations.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.data.readers import MAX_PIXELS
from common.files import kind_of


class Mode(enum.Flag):
    """What a command does."""

    TRAIN = enum.auto()
    FIGURES = enum.auto()
    SAMPLE = enum.auto()
    EVALUATE = enum.auto()
    EXPORT = enum.auto()


TRAIN, SAMPLE, EVALUATE, EXPORT = Mode.TRAIN, Mode.SAMPLE, Mode.EVALUATE, Mode.EXPORT
# Modes that use a generator from a file.
WITH_GENERATOR = SAMPLE | EVALUATE | EXPORT
ANY = TRAIN | Mode.FIGURES | WITH_GENERATOR

# Types of flags without a value: one that is off unless given, one with a --no- form.
SWITCH = "store_true"
ON_OFF = argparse.BooleanOptionalAction


class OnResume(enum.Enum):
    """For a flag that belongs to a run, and so stands in config.json: may a resumed run change it?

    Flags that do not belong to a run belong to the command: each command states them anew.
    """

    FIXED = enum.auto()  # another value would make it another run
    CHANGEABLE = enum.auto()


FIXED, CHANGEABLE = OnResume.FIXED, OnResume.CHANGEABLE


@dataclasses.dataclass(frozen=True)
class Flag:
    """A declaration.

    Attributes:
        default: The value where the flag is not given.
        type: From the text on the command line to the value; a tuple of choices; or `SWITCH` or
            `ON_OFF` for a flag without a value.
        metavar: What stands for the value in the help.
        help: Its description; {name} stands for the name of the model.
        modes: Where it has an effect.
        on_resume: Whether it belongs to the run, and may then be changed.
        needs: Other flags with the values that this one needs.
        exclusive: A label. Of the flags with the same label only one may be given.
        short: A short name, such as "-g".
        conditional: Whether it exists only in programs whose generator takes labels.
        nargs: How many values it takes, as in argparse.
        const: Its value where it is given without one.
    """

    default: Any
    type: Any
    metavar: str | None
    help: str
    modes: Mode
    on_resume: OnResume | None = None
    needs: dict[str, Any] = dataclasses.field(default_factory=dict)
    exclusive: str | None = None
    short: str | None = None
    conditional: bool = False
    nargs: str | None = None
    const: Any = None

    def accepts(self, value: Any) -> bool:
        """Whether a value in config.json is one that the command line would have given."""
        if self.type in (SWITCH, ON_OFF):
            return isinstance(value, bool)
        if value is None:  # what is fixed for a run always has a value
            return self.default is None and self.on_resume is not FIXED
        if isinstance(self.type, tuple):
            return value in self.type
        if self.type is path:
            return isinstance(value, str) and "\0" not in value
        try:
            return type(value) is int and self.type(str(value)) == value
        except argparse.ArgumentTypeError:
            return False


def flag(default: Any, type: Any, metavar: str | None, help: str, modes: Mode, **more: Any) -> Any:
    """Declares a flag as a field of `Options`; the arguments are those of `Flag`."""
    declared = Flag(default, type, metavar, help, modes, **more)
    return dataclasses.field(default=default, metadata={"flag": declared})


# The types of flags that have a value: from the text to the value, or an error that says why not.


def whole_number(lowest: int, highest: int) -> Callable[[str], int]:
    """The type of a whole number in a range, both ends included."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = lowest - 1
        if not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(
                f"{text!r} given, a whole number from {lowest} to {highest} expected"
            )
        return number

    return parse


# What all random number generators take.
seed_number = whole_number(0, 2**32 - 1)


def side(text: str) -> int:
    """The type of the side of square images."""
    number = whole_number(4, math.isqrt(MAX_PIXELS))(text)
    if number % 4:
        raise argparse.ArgumentTypeError(f"{text!r} given, a multiple of 4 expected")
    return number


def path(text: str) -> Path:
    """The type of a file or a folder; ~ is the home folder, also where no shell has replaced it."""
    try:
        found = Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} given: {error}") from error
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} given, a file or a folder expected")
    return found


def file_named(*suffixes: str) -> Callable[[str], Path]:
    """The type of a file with one of some suffixes, in small letters or capitals; "" for none."""

    def parse(text: str) -> Path:
        if not text or kind_of(Path(text)) not in suffixes or Path(text).name in suffixes:
            names = ", ".join(suffix or "no suffix" for suffix in suffixes)
            raise argparse.ArgumentTypeError(f"{text!r} given, expected a file named {names}")
        return path(text)

    return parse


def digits(text: str) -> str:
    """The type of a class, or of several in one word; which of the two, the generator decides."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} given, a digit or several expected")
    return text


def device_names(text: str) -> list[str]:
    """The type of a list of devices of one kind, each named once."""
    names = text.upper().split(",")
    if not re.fullmatch(r"(GPU:\d{1,3})(,GPU:\d{1,3})*|(CPU:\d{1,3})(,CPU:\d{1,3})*", text.upper()):
        raise argparse.ArgumentTypeError(
            f"{text!r} given, names like GPU:0,GPU:1 expected, all of one kind"
        )
    if len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} given, each device expected once")
    return names
