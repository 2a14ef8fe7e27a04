"""Runs that are cut off, in every way there is, and go on as if nothing had happened."""

import errno
import json
import os
import re
import resource
import signal
import stat
import sys
import time
from io import BytesIO
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from matplotlib import image as mpl_image
from PIL import Image

import cgan_mnist
import dcgan_mnist
from common.gan.models import compile_model
from common.gan.saving import load_generator
from common.gan.step import AlternatingStep
from common.training.train import train
from conftest import assert_same_run, give_classifier, history
from processes import run, spawn, wait_until

FLAGS = (
    *("--data=../set.npz", "--batch-size=4", "--seed=2"),
    *("--train-steps=60", "--save-interval=20", "--checkpoint-interval=6"),
)

QUICK = ("--train-steps=24", "--save-interval=12", "--log-interval=1")


def slowly(*arguments):
    """The DCGAN's program with steps that take a while, so that a signal meets it in a step."""
    # ignored by what nohup has started
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    take = AlternatingStep.__call__
    AlternatingStep.__call__ = lambda self, count: time.sleep(0.1) or take(self, count)
    dcgan_mnist.main(arguments)


@pytest.fixture(scope="module")
def uninterrupted(data, small_data):
    """The folder of a program's run that nothing happened to."""
    done = {}

    def of(name, *flags):
        if (name, flags) not in done:
            done[name, flags] = data.parent / f"{name}-{len(done)}"
            if any("--evaluate-interval" in flag for flag in flags):
                give_classifier(done[name, flags], *small_data)
            status, out, err = run(done[name, flags], name, *FLAGS, *flags)
            assert (status, without_the_warning(err)) == (0, "")
            assert re.match(r"(best )?generator: ", out.splitlines()[-1])
        return done[name, flags]

    return of


def wait_for_half_a_file(process, folder: Path) -> None:
    """Until one is being written, or, if the machine is too busy to see one, until the end."""
    process.wait_for_line("")
    while not any(folder.glob(".*.partial")) and process.returncode is None:
        pass


def kill_and_resume(expected, name, flags, moments):
    """Kills a run at some moments and resumes it each time; the end is as expected."""
    folder = expected.parent / f"{expected.name}-killed"
    folder.mkdir()
    for file in expected.glob("classifier-*.npz"):
        (folder / file.name).write_bytes(file.read_bytes())
    start = flags
    for moment in moments:
        process = spawn(folder, name, *start, "--log-interval=1")
        if moment == "half":
            wait_for_half_a_file(process, folder / name / "checkpoints")
        elif moment == "generator":
            wait_for_half_a_file(process, folder)
        else:
            process.wait_for_line(moment)
        process.close()
        # before the first step there is no run, and the command is simply given again
        start = ("--resume",) if (folder / name / "config.json").exists() else flags
    status, _, err = run(folder, name, *start, "--log-interval=1")
    assert (status, without_the_warning(err)) == (0, "")
    assert_same_run(folder, expected, name)


def without_the_warning(errors):
    """That nothing learns to read random images."""
    return re.sub(r"warning: the classifier reads only .*\n", "", errors)


EVALUATED = ("--evaluate-interval=15", "--log-interval=1")


@pytest.mark.parametrize(
    ("name", "flags", "moments"),
    [
        ("cgan_mnist", QUICK, ["9: ", "half"]),
        *(
            pytest.param(name, EVALUATED, moments, marks=pytest.mark.slow)
            for name, moments in (
                # between an evaluation and the checkpoint that holds it, after 18 steps
                ("dcgan_mnist", ["Model", "after 15 steps", "half", "33: "]),
                ("cgan_mnist", ["20: ", "half", "generator"]),
            )
        ),
    ],
)
def test_kill_9(uninterrupted, name, flags, moments):
    """Before the first step, in the middle of one, and while a file is written.

    With evaluations, which are made again; the best generator remains.
    """
    expected = uninterrupted(name, *flags)
    assert (expected / name / "best.h5").exists() == (flags == EVALUATED)
    kill_and_resume(expected, name, (*FLAGS, *flags), moments)


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_signal(uninterrupted, number):
    """It ends a run in good order, and the resumed run ends as if nothing had happened."""
    expected = uninterrupted("dcgan_mnist", *QUICK)
    folder = expected.parent / f"signal-{number}"
    assert 4 <= stopped_by(folder, (*FLAGS, *QUICK), "3: ", number) < 24
    assert run(folder, "dcgan_mnist", "--resume")[::2] == (0, "")
    assert_same_run(folder, expected, "dcgan_mnist")


