"""The state of a run in a file and back, and files that have been damaged."""

import errno
import os
from pathlib import Path

import keras
import numpy as np
import pytest

from common.errors import UserError
from common.runs.checkpoints import Checkpoints, TrainingState
from common.runs.history import COLUMNS
from common.training.loop import run_steps


@pytest.fixture
def new_state(gan, small_data):
    """Makes the state of a new run, as a new process would."""

    def make(seed=0, engine="train_on_batch"):
        rng = np.random.default_rng(seed)
        step = gan.step(gan.models(8), *small_data, rng, batch_size=4, engine=engine)
        noise_input = step.latent.draw(np.random.default_rng(seed), 16)
        return TrainingState(step, noise_input, {"seed": 0})

    return make


def take_steps(state, count):
    step = state.step
    run_steps(step.adversarial, step, state.history, [], len(state.history) + count, 500)


def assert_same(state, other):
    arrays, others = state.arrays(), other.arrays()
    assert arrays.keys() == others.keys()
    for name in arrays:
        if name == "history":
            # the last column is the seconds it took
            np.testing.assert_array_equal(arrays[name][:, :-1], others[name][:, :-1])
        else:
            np.testing.assert_array_equal(arrays[name], others[name], err_msg=name)


def test_everything_is_restored(new_state, tmp_path):
    """And the steps that follow are, bit for bit, those of the run that was never interrupted."""
    checkpoints = Checkpoints(tmp_path)
    state = new_state()
    take_steps(state, 3)
    checkpoints.save(state)
    take_steps(state, 4)

    resumed = new_state(seed=5)  # whose noise and generator have to be replaced
    assert not np.array_equal(resumed.noise_input[0], state.noise_input[0])
    checkpoints.restore(resumed)
    assert len(resumed.history) == 3
    take_steps(resumed, 4)
    assert_same(resumed, state)


def test_random_layers_go_on_where_they_were(gan, new_state, tmp_path, monkeypatch):
    """The networks of a reader's own may have some."""
    layer = gan.program.LeakyReLU
    monkeypatch.setattr(
        gan.program,
        "LeakyReLU",
        lambda **slope: lambda x: keras.layers.Dropout(0.3)(layer(**slope)(x)),
    )
    checkpoints = Checkpoints(tmp_path)
    state, resumed = new_state(), new_state()
    take_steps(state, 2)
    checkpoints.save(state)
    checkpoints.restore(resumed)
    for one in (state, resumed):
        take_steps(one, 2)
    assert_same(resumed, state)


@pytest.mark.slow
def test_a_run_may_change_its_engine(new_state, tmp_path):
    """What the one has saved the other goes on with, as if it had been its own."""
    checkpoints = Checkpoints(tmp_path)
    state, other = new_state(), new_state(seed=5, engine="compiled")
    take_steps(state, 3)
    checkpoints.save(state)
    checkpoints.restore(other)
    take_steps(other, 3)
    checkpoints.save(other)
    back = new_state(seed=6)
    checkpoints.restore(back)
    take_steps(back, 2)

    take_steps(state, 5)
    assert_same(back, state)


def test_the_state_is_complete(new_state):
    state = new_state()
    take_steps(state, 2)
    arrays = state.arrays()
    step = state.step
    # per trained variable a mean square, and for each optimizer its updates so far
    assert sum(name.startswith("generator/") for name in arrays) == len(step.generator.weights)
    for optimizer, trained in [
        (step.discriminator.optimizer, "discriminator_optimizer"),
        (step.adversarial.optimizer, "adversarial_optimizer"),
    ]:
        assert int(optimizer.iterations.numpy()) == 2
        assert any(np.array_equal(a, 2) for n, a in arrays.items() if n.startswith(trained))
    mean_squares = [a for n, a in arrays.items() if n.startswith("discriminator_optimizer/")]
    assert {a.shape for a in mean_squares} >= {w.shape for w in step.discriminator.weights}
    assert arrays["history"].shape == (2, len(COLUMNS))


