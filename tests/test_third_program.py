"""A program of a reader's own: a copy of dcgan_mnist.py with other networks, and nothing else."""

import importlib.util
import json
import re
import sys

import numpy as np
import pytest
from matplotlib import image as mpl_image

import cgan_mnist
import dcgan_mnist
from common.gan.batches import generate
from common.gan.saving import load_generator, save_generator
from conftest import ROOT, contents, give_classifier

SOURCE = (ROOT / "dcgan_mnist.py").read_text()
END_OF_GENERATOR = """x = Activation("{}")(x)
    return Model([inputs], x, name="generator")"""
CONVOLUTIONS = SOURCE[
    SOURCE.index("    image_resize = ") : SOURCE.index(END_OF_GENERATOR.format("sigmoid"))
]
DENSE_LAYERS = """    x = Dense(32)(inputs)
    x = BatchNormalization()(x)
    x = Activation("relu")(x)
    x = Dense(image_size * image_size)(x)
    x = Reshape((image_size, image_size, 1))(x)
    """
LAYERS = """        x = BatchNormalization()(x)
        x = Activation("relu")(x)
        x = Conv2DTranspose(filters, kernel_size, strides, padding="same")(x)
"""
BLOCK = """        from keras import Sequential
        upsample = Conv2DTranspose(filters, kernel_size, strides, padding="same")
        x = Sequential([BatchNormalization(), Activation("relu"), upsample])(x)
"""
CHANGES = {
    "filters": ("layer_filters = [128, 64, 32, 1]", "layer_filters = [64, 32, 16, 1]"),
    "tanh": (END_OF_GENERATOR.format("sigmoid"), END_OF_GENERATOR.format("tanh")),
    "latent_size": ("LATENT_SIZE = 100", "LATENT_SIZE = 7"),
    "discriminator": ("layer_filters = [32, 64, 128, 256]", "layer_filters = [8, 16, 32]"),
    "dense": (CONVOLUTIONS, DENSE_LAYERS),
    "blocks": (LAYERS, BLOCK),
}


# One of them in the quick tests, all in the long ones.
PARAMS = [
    name if name == "tanh" else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES
]


def imported(file, source):
    """A program with this source."""
    file.parent.mkdir(exist_ok=True)
    file.write_text(source)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=PARAMS)
def program(request, tmp_path_factory):
    """The copied program, imported from a folder of its own."""
    old, new = CHANGES[request.param]
    assert SOURCE.count(old) == 1
    file = tmp_path_factory.mktemp(request.param) / f"my_{request.param}.py"
    return imported(file, SOURCE.replace(old, new))


@pytest.fixture(scope="module")
def folder(program, data, small_data, tmp_path_factory):
    """Where it has trained four steps in two goes."""
    folder = tmp_path_factory.mktemp("runs")
    give_classifier(folder, *small_data)
    flags = [f"--data={data}", "--batch-size=4", "--seed=1", "--save-interval=2"]
    program.main([*flags, f"--outdir={folder}", "--train-steps=2"])
    program.main(["--resume", f"--outdir={folder}", "--train-steps=4"])
    return folder


def test_it_has_its_own_name(program, folder, capsys):
    with pytest.raises(SystemExit):
        program.main(["--help"])
    told = capsys.readouterr().out
    name = program.__name__
    assert told.startswith(f"usage: {name}.py")
    assert f"{name}.h5" in told
    assert "dcgan_mnist" not in told
    assert {f"{name}.h5", name} <= {file.name for file in folder.iterdir()}
    assert not list(folder.glob("dcgan_mnist*"))