def stopped_by(folder, flags, moment, number):
    """The steps after which a signal has stopped a run."""
    process = spawn(folder, slowly, *flags, "--log-interval=1")
    process.wait_for_line(moment)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == 128 + number
    steps = int((out.splitlines() or [moment])[-1].split(":")[0]) + 1
    assert err == (
        f"stopped after {steps} steps; checkpoint in dcgan_mnist/checkpoints, "
        "generator in dcgan_mnist.h5; resume with: "
        "python dcgan_mnist.py --resume --data=../set.npz --log-interval=1\n"
    )
    assert (folder / "dcgan_mnist" / "checkpoints" / f"{steps:05d}.npz").exists()
    assert (folder / "dcgan_mnist.h5").exists()
    assert len(history(folder, "dcgan_mnist")) == 1 + steps
    return steps


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once(uninterrupted):
    expected = uninterrupted("dcgan_mnist", *QUICK)
    folder = expected.parent / "signalled"
    process = spawn(folder, slowly, *FLAGS, *QUICK)
    process.wait_for_line("8: ")
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode in (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT)
    assert "Traceback" not in err
    assert run(folder, "dcgan_mnist", "--resume")[::2] == (0, "")
    assert_same_run(folder, expected, "dcgan_mnist")


def test_a_finished_run_may_grow(uninterrupted):
    expected = uninterrupted("dcgan_mnist", *QUICK)
    folder = expected.parent / "grown"
    for flags in ((*FLAGS, *QUICK, "--train-steps=12"), ("--resume", "--train-steps=24")):
        assert run(folder, "dcgan_mnist", *flags)[::2] == (0, "")
    assert_same_run(folder, expected, "dcgan_mnist")


@pytest.fixture
def run_here(tmp_path, data, capsys):
    """Runs the DCGAN's program in this process; gives exit status and what it says."""

    def run(*flags):
        status = 0
        keras.utils.clear_session()  # so that layers get the names they have in a new process
        try:
            dcgan_mnist.main([f"--outdir={tmp_path / 'runs'}", *flags])
        except SystemExit as stopped:
            status = stopped.code
        out, err = capsys.readouterr()
        return status, out, err

    run.folder = tmp_path / "runs"
    run.flags = (f"--data={data}", "--batch-size=4", "--seed=2")
    return run


def test_a_finished_run_says_so(run_here):
    assert run_here(*run_here.flags, "--train-steps=2")[0] == 0
    status, out, err = run_here("--resume")
    assert (status, err) == (0, "")
    folder = run_here.folder / "dcgan_mnist"
    assert f"{folder}: all 2 steps have been taken already; to take more, add --train-steps" in out


def with_callbacks(patch, *callbacks):
    """Gives the program callbacks of its own."""
    patch.setattr(dcgan_mnist, "train", lambda *args: train(*args, callbacks=callbacks))


class Enough(keras.callbacks.Callback):
    """Ends the run after two steps."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == 1


def test_a_callback_ends_a_run_in_good_order(run_here, monkeypatch):
    with monkeypatch.context() as patch:
        with_callbacks(patch, Enough())
        status, _, err = run_here(*run_here.flags, "--train-steps=6")
    assert status == 0
    assert "stopped after 2 steps" in err
    status, out, _ = run_here("--resume")
    assert status == 0
    assert "resumed after 2 steps" in out


class Look(keras.callbacks.Callback):
    """Reads a generator's file after each step, as somebody does who draws meanwhile."""

    def __init__(self, file):
        super().__init__()
        self.file, self.seen = file, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(last_bias_in(self.file) if self.file.exists() else None)


