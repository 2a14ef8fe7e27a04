"""Reading a command line; a mistake ends in one line and status 2."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, ClassVar, NoReturn

from common.errors import UserError
from common.options import FLAGS, ON_OFF, SWITCH

# What other programs call these flags; `get_close_matches` does not find them.
_SYNONYMS = {
    **dict.fromkeys(("--epochs", "--steps", "--iterations"), "--train-steps"),
    **dict.fromkeys(("--model", "--weights", "--load"), "--generator"),
    **dict.fromkeys(("-d", "--class", "--label", "--labels"), "--digit"),
}


class CommandParser(argparse.ArgumentParser):
    """A command line whose mistakes, like those found later, end in one line and status 2.

    The namespace that it returns holds only the flags that were given.

    Attributes:
        defaults: Defaults of flags, by their names, that differ from those of `Options`.
    """

    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,  # keeps the lines of examples
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )

    def add_flag(self, name: str, to: Any = None, model_name: str = "") -> None:
        """Adds one of the flags that `Options` declares to this parser, or to a group of it."""
        flag = FLAGS[name]
        names = [*([flag.short] if flag.short else []), f"--{name.replace('_', '-')}"]
        default = self.defaults.get(name, flag.default)
        settings: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": flag.help.format(name=model_name, default=default),
        }
        if flag.type in (SWITCH, ON_OFF):
            settings["action"] = flag.type
        elif isinstance(flag.type, tuple):
            settings["choices"] = flag.type
        else:
            settings |= {"type": flag.type, "metavar": flag.metavar, "nargs": flag.nargs}
            settings |= {"const": flag.const} if flag.nargs == "?" else {}
        (to or self).add_argument(*names, **settings)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads a command line; an unknown argument ends the program with a suggestion."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}: {self._advice(unknown[0])}")
        return found

    def _advice(self, unknown: str) -> str:
        """What the user may have meant."""
        name = unknown.split("=")[0].replace("_", "-")
        name = _SYNONYMS.get(name, name)
        if not unknown.startswith("-"):
            return "a generator is given as --generator FILE, a data set as --data PATH"
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        declared = FLAGS.get(name[2:].replace("-", "_"))
        if declared and declared.conditional and name not in known:
            return "only a GAN with labels can be asked for a digit, such as cgan_mnist.py"
        near = next(iter(get_close_matches(name, known, 1)), None)
        return f"did you mean {near}?" if near in known else "--help lists what there is"

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2 and one line that says why."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turns errors that the user can fix into such a line; bugs keep their traceback."""
        import tensorflow as tf  # slow; a program that runs something has loaded it

        from common.device import gpu_failure

        try:
            yield
        except UserError as error:
            self.error(str(error))
        except ModuleNotFoundError as error:  # of a package that not all commands need
            name = (error.name or "").partition(".")[0]
            package = {"sklearn": "scikit-learn"}.get(name, name)
            self.error(f"{package} is not installed: run {sys.executable} -m pip install {package}")
        except (MemoryError, tf.errors.ResourceExhaustedError):
            self.error(
                "out of memory: give smaller images, a smaller --batch-size, or fewer --samples"
            )
        except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError):
            self.error(
                "another worker has ended, or has not answered within --worker-timeout: see its "
                "message, and start all workers again with --resume"
            )
        except tf.errors.OpError as error:
            if advice := gpu_failure(error):
                self.error(advice)
            raise
        except KeyboardInterrupt:
            self.exit(130, f"{self.prog}: interrupted\n")


def command(program: str, *arguments: str) -> str:
    """A command that the user can copy: the program is started as it was started now.

    `program` is its file, and its first arguments, if it always needs some.
    """
    file, *first = program.split()
    flags = shlex.join([*first, *arguments])
    target = os.environ.get("MAKE_TARGET")  # the Makefile sets it
    if target:
        return f"make {target} ARGS={shlex.quote(flags.replace('$', '$$'))}"
    started = sys.orig_argv[: -len(sys.argv)] + sys.argv[:1]
    if os.path.basename(started[-1]) != os.path.basename(file):
        started = ["python", file]  # as in a notebook
    return f"{shlex.join(started)} {flags}"
