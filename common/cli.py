"""Reading a command line; a mistake ends in one line and status 2."""

from __future__ import annotations

from common import startup  # first, for it handles Ctrl-C from here on

# isort: split
import argparse
import errno
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, NoReturn

from common.errors import MAX_QUOTED, UserError, discard_output
from common.flags import ON_OFF, SAMPLE, SWITCH, WITH_GENERATOR, Flag
from common.options import FLAGS, Options, check_flags

# What other programs call these flags.
_SYNONYMS = {
    **dict.fromkeys(("--epochs", "--steps", "--iterations", "--num-steps"), "--train-steps"),
    **dict.fromkeys(("--dataset", "--data-dir", "--images"), "--data"),
    **dict.fromkeys(("--output-dir", "--out-dir", "--logdir"), "--outdir"),
    **dict.fromkeys(("--model", "--weights", "--load"), "--generator"),
    **dict.fromkeys(("--class", "--label", "--labels"), "--digit"),
}


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

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reads a command line; what is unknown ends the program with a suggestion."""
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}: {self._advice(unknown[0])}")
        return found

    def parse_given(self, args: Any, names: Iterable[str]) -> tuple[Any, dict[str, Any]]:
        """Reads a command line in which some flags may be left out.

        Args:
            args: The command line; None for that of the process.
            names: The flags; where one is not given, its default is not filled in.

        Returns:
            All that was read, and of these flags those that were given, with their values.
        """
        # argparse does not set what the namespace already has: None means "not given"
        found = self.parse_args(args, argparse.Namespace(**dict.fromkeys(names)))
        values = {name: getattr(found, name) for name in names}
        return found, {name: value for name, value in values.items() if value is not None}

    def _advice(self, unknown: str) -> str:
        """What the user may have meant."""
        name = unknown.split("=")[0].replace("_", "-")
        if not unknown.startswith("-"):
            return "a generator is given as --generator FILE, a data set as --data PATH"
        declared = FLAGS.get(name[2:].replace("-", "_"))
        if declared and declared.conditional:
            return "only a GAN with labels can be asked for a digit, such as cgan_mnist.py"
        known = [flag for flag in self._option_string_actions if flag.startswith("--")]
        near = _SYNONYMS.get(name) or next(iter(get_close_matches(name, known, 1)), None)
        return f"did you mean {near}?" if near in known else "--help lists what there is"

    def error(self, message: str) -> NoReturn:
        """Ends the program with status 2 and one line that says why."""
        words = (x if len(x) <= MAX_QUOTED else f"{x[:MAX_QUOTED]}..." for x in message.split())
        line = " ".join(words)
        self.exit(2, f"{self.prog}: error: {line}\n")

    @contextmanager
    def one_line_errors(self) -> Iterator[None]:
        """Turns errors that the user can fix into such a line; bugs keep their traceback."""
        import tensorflow as tf  # slow; who runs something has it loaded

        from common.device import failure

        startup.loaded()
        try:
            yield
        except UserError as error:
            self.error(str(error))
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
            of_the_gpu = failure(error)
            if of_the_gpu is None:
                raise
            self.error(of_the_gpu)
        except BrokenPipeError:
            discard_output()  # its reader, such as `head`, has ended
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
        model_name: The name of the model.
        description: The first line of `--help`.
        conditional: Whether the generator takes labels, and so --digit exists.
        prog: The name of the program, if it is not that of the model; it has no examples then.
        defaults: Of flags, by their names, where they are not those of `Options`.
    """

    def __init__(
        self,
        model_name: str,
        description: str,
        conditional: bool = False,
        prog: str | None = None,
        defaults: dict[str, Any] | None = None,
    ) -> None:
        examples = None if prog else _examples(model_name, conditional)
        super().__init__(prog or f"{model_name}.py", description, examples)
        self.model_name = model_name
        self.defaults = defaults or {}
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
        self.set_defaults(**self.defaults)

    def options(self, argv: Sequence[str] | None = None) -> Options:
        """Reads the command line; a mistake in it ends the program with status 2."""
        _, given = self.parse_given(argv, FLAGS)
        options = Options(**self.defaults | given, given=given, program=self.prog)
        try:
            check_flags(options)
        except UserError as error:
            self.error(str(error))
        return options


def command(program: str, *arguments: str) -> str:
    """A command that the user can copy: the program is started as it was started now.

    Args:
        program: The program's file, and its first arguments, if it always needs some.
        arguments: The other ones.
    """
    file, *first = program.split()
    flags = shlex.join([*first, *arguments])
    target = os.environ.get("MAKE_TARGET")  # the Makefile sets it
    if target:
        return f"make {target} ARGS={shlex.quote(flags.replace('$', '$$'))}"
    interpreter, typed = sys.orig_argv[: -len(sys.argv)], sys.orig_argv[-len(sys.argv) :]
    if typed != sys.argv or os.path.basename(typed[0]) != os.path.basename(file):
        interpreter, typed = ["python"], [file]  # as in a notebook
    return f"{shlex.join([*interpreter, typed[0]])} {flags}"


def _group_of(flag: Flag) -> str:
    """The group of a flag in --help; those for any mode stand in none."""
    if not flag.modes & ~WITH_GENERATOR:
        return "with --generator"
    return "" if SAMPLE in flag.modes else "training"


def _examples(name: str, conditional: bool) -> str:
    """The examples of --help."""
    program = f"python {name}.py"
    examples = {
        program: "train as in the chapter (hours on a CPU)",
        f"{program} --train-steps 2000": "train until digits appear",
        f"{program} --generator={name}.h5": "draw 16 digits: test_outputs/00000.png",
        f"{program} -g {name}.h5 --evaluate": "measure how good its digits are",
        f"{program} --resume": "resume a run that was stopped",
        f"{program} --data fashion/ --outdir f": "train on other images",
    }
    if conditional:
        examples[f"{program} -g {name}.h5 --digit=8"] = "draw 16 eights: test_outputs/00008.png"
    width = max(map(len, examples))
    lines = (f"  {command:{width}}  {what}" for command, what in examples.items())
    return "\n".join(["examples:", *lines])