def last_bias_in(file):
    return load_generator(file, dcgan_mnist.new_generator).get_weights()[-1].item()


def test_the_generators_file_is_written_at_each_save_interval(run_here, monkeypatch):
    file = run_here.folder / "dcgan_mnist.h5"
    look = Look(file)
    with_callbacks(monkeypatch, look)
    assert run_here(*run_here.flags, "--train-steps=7", "--save-interval=3")[0] == 0
    nothing, after_3, after_6 = look.seen[:3], look.seen[3:6], look.seen[6:]
    assert nothing == [None] * 3
    assert after_3 == after_3[:1] * 3
    assert len({after_3[0], after_6[0], last_bias_in(file)}) == 3


def test_ctrl_c_before_the_first_step(run_here, monkeypatch):
    """As while a classifier is trained: it ends the program at once, and the earlier run stays."""
    assert run_here(*run_here.flags, "--train-steps=2")[0] == 0
    before = {path: path.read_bytes() for path in run_here.folder.rglob("*") if path.is_file()}
    module = sys.modules[train.__module__]  # the package has a function of that name
    monkeypatch.setattr(module, "make_evaluator", lambda *_: signal.raise_signal(signal.SIGINT))
    # which is ignored where the tests run in the background of a script
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status, _, err = run_here(*run_here.flags, "--overwrite", "--evaluate-interval=2")
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (status, err) == (130, "dcgan_mnist.py: interrupted\n")
    after = {path: path.read_bytes() for path in run_here.folder.rglob("*") if path.is_file()}
    assert after == before


def assert_whole(folder: Path) -> None:
    """Every file can be read to its end, and none is half-written."""
    readers = {
        ".npz": lambda file: [*np.load(file).values()],
        ".png": mpl_image.imread,
        ".gif": lambda file: Image.open(BytesIO(file.read_bytes())).load(),
        ".json": lambda file: json.loads(file.read_text()),
        ".csv": lambda file: np.genfromtxt(file, delimiter=","),  # all lines of one length
        ".h5": lambda file: h5py.File(file)["model_weights"].visititems(lambda *_: None),
    }
    for file in (path for path in folder.rglob("*") if path.is_file() and path.name != "lock"):
        readers[file.suffix](file)


@pytest.mark.slow
def test_a_full_disk_at_each_write_in_turn(run_here, monkeypatch, tmp_path):
    """The kernel's "No space left on device" is put in when a file is written to its end."""
    flags = (*run_here.flags, "--train-steps=4", "--save-interval=2")
    real_fsync = os.fsync
    for failing in range(100):
        writes = iter(range(1000))

        def fsync(descriptor, writes=writes, failing=failing):
            if stat.S_ISREG(os.fstat(descriptor).st_mode) and next(writes) == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real_fsync(descriptor)

        run_here.folder.mkdir(exist_ok=True)
        monkeypatch.setattr(os, "fsync", fsync)
        began = (run_here.folder / "dcgan_mnist" / "config.json").exists()
        status, _, err = run_here(*(["--resume"] if began else flags))
        if status == 0:
            break
        assert status == 2
        assert "No space left on device" in err
        assert err.count("\n") == 1
        assert_whole(run_here.folder)
    assert failing >= 3
    monkeypatch.setattr(os, "fsync", real_fsync)
    assert_whole(run_here.folder)

    other = tmp_path / "other"
    assert run_here(*flags, f"--outdir={other}")[0] == 0
    assert_same_run(run_here.folder, other, "dcgan_mnist")