def test_the_newest_two_are_kept(new_state, tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == 0
    state = new_state()
    names = []
    for _ in range(4):
        take_steps(state, 1)
        checkpoints.save(state)
        names.append(sorted(path.name for path in checkpoints.folder.iterdir()))
    assert names == [
        ["00001.npz"],
        ["00001.npz", "00002.npz"],
        ["00002.npz", "00003.npz"],
        ["00003.npz", "00004.npz"],
    ]
    assert checkpoints.steps() == 4


def test_without_a_checkpoint_nothing_is_restored(new_state, tmp_path):
    state, untouched = new_state(), new_state()
    Checkpoints(tmp_path).restore(state)
    assert_same(state, untouched)


def damages(content: bytes):
    """Ways in which a file gets damaged."""
    rng = np.random.default_rng(0)
    yield b""
    yield b"not an archive"
    yield content[: len(content) // 2]
    yield content[:-1]
    for position in rng.integers(0, len(content) - 10_000, size=6):  # bits that flip anywhere
        flipped = bytearray(content)
        flipped[position] ^= 1 << int(rng.integers(8))
        yield bytes(flipped)
    yield bytes(len(content))


def test_a_damaged_checkpoint_is_passed_over(new_state, tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    state = new_state()
    take_steps(state, 2)
    checkpoints.save(state)
    expected = state.arrays()
    take_steps(state, 1)
    checkpoints.save(state)
    newest = tmp_path / "00003.npz"
    resumed = new_state(seed=5)
    for damaged in damages(newest.read_bytes()):
        newest.write_bytes(damaged)
        checkpoints.restore(resumed)
        for name, array in resumed.arrays().items():
            np.testing.assert_array_equal(array, expected[name])
        err = capsys.readouterr().err
        assert err.startswith(f"warning: checkpoint {newest} is damaged (")
        assert err.endswith("): trying the one before\n")
        assert err.count("\n") == 1

    # it is not kept in place of a good one
    take_steps(resumed, 0)
    checkpoints.save(resumed)
    assert [path.name for path in checkpoints.files()] == ["00002.npz"]


def test_a_checkpoint_of_other_networks_is_no_checkpoint(new_state, gan, small_data, tmp_path):
    images = np.zeros((40, 12, 12), np.uint8)
    step = gan.step(gan.models(12), images, small_data[1], np.random.default_rng(0), 4)
    noise_input = step.latent.draw(step.rng, 16)
    Checkpoints(tmp_path).save(TrainingState(step, noise_input, {"seed": 0}))
    state, untouched = new_state(), new_state()
    expected = r"00000.npz is of other networks .*/\d: \(.*\) expected, \(.*\) found\).*--outdir"
    with pytest.raises(UserError, match=expected):
        Checkpoints(tmp_path).restore(state)
    assert_same(state, untouched)


def test_a_checkpoint_of_another_run_is_no_checkpoint(new_state, tmp_path, capsys):
    """Even if all its arrays fit."""
    Checkpoints(tmp_path).save(new_state())
    state = new_state()
    state.identity = {"seed": 1}
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read"):
        Checkpoints(tmp_path).restore(state)
    assert "is damaged (it is of another run)" in capsys.readouterr().err


def test_a_checkpoint_under_another_ones_name_is_no_checkpoint(new_state, tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    state = new_state()
    take_steps(state, 2)
    checkpoints.save(state)
    (tmp_path / "00009.npz").write_bytes((tmp_path / "00002.npz").read_bytes())
    resumed = new_state()
    checkpoints.restore(resumed)
    assert len(resumed.history) == 2
    assert "00009.npz is damaged (it is of another step)" in capsys.readouterr().err


def test_a_users_own_files_are_left_alone(new_state, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = new_state()
    mine = ["00001_backup.npz", "00001 (copy).npz", "notes.npz", "00000.npz.bak"]
    for name in mine:
        (tmp_path / name).write_text("mine")
    for _ in range(4):
        take_steps(state, 1)
        checkpoints.save(state)
    checkpoints.restore(state)
    assert len(state.history) == 4
    assert all((tmp_path / name).read_text() == "mine" for name in mine)


def test_a_checkpoint_that_cannot_be_read_just_now_is_not_called_damaged(
    new_state, tmp_path, monkeypatch
):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(new_state())

    def denied(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    state = new_state()
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"00000.npz cannot be read: Permission denied"):
        checkpoints.restore(state)


def test_weights_that_are_not_finite_are_not_saved(new_state, tmp_path):
    """The losses may still have been numbers in the step that spoilt the weights."""
    checkpoints = Checkpoints(tmp_path)
    state = new_state()
    take_steps(state, 1)
    checkpoints.save(state)
    bias = state.step.generator.weights[-1]
    bias.assign(bias * np.nan)
    take_steps(state, 1)
    with pytest.raises(UserError, match=r"diverged: after 2 steps .* holds NaN or infinity"):
        checkpoints.save(state)
    assert [path.name for path in checkpoints.files()] == ["00001.npz"]


NONSENSE = [
    ("evaluations", np.array('{"2": 5}')),
    ("evaluations", np.array("[")),
    ("history", np.array([["a"] * 5] * 3)),
    ("history", np.full((3, 5), np.nan)),
    ("history", np.ones((3, 5), complex)),
    ("rng", np.array('{"bit_generator": "PCG64"}')),
    ("rng", np.array("{}")),
]


@pytest.mark.parametrize("gan", ["dcgan"], indirect=True)
def test_a_whole_checkpoint_of_nonsense(new_state, tmp_path, capsys):
    """Its checksums are right, its content is not: the one before is used, all of it."""
    checkpoints = Checkpoints(tmp_path)
    state, resumed = new_state(), new_state(seed=5)
    for _ in range(2):
        take_steps(state, 1)
        checkpoints.save(state)
    whole = state.arrays() | {"history": np.ones((3, 5))}
    for name, content in NONSENSE:
        np.savez(tmp_path / "00003.npz", **whole | {name: content})
        take_steps(resumed, 1)  # so that there is something to restore
        checkpoints.restore(resumed)
        assert len(resumed.history) == 2
        assert_same(resumed, state)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: checkpoint {tmp_path / '00003.npz'} is damaged (")
