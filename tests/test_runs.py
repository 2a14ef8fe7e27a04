"""Which run a folder holds, and who may have it."""

import json
import re
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest
import tensorflow as tf

import dcgan_mnist
from common import device
from common.data import MNIST
from common.errors import UserError
from common.runs.folder import RunFolder
from common.runs.workers import Workers
from common.training.start import start_run
from conftest import contents
from processes import HANG_SECONDS, spawn


def started_run(options):
    return start_run(RunFolder(options.outdir / "dcgan_mnist"), Workers(), options)


@pytest.fixture
def start(tmp_path, small_data):
    """Opens a run on small data with the flags given; what is opened is closed in the end."""
    np.savez(tmp_path / "set.npz", x_train=small_data[0], y_train=small_data[1])
    with ExitStack() as opened:

        def open_run(*flags, data="set.npz"):
            opened.close()  # the run before
            data_flags = [f"--data={tmp_path / data}"] if data else []
            flags = [f"--outdir={tmp_path / 'runs'}", *data_flags, *flags]
            options = dcgan_mnist.PROGRAM.options(flags)
            return opened.enter_context(started_run(options))

        yield open_run


@pytest.fixture
def started(start, tmp_path):
    """The folder of a run that has reached step 7."""
    run = start("--seed=3", "--batch-size=8", "--train-steps=20")
    run.begin()
    folder = tmp_path / "runs" / "dcgan_mnist"
    (folder / "checkpoints").mkdir()
    products = ("best.h5", "00005.png", "losses.png")
    figures = ("evolution.png", "evolution.gif")
    events = "events.out.tfevents.1.vm"
    for name in ("checkpoints/00007.npz", "history.csv", events, *products, *figures):
        (folder / name).write_text(name)
    return folder


def test_the_folder_explains_itself(start, tmp_path):
    start("--seed=3", "--batch-size=8").begin()
    config = json.loads((tmp_path / "runs" / "dcgan_mnist" / "config.json").read_text())
    assert config["flags"] == {
        "train_steps": 40000,
        "batch_size": 8,
        "save_interval": 500,
        "checkpoint_interval": None,
        "evaluate_interval": 0,
        "data": str(tmp_path / "set.npz"),
        "image_size": None,
        "engine": "train_on_batch",
        "precision": "float32",
        "xla": False,
        "sync_batchnorm": False,
        "tensorboard": False,
        "seed": 3,
    }
    flags = [f"--outdir={tmp_path / 'runs'}", f"--data={tmp_path / 'set.npz'}"]
    assert config["command"] == [*flags, "--seed=3", "--batch-size=8"]
    assert config["versions"].keys() >= {"python", "tensorflow", "keras", "numpy"}
    assert config["versions"]["python"] == sys.version.split()[0]
    assert config["device"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    assert config["git_commit"] == (head.stdout.strip() or None)


def test_a_run_that_has_moved(start, tmp_path, capsys, monkeypatch):
    """To other data, and to another machine: its numbers may differ there."""
    start("--seed=3").begin()
    capsys.readouterr()
    start("--resume")
    assert "numbers may differ" not in capsys.readouterr().out
    monkeypatch.setattr(device, "_cpu", lambda: ("Z80", set()))
    start("--resume")
    out = capsys.readouterr().out
    assert re.search(r"was started on CPU: .* cores \(now CPU: Z80, \d+ cores\): numbers may", out)
    (tmp_path / "set.npz").rename(tmp_path / "moved.npz")
    with pytest.raises(UserError, match=r"set.npz, with which the run in .* give --data and the"):
        start("--resume", data=None)
    with pytest.raises(UserError, match=r"nowhere.npz does not exist: give an"):
        start("--resume", data="nowhere.npz")
    start("--resume", data="moved.npz")


def test_the_projects_own_data_is_found_where_the_project_is(start):
    """Whatever its folder was called when the run began: config.json can go along with it."""
    run = start("--seed=3", data=None)
    run.begin()
    config = json.loads(run.folder.config.read_text())
    assert config["flags"]["data"] == "data/mnist.npz"
    assert start("--resume", data=None).options.data == MNIST


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU is another matter")
@pytest.mark.parametrize(
    ("cpu_info", "flags"),
    [
        ("flags : fpu avx512_bf16", "--engine compiled --precision bfloat16"),
        ("flags : fpu avx2", "--engine compiled"),
    ],
)
def test_a_faster_way_is_named(start, tmp_path, capsys, monkeypatch, cpu_info, flags):
    """But not to a user who has chosen."""
    (tmp_path / "cpuinfo").write_text(cpu_info)
    monkeypatch.setattr(device, "_CPU_INFO", tmp_path / "cpuinfo")
    start("--seed=1").begin()
    assert f"\n{flags} takes about " in capsys.readouterr().out
    for chosen in ("--resume", "--overwrite --engine=train_on_batch"):
        start(*chosen.split())
        assert "takes about" not in capsys.readouterr().out


def test_a_run_is_not_overwritten_by_accident(start, started):
    before = contents(started)
    with pytest.raises(UserError) as caught:
        start("--seed=3", "--batch-size=8", "--train-steps=20")
    assert str(caught.value) == (
        f"{started} holds a run that has reached step 7: "
        "add --resume to continue it, --overwrite to delete it and start afresh, or another "
        "--outdir to keep it"
    )
    assert contents(started) == before


@pytest.mark.parametrize("file", ["dcgan_mnist.h5", "dcgan_mnist/00500.png"])
def test_files_from_elsewhere_are_not_overwritten_by_accident(start, tmp_path, file):
    """Those of the chapter's own program, for example, which leaves nothing else in the folder."""
    precious = tmp_path / "runs" / file
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    with pytest.raises(UserError, match=f"{precious.name} is there already: move it away"):
        start()
    assert precious.read_text() == "precious"
    start("--overwrite").begin()
    # the generator is kept until there is a new one
    assert precious.exists() == (file == "dcgan_mnist.h5")


def test_overwrite_starts_afresh(start, started):
    mine = {"notes.txt", "2024-holiday.png", "checkpoints/00007_backup.npz"}
    for name in mine:
        (started / name).write_text("mine")
    run = start("--overwrite", "--seed=4")
    assert (started / "00005.png").exists()  # nothing is lost while the run may still not begin
    run.begin()
    assert contents(started).keys() == {"config.json", "lock", *mine}
    assert json.loads((started / "config.json").read_text())["flags"]["seed"] == 4


def test_resume_takes_what_is_not_given_from_the_run(start, started, tmp_path):
    run = start("--resume", "--save-interval=3", data=None)
    assert run.options.seed == 3
    assert run.options.batch_size == 8
    assert run.options.train_steps == 20
    assert run.options.save_interval == 3
    assert run.options.data == tmp_path / "set.npz"
    before = contents(started)
    run.begin()
    after = contents(started)
    config = json.loads(after.pop("config.json"))
    config_before = json.loads(before.pop("config.json"))
    assert config["flags"] == config_before["flags"] | {"save_interval": 3}
    assert config["earlier"] == [
        {name: config_before[name] for name in ("versions", "device", "git_commit")}
    ]
    assert after == before


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--batch-size=9", "argument --batch-size: 9 given, the run in .* was started with 8: "),
        ("--precision=bfloat16", "argument --precision: bfloat16 given, .* started with float32: "),
        ("--seed=9", "argument --seed: 9 given, the run in .* was started with 3: "),
        ("--train-steps=7", "--train-steps: 7 given, the run in .* already taken 7: give more"),
    ],
)
def test_another_run_is_not_a_resumed_one(start, started, flag, complaint):
    before = contents(started)
    with pytest.raises(UserError, match=complaint):
        start("--resume", flag)
    assert contents(started) == before