def limited(size, *arguments):
    """The DCGAN's program where files cannot be larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    dcgan_mnist.main(arguments)


def test_a_reader_that_ends(uninterrupted):
    """As `tee` does at Ctrl-C, which the run gets as well: it ends in good order."""
    expected = uninterrupted("dcgan_mnist", *QUICK)
    folder = expected.parent / "unread"
    process = spawn(folder, slowly, *FLAGS, *QUICK)
    process.wait_for_line("3: ")
    process.stdout.close()
    wait_until(lambda: any((folder / "dcgan_mnist" / "checkpoints").glob("*.npz")))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    told = re.fullmatch(r"stopped after (\d+) steps; checkpoint in .*\n", err)
    assert (folder / "dcgan_mnist" / "checkpoints" / f"{int(told[1]):05d}.npz").exists()
    assert 4 <= len(history(folder, "dcgan_mnist")) - 1 == int(told[1]) < 24
    assert run(folder, "dcgan_mnist", "--resume")[::2] == (0, "")
    assert_same_run(folder, expected, "dcgan_mnist")


@pytest.mark.parametrize(
    ("flag", "file"),
    [
        ("--checkpoint-interval=6", "dcgan_mnist/checkpoints/00006.npz"),
        ("--save-interval=2", "dcgan_mnist.h5"),
    ],
)
def test_a_file_that_cannot_grow(uninterrupted, flag, file):
    """A limit on the size of files makes the kernel itself fail a write in the middle."""
    folder = uninterrupted("dcgan_mnist", *QUICK).parent / f"limited{flag}"
    folder.mkdir()
    (folder / "dcgan_mnist.h5").write_text("that of an earlier run")
    flags = (*FLAGS, "--checkpoint-interval=60", "--overwrite", flag)
    status, _, err = run(folder, limited, 10**6, *flags)
    assert status == 2
    assert err == f"dcgan_mnist.py: error: cannot write {file}: File too large\n"
    assert (folder / "dcgan_mnist.h5").read_text() == "that of an earlier run"
    files = {file.name for file in folder.rglob("*") if file.is_file()}
    assert files - {"00002.png"} == {"config.json", "lock", "dcgan_mnist.h5"}


@pytest.mark.parametrize(
    ("program", "saves"),
    [(dcgan_mnist, "--checkpoint-interval=1"), (cgan_mnist, "--save-interval=1")],
)
def test_divergence(program, saves, monkeypatch, tmp_path, data, capsys):
    """The learning rate becomes one at which no GAN can last."""
    name = program.PROGRAM.name
    flags = [f"--data={data}", f"--outdir={tmp_path}", "--no-show"]
    program.main([*flags, "--batch-size=4", "--seed=0", "--train-steps=2"])
    kept = {path: path.read_bytes() for path in (tmp_path / name / "checkpoints").iterdir()}
    generator = (tmp_path / f"{name}.h5").read_bytes()

    monkeypatch.setattr(
        program, "compile_model", lambda model, lr, decay: compile_model(model, 1e30, decay)
    )
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        program.main([*flags, saves, "--resume", "--train-steps=50"])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert f"{name}.py: error: training has diverged: " in err
    assert re.search(r"in step \d+|after \d+ steps", err)
    assert err.count("\n") == 1
    assert (tmp_path / f"{name}.h5").read_bytes() == generator
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_overwriting_waits_for_the_first_step(run_here, monkeypatch):
    """A new run that cannot take one leaves the old one as it is."""
    flags = (*run_here.flags, "--train-steps=2")
    assert run_here(*flags)[0] == 0
    before = {path: path.read_bytes() for path in run_here.folder.rglob("*") if path.is_file()}
    bad = np.full((40, 8, 8), np.nan)
    monkeypatch.setattr("common.gan.batches.RealImages.take", lambda self, i: [bad[i, ..., None]])
    status, _, err = run_here(*flags, "--overwrite", "--seed=9", "--checkpoint-interval=1")
    assert status == 2
    assert "training has diverged" in err
    after = {path: path.read_bytes() for path in run_here.folder.rglob("*") if path.is_file()}
    assert after == before
