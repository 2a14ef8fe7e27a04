"""Reading a command line; a mistake ends in one line and status 2."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import tensorflow as tf

from common.errors import UserError
from common.flags import ON_OFF, SAMPLE, SWITCH, WITH_GENERATOR, Flag
from common.options import FLAGS, Options, check_flags


class CommandParser(argparse.ArgumentParser):
    """A command line whose mistakes, like those found later, end in one line and status 2.

    Args:
        prog: The name of the command.
        description: The first line of `--help`.
        examples: Command lines and what they do, for the end of `--help`.
    """

    def __init__(self, prog: str, description: str, examples: str | None = None) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # keeps the lines of examples
            allow_abbrev=False,
        )

    def add_flag(self, name: str, to: Any = None, model_name: str = "") -> None:
        """Adds one of the flags that `Options` declares to this parser, or to a group of it."""
        flag = FLAGS[name]
        names = [*([flag.short] if flag.short else []), f"--{name.replace('_', '-')}"]
        settings: dict[str, Any] = {
            "dest": name,
            "default": flag.default,
            "help": flag.help.format(name=model_name),
        }
        if flag.type in (SWITCH, ON_OFF):
            settings["action"] = flag.type
        elif isinstance(flag.type, tuple):
            settings["choices"] = flag.type
        else:
            settings |= {"type": flag.type, "metavar": flag.metavar, "nargs": flag.nargs}
            settings |= {"const": flag.const} if flag.nargs == "?" else {}
        (to or self).add_argument(*names, **settings)

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2 and one line that says why."""
        line = " ".join(message.split())
        self.exit(2, f"{self.prog}: error: {line}\n")

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turns errors that the user can fix into such a line; bugs keep their traceback."""
        try:
            yield
        except UserError as error:
            self.error(str(error))
        except (MemoryError, tf.errors.ResourceExhaustedError):
            self.error("out of memory: give a smaller --batch-size or smaller images")
        except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError):
            self.error(
                "another worker has ended, or has not answered within --worker-timeout: see its "
                "message, and start all workers again with --resume"
            )
        except BrokenPipeError:
            # The reader of the output, such as `head`, has ended. Python flushes at exit, which
            # must not fail again:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self.exit(1)
        except OSError as error:
            # of stdout; files have messages of their own
            if error.errno == errno.EIO:  # the terminal has been closed
                self.exit(1)
            if error.errno != errno.ENOSPC:
                raise
            self.error("no space left on the device that the output goes to: free some")
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted\n")


class Parser(CommandParser):
    """The command line of a program: the flags of `Options`.

    Args:
        model_name: The name of the model and of the program.
        description: The first line of `--help`.
        examples: Command lines and what they do, for the end of `--help`.
        conditional: Whether the generator takes labels, and so --digit exists.
    """

    def __init__(
        self, model_name: str, description: str, examples: str = "", conditional: bool = False
    ) -> None:
        super().__init__(f"{model_name}.py", description, examples)
        groups: dict[str, Any] = {
            title: self.add_argument_group(title) for title in ("with --generator", "training")
        }
        exclusive: dict[str, Any] = {}
        for name, flag in FLAGS.items():
            if flag.conditional and not conditional:
                continue
            group = groups.get(_group_of(flag), self)
            if flag.exclusive:
                if flag.exclusive not in exclusive:
                    exclusive[flag.exclusive] = group.add_mutually_exclusive_group()
                group = exclusive[flag.exclusive]
            self.add_flag(name, group, model_name)

    def options(self, argv: Sequence[str] | None = None) -> Options:
        """Reads the command line; a mistake in it ends the program with status 2."""
        # argparse does not set what the namespace already has: None means "not given"
        parsed = self.parse_args(argv, argparse.Namespace(**dict.fromkeys(FLAGS)))
        given = {name: value for name, value in vars(parsed).items() if value is not None}
        options = Options(**given, given=given)
        try:
            check_flags(options)
        except UserError as error:
            self.error(str(error))
        return options


def _group_of(flag: Flag) -> str:
    """The group of a flag in --help; those for any mode stand in none."""
    if not flag.modes & ~WITH_GENERATOR:
        return "with --generator"
    return "" if SAMPLE in flag.modes else "training"