def test_its_pictures_are_its_generators_images(program, folder):
    """Of four steps: all near grey, in the middle of the range, whatever the range is."""
    name = program.__name__
    with np.load(folder / name / "checkpoints" / "00004.npz") as archive:
        assert archive["history"].shape == (4, 5)
        assert np.isfinite(archive["history"]).all()
        noise = archive["noise_input/0"]
    generator = load_generator(folder / f"{name}.h5", program.new_generator)
    images = np.array(generator.predict_on_batch([noise]), np.float64)
    expected = (images + 1) / 2 if name == "my_tanh" else images
    grid = mpl_image.imread(folder / name / "00004.png")
    first = grid[6 : 6 + 80 : 10, 6 : 6 + 80 : 10]
    np.testing.assert_allclose(first, expected[0, :, :, 0], atol=0.51 / 255)
    np.testing.assert_allclose(generate(generator, [noise]), expected, atol=1e-6)


def test_it_samples_evaluates_and_exports(program, folder, data, capsys):
    file = str(folder / f"{program.__name__}.h5")
    common = ["-g", file, "--seed=1", f"--outdir={folder}"]
    program.main([*common, "--samples=9"])
    assert (folder / "test_outputs" / "00000.png").exists()
    program.main([*common, "--interpolate=3", f"--output={folder / 'walk.npz'}"])
    with np.load(folder / "walk.npz") as archive:
        assert archive["images"].shape == (30, 8, 8, 1)
        assert 0 <= archive["images"].min() <= archive["images"].max() <= 1
    (folder / "walk.npz").unlink()
    program.main([*common, "--evaluate", "--samples=100", f"--data={data}"])
    report = json.loads((folder / "test_outputs" / "evaluation.json").read_text())
    assert np.isfinite(report["generated"]["frechet_distance"])
    # a page knows no blocks
    for kind in ("keras",) if program.__name__ == "my_blocks" else ("keras", "html"):
        program.main(["-g", file, "--export", str(folder / f"g.{kind}")])
        (folder / f"g.{kind}").unlink()


def test_real_images_are_scaled_as_its_own(program):
    """D would tell images in [0, 1] from those in [-1, 1] at a glance."""
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        module = sys.modules["common.training.train"]  # the package has a function of that name
        patch.setattr(module, "run_steps", lambda model, step, *_, **__: steps.append(step))
        patch.setattr(module, "_exit_stopped", lambda *_: None)
        program.main(["--batch-size=8", "--seed=1", "--outdir", "unused", "--train-steps=1"])
    x = steps[0].real.take(np.arange(8))[0]
    assert (x.min(), x.max()) == ((-1, 1) if program.__name__ == "my_tanh" else (0, 1))


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("program", "num_labels", "change", "difference"),
    [
        (dcgan_mnist, 0, "filters", r"weights of shape \(.*\) expected, \(5, 5, 128, 128\) found"),
        (dcgan_mnist, 0, "latent_size", r"shape \(7, 6272\) expected, \(100, 512\) found"),
        # whose inputs stand side by side: 100 + 10 entries are not 7 + 103
        (cgan_mnist, 10, "latent_size", r"inputs of \[7, 103\] values expected, \[100, 10\] found"),
    ],
)
def test_anothers_generator_is_refused(program, num_labels, change, difference, tmp_path, capsys):
    """The chapter's, given to a program whose networks are others: it says what differs."""
    own = tmp_path / "own.h5"
    save_generator(program.new_generator(8, num_labels), own)
    source = (ROOT / f"{program.__name__}.py").read_text()
    mine = imported(tmp_path / "mine.py", source.replace(*CHANGES[change]))
    with pytest.raises(SystemExit) as stopped:
        mine.main(["-g", str(own)])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(difference, err)


def test_changed_networks_do_not_cost_anyone_a_run(tmp_path, data, capsys):
    """A program whose networks were changed in place, and its earlier run."""
    dcgan_mnist.main([f"--data={data}", "--batch-size=4", "--seed=1", "--train-steps=2"])
    changed = imported(tmp_path / "sub" / "dcgan_mnist.py", SOURCE.replace(*CHANGES["filters"]))
    before = contents(tmp_path)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        changed.main(["--resume", "--train-steps=4"])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "is of other networks than this program's" in err
    assert re.search(r"\(.*\) expected, \(.*\) found", err)
    assert "--overwrite" not in err
    assert "damaged" not in err
    assert contents(tmp_path) == before
