"""Programs in processes of their own, started fast.

Importing TensorFlow takes seconds. A server process imports the programs once and then forks: a
fork that has not run an operation yet behaves like a new process. Every process that a test starts
is ended when the test ends, also when it fails.
"""

from __future__ import annotations

import importlib
import io
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from conftest import ENVIRONMENT, ROOT

# Only to end a hang.
HANG_SECONDS = 900

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["conftest", "common.training.distribution"])
_running: set[Process] = set()


def without_tensorflows(errors: str) -> str:
    """Without a line of TensorFlow 2.18's, of an optimization that it leaves out."""
    return re.sub(r"(WARNING: All log.*\n)?E0000 .*remapper failed.*\n", "", errors)


def _child(target: Callable, args: tuple, folder: str, environment: dict, files: list[str]) -> None:
    """Becomes the process: its streams, its folder, its environment; then calls the target."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, file in enumerate(files):
        opened = os.open(file, (os.O_RDONLY if descriptor == 0 else os.O_WRONLY) | os.O_NOCTTY)
        os.dup2(opened, descriptor)
        os.close(opened)
    streams = [open(i, "r" if i == 0 else "w", closefd=False) for i in range(3)]  # noqa: SIM115
    streams[2].reconfigure(errors="backslashreplace")  # as Python's own
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams
    # as in a terminal, also where these tests run in the background of a script, which ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    target(*args)


def _main(program: str, arguments: list[str]) -> None:
    sys.argv = [str(ROOT / f"{program}.py"), *arguments]
    importlib.import_module(program).main(arguments)


class Process:
    """A running process, with the part of the interface of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        target: Callable,
        args: tuple,
        folder: Path,
        environment: dict[str, str] | None = None,
        terminal: str | None = None,
        errors_too: bool = True,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory()
        out, self._errors = (Path(self._scratch.name, name) for name in ("out", "err"))
        os.mkfifo(out)
        self._errors.touch()
        files = [os.devnull, str(out), str(self._errors)]
        if terminal:
            files[1:] = [terminal, terminal if errors_too else os.devnull]
        self._process = _context.Process(
            target=_child,
            args=(target, args, str(folder), ENVIRONMENT | (environment or {}), files),
        )
        self._process.start()
        _running.add(self)
        self.stdout: IO[str] = io.StringIO() if terminal else out.open()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def wait(self) -> int:
        self._process.join(HANG_SECONDS)
        assert self.returncode is not None, "it hangs"
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """Waits for the end; what it has written since it was last read from, and all errors."""
        out = "" if self.stdout.closed else self.stdout.read()
        self.wait()
        errors = without_tensorflows(self._errors.read_text())
        self.close()
        return out, errors

    def wait_for_line(self, start: str) -> None:
        """Waits until it has written a line that starts so."""
        for line in self.stdout:
            if line.startswith(start):
                return
        raise AssertionError(self._errors.read_text())

    def close(self) -> None:
        """Kills it, if it has not ended."""
        self._process.kill()
        self._process.join()
        self.stdout.close()
        self._scratch.cleanup()
        _running.discard(self)


def spawn(
    folder: Path,
    program: str | Callable,
    *arguments: object,
    environment: dict[str, str] | None = None,
    **terminal: object,
) -> Process:
    """Starts a program, or calls a function, in a process and a folder of its own.

    Args:
        folder: The folder; it is created.
        program: The name of a program; or a function of this test module.
        arguments: The command line, or the arguments of the function.
        environment: Variables beside those of a user.
        terminal: `terminal` and `errors_too`, as for `Process`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if callable(program):
        return Process(program, arguments, folder, environment, **terminal)
    return Process(_main, (program, list(map(str, arguments))), folder, environment, **terminal)


def run(folder: Path, program: str | Callable, *arguments: object, **more: object) -> tuple:
    """The same to its end: `(status, output, errors)`."""
    process = spawn(folder, program, *arguments, **more)
    out, err = process.communicate()
    return process.returncode, out, err


def end_all() -> None:
    """Ends all that are still running."""
    for process in list(_running):
        process.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; fails only if it seems that it never will."""
    end = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < end, "it hangs"
        time.sleep(0.005)
