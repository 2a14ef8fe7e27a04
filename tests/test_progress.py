"""Progress: on a real pseudo-terminal, and in a file."""

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import termios

import keras
import numpy as np
import pyte
import pytest
from rich.console import Console

from common.runs.history import StepRecord, read_history
from common.training.callbacks.progress import LogLine, ProgressBar
from common.training.loop import run_steps
from processes import run, spawn, without_tensorflows

LINES, COLUMNS = 300, 120
LINE = re.compile(r"(\d+): \[discriminator loss: [\d.]+, acc: [\d.]+\] \[adversarial loss: .*\]")


def log_lines(capsys, log_line, steps):
    names = ["discriminator_loss", "discriminator_acc", "adversarial_loss", "adversarial_acc"]
    log_line.set_params({"steps": 500, "train_steps": 40000})
    log_line.on_epoch_begin(79)
    for batch, values in steps.items():
        log_line.on_train_batch_begin(batch)
        log_line.on_train_batch_end(batch, dict(zip(names, values, strict=True)))
    return capsys.readouterr().out


def test_the_chapters_log_line(capsys):
    """The chapter prints these very lines."""
    figures = {
        497: (0.423329, 0.796875, 0.819355, 0.484375),
        498: (0.471747, 0.773438, 1.570030, 0.203125),
        499: (0.532917, 0.742188, 0.824350, 0.453125),
    }
    assert log_lines(capsys, LogLine(1), figures) == (
        "39997: [discriminator loss: 0.423329, acc: 0.796875]"
        " [adversarial loss: 0.819355, acc: 0.484375]\n"
        "39998: [discriminator loss: 0.471747, acc: 0.773438]"
        " [adversarial loss: 1.570030, acc: 0.203125]\n"
        "39999: [discriminator loss: 0.532917, acc: 0.742188]"
        " [adversarial loss: 0.824350, acc: 0.453125]\n"
    )


@pytest.mark.parametrize(
    ("already", "interval", "expected"),
    [
        (0, 3, [0, 2, 5, 6]),  # the first, every third, and the last one
        (4, 3, [5, 6]),  # a resumed run tells of the same steps
        (0, 100, [0, 6]),
    ],
)
def test_a_line_at_each_interval(capsys, already, interval, expected):
    model = keras.Sequential([keras.Input((1,))])
    history = [StepRecord(*[0.0] * 5)] * already
    run_steps(model, lambda count: np.zeros((count, 4)), history, [LogLine(interval)], 7, 2)
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split(":")[0]) for line in lines] == expected


def flags(data, *more):
    return [
        *(f"--data={data}", "--train-steps=60", "--batch-size=4", "--seed=2", "--save-interval=25"),
        *("--engine=compiled", *more),
    ]


def open_terminal():
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    return master, slave


def on_a_terminal(folder, arguments, term="xterm", errors_too=True):
    """What the CGAN's program writes to a terminal, and what can be read there at the end."""
    master, slave = open_terminal()
    process = spawn(
        folder,
        "cgan_mnist",
        *arguments,
        environment={"TERM": term},
        terminal=os.ttyname(slave),
        errors_too=errors_too,
    )
    written = b""
    while process.returncode is None or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.1)[0]:
            written += os.read(master, 65536)
    os.close(slave)
    os.close(master)
    text = without_tensorflows(written.decode())
    assert process.wait() == 0, text
    return text, on_a_screen(text.encode(), COLUMNS)


def on_a_screen(written, columns):
    """The lines that can be read on a terminal."""
    screen = pyte.Screen(columns, LINES)
    pyte.ByteStream(screen).feed(written)
    return [line.rstrip() for line in screen.display if line.strip()]


def until_the_end(screen):
    """The lines before the last message, which names the generator."""
    (last,) = [i for i, line in enumerate(screen) if line.startswith("generator: cgan_mnist.h5, ")]
    assert " ".join(screen[last:]).endswith("cgan_mnist.py --generator=cgan_mnist.h5")
    return screen[:last]