def test_other_data_is_refused(start, started, small_data, tmp_path):
    np.savez(tmp_path / "other.npz", x_train=small_data[0] + 1, y_train=small_data[1])
    with pytest.raises(UserError, match=r"argument --data: .*other.npz is not what the run"):
        start("--resume", data="other.npz")


def test_there_must_be_a_run_to_resume(start):
    with pytest.raises(UserError, match="holds no run to resume: leave out --resume"):
        start("--resume")


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("config.json", "{", "config.json cannot be read .*--overwrite"),
        ("config.json", '{"flags": {}}', "config.json cannot be read .*--overwrite"),
        ("checkpoints/00007.npz", None, "holds no checkpoint any more, .*or give --overwrite"),
    ],
)
def test_a_run_of_which_a_file_is_missing_or_damaged(start, started, file, content, complaint):
    (started / file).unlink()
    if content is not None:
        (started / file).write_text(content)
    with pytest.raises(UserError, match=complaint):
        start("--resume")


def test_what_a_killed_process_left_half_written_is_removed(start, started):
    before = contents(started)
    for name in (".config.json.partial", ".00007.png.partial", "checkpoints/.00007.npz.partial"):
        (started / name).write_text("half")
    (started / "notes.partial").write_text("mine")
    (started / ".g.keras.partial").mkdir()  # of an export
    start("--resume")
    assert contents(started) == before | {"notes.partial": b"mine"}


def train_until_killed(*flags):
    with started_run(dcgan_mnist.PROGRAM.options(flags)):
        print("locked", flush=True)
        time.sleep(HANG_SECONDS)


def test_a_second_run_in_the_same_folder_is_refused(start, tmp_path):
    """By a lock that a process takes with it, however it ends."""
    flags = [f"--outdir={tmp_path / 'runs'}", f"--data={tmp_path / 'set.npz'}"]
    other = spawn(tmp_path, train_until_killed, *flags)
    other.wait_for_line("locked")
    for flags in ([], ["--overwrite"], ["--resume"]):
        with pytest.raises(UserError, match=r"another process is training in .*--outdir"):
            start(*flags)
    other.close()
    start()
