"""The state of a run in a file and back, and files that have been damaged."""

import keras
import numpy as np
import pytest

from common.errors import UserError
from common.runs.checkpoints import Checkpoints, TrainingState
from common.training.loop import run_steps


@pytest.fixture
def new_state(gan, small_data):
    """Makes the state of a new run, as a new process would."""

    def make(seed=0, engine="train_on_batch"):
        rng = np.random.default_rng(seed)
        step = gan.step(gan.models(8), *small_data, rng, batch_size=4, engine=engine)
        noise_input = step.latent.draw(np.random.default_rng(seed), 16)
        return TrainingState(step, noise_input)

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
    resumed.restore(checkpoints.newest())
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
    resumed.restore(checkpoints.newest())
    for one in (state, resumed):
        take_steps(one, 2)
    assert_same(resumed, state)


def test_the_newest_two_are_kept(new_state, tmp_path):
    """And a user's own files beside them."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == 0
    assert checkpoints.newest() == {}
    state = new_state()
    mine = ["00001 (copy).npz", "00001_backup.npz", "notes.npz"]
    for count in range(1, 5):
        take_steps(state, 1)
        checkpoints.save(state)
        for name in mine:
            (checkpoints.folder / name).touch()
        newest = [f"{i:05d}.npz" for i in (count - 1, count) if i]
        assert {path.name for path in checkpoints.folder.iterdir()} == {*newest, *mine}
    assert checkpoints.steps() == 4
    state.restore(checkpoints.newest())
    assert len(state.history) == 4


def damages(content: bytes):
    """Ways in which a file gets damaged."""
    yield b""
    yield content[: len(content) // 2]  # as on a full disk
    yield content[:-1]
    rng = np.random.default_rng(0)
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
        resumed.restore(checkpoints.newest())
        for name, array in resumed.arrays().items():
            np.testing.assert_array_equal(array, expected[name])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"warning: checkpoint {newest} cannot be read (")
        assert line.endswith("): trying the one before")

    # it is not kept in place of a good one
    checkpoints.save(resumed)
    assert [path.name for path in checkpoints.files()] == ["00002.npz"]
    # where all are damaged, a line says what to do
    (tmp_path / "00002.npz").write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read: .*--overwrite"):
        checkpoints.newest()


def test_weights_that_are_not_finite_are_not_saved(new_state, tmp_path):
    """The losses may still have been numbers in the step that spoilt the weights."""
    checkpoints = Checkpoints(tmp_path)
    state = new_state()
    take_steps(state, 1)
    checkpoints.save(state)
    bias = state.step.generator.weights[-1]
    take_steps(state, 1)
    bias.assign(bias * np.nan)
    with pytest.raises(UserError, match=r"diverged: after 2 steps .* holds NaN or infinity"):
        checkpoints.save(state)
    assert [path.name for path in checkpoints.files()] == ["00001.npz"]