def test_a_bar_on_a_terminal(data, tmp_path):
    written, screen = on_a_terminal(tmp_path, flags(data))
    assert not LINE.search(written)  # no log line beside it
    *above, bar = until_the_end(screen)
    # a single one, drawn over and over, and in front of it what was there is still whole
    assert sum("ms/step" in line for line in screen) == 1
    assert above[-1] == "cgan_mnist Labels for generated images:  [0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5]"
    assert re.fullmatch(
        r"cgan_mnist +━+ +60/60 +\d+ ms/step, 0:00:00 left, "
        r"D \d\.\d{3} \d+% A \d+\.\d{3} \d+%",
        bar,
    )
    assert re.search(r"[ m][1-5]?\d/60.*?, 0:\d\d:\d\d left", written)
    with (tmp_path / "cgan_mnist" / "history.csv").open() as file:
        table = np.genfromtxt(file, delimiter=",", names=True)
    # the mean over the whole of this short run
    shown = re.search(r"D (\S+) (\S+)% A (\S+) (\S+)%", bar).groups()
    columns = ["discriminator_loss", "discriminator_acc", "adversarial_loss", "adversarial_acc"]
    means = [
        table[column].mean() * scale
        for column, scale in zip(columns, (1, 100, 1, 100), strict=True)
    ]
    np.testing.assert_allclose([float(figure) for figure in shown], means, atol=0.51, rtol=0)
    np.testing.assert_allclose(float(shown[0]), means[0], atol=0.00051)


@pytest.mark.parametrize(
    ("width", "metrics"),
    [
        (80, "215 ms/step, 1:11:40 left, D 0.556 73% A 1.062 29%"),
        (78, "215 ms/step, 1:11:40 left, D 0.556 A 1.062"),
        (60, "215 ms/step, 1:11:40 left"),
        (40, ""),
    ],
)
def test_what_fits_on_the_line(width, metrics):
    """The step always; of the chapter's 40,000 steps everything on 80 columns."""
    history = [StepRecord(0.556, 0.73, 1.062, 0.29, 0.215)] * 19999
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=width)
    with ProgressBar("cgan_mnist", 40000, history, console):
        pass
    (line,) = on_a_screen(written.getvalue().encode(), width)
    assert re.fullmatch(f"cgan_mnist ━*[╸╺]?━* *19999/40000 ?{metrics}", line)


@pytest.mark.slow
def test_lines_above_the_bar_where_asked_for(data, tmp_path):
    _, screen = on_a_terminal(tmp_path, flags(data, "--log-interval=20"))
    lines = [LINE.fullmatch(line) for line in screen]
    assert [line[1] for line in lines if line] == ["0", "19", "39", "59"]
    assert "60/60" in until_the_end(screen)[-1]
    assert sum("ms/step" in line for line in screen) == 1


def test_lines_in_a_file(data, tmp_path):
    status, text, err = run(tmp_path, "cgan_mnist", *flags(data, "--log-interval=25"))
    assert (status, err) == (0, "")
    assert not set("\x1b\r") & set(text)
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    assert [line[1] for line in lines if line] == ["0", "24", "49", "59"]


def test_quiet(data, tmp_path):
    """On a terminal, and into a file."""
    written, _ = on_a_terminal(tmp_path, flags(data, "--quiet"))
    assert written == ""
    assert run(tmp_path, "cgan_mnist", *flags(data, "--quiet", "--overwrite")) == (0, "", "")
    assert (tmp_path / "cgan_mnist.h5").exists()
    assert (tmp_path / "cgan_mnist" / "evolution.gif").exists()


def test_a_terminal_that_is_closed(data, tmp_path):
    """A signal ends the run in good order all the same."""
    master, slave = open_terminal()
    endless = flags(data, "--train-steps=1000000")
    # multiprocessing, which tests use, would fail itself if it could not write errors
    terminal = {"terminal": os.ttyname(slave), "errors_too": False}
    process = spawn(tmp_path, "cgan_mnist", *endless, environment={"TERM": "xterm"}, **terminal)
    written = b""
    while b"ms/step" not in written:
        assert process.returncode is None, written.decode()
        if select.select([master], [], [], 0.1)[0]:
            written += os.read(master, 65536)
    os.close(slave)
    os.close(master)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    steps = len(read_history(tmp_path / "cgan_mnist" / "history.csv"))
    assert (tmp_path / "cgan_mnist" / "checkpoints" / f"{steps:05d}.npz").exists()
    assert (tmp_path / "cgan_mnist.h5").exists()
