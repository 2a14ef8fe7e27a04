"""The variants of experiments/: what is changed in each of them, that they train, and the page."""

import contextlib
import csv
import fcntl
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib import image as mpl_image

import changes
import claims
import collected
import dcgan_mnist
import tables
import trainings
from common.data.dataset import load_dataset
from common.evaluation.classifier import classifier_for
from common.evaluation.metrics import frechet_distance
from common.gan.saving import load_generator
from common.program import Program
from common.runs.folder import RunFolder
from common.training.callbacks import health
from conftest import ENVIRONMENT, ROOT, Gan, assert_same_run
from processes import spawn, wait_until

# The networks of listings 4.2.1 and 4.2.2 for images of 8 x 8 pixels: filters / strides.
G = "Dense512 Reshape BN relu T128/2 BN relu T64/2 BN relu T32/1 BN relu T1/1 sigmoid"
D = "Leaky C32/2 Leaky C64/2 Leaky C128/2 Leaky C256/1 Flatten Dense1 sigmoid"
BN_IN_D = "Leaky C32/2 BN Leaky C64/2 BN Leaky C128/2 BN Leaky C256/1 Flatten Dense1 sigmoid"
CHANGED = {
    "bn-in-d": (G, BN_IN_D),
    "bn-in-d-batch-statistics": (G, BN_IN_D.replace("BN", "BatchStatistics")),
    "bn-in-d-own-batches": (G, BN_IN_D.replace("BN", "OwnStatistics")),
    "g-strides-late": (
        "Dense512 Reshape BN relu T128/1 BN relu T64/1 BN relu T32/2 BN relu T1/2 sigmoid",
        D,
    ),
    "tanh": (G.replace("sigmoid", "tanh"), D),
    "tanh-images-as-they-are": (G.replace("sigmoid", "tanh"), D.removeprefix("Leaky ")),
    "relu-in-d": (G, D.replace("Leaky", "relu")),
    "d-128": (G, D.replace("C256/1", "C128/1")),
    "pooling-upsampling": (
        "Dense512 Reshape BN relu Up2 T128/1 BN relu Up2 T64/1 BN relu T32/1 BN relu T1/1 sigmoid",
        "Leaky C32/1 Max2 Leaky C64/1 Max2 Leaky C128/1 Max2 Leaky C256/1 Flatten Dense1 sigmoid",
    ),
}


def written(layer):
    """A layer as above."""
    short = {"Conv2D": "C", "Conv2DTranspose": "T", "BatchNormalization": "BN"}
    short |= {"LeakyReLU": "Leaky", "MaxPooling2D": "Max", "UpSampling2D": "Up"}
    config, name = layer.get_config(), type(layer).__name__
    if name == "Activation":
        return config["activation"]
    (size,) = {config.get(key) for key in ("filters", "units")} - {None} or {""}
    for key in ("pool_size", "size"):
        if key in config:
            assert config[key] == (2, 2)
            size = 2
    strides = f"/{config['strides'][0]}" if "filters" in config else ""
    return f"{short.get(name, name)}{size}{strides}"


def other_settings(model):
    """By class, the settings that `written` does not show; all layers of a class share them."""
    found = {}
    for layer in model.layers[1:]:
        shown = {"name", "filters", "units", "strides", "activation", "trainable"}
        settings = {key: x for key, x in layer.get_config().items() if key not in shown}
        assert found.setdefault(type(layer).__name__, settings) == settings
    return found


@pytest.fixture(scope="module")
def chapters():
    """What the program itself hands to `train`: `(models, noise_input, run)`."""
    return Gan("dcgan_mnist", dcgan_mnist, num_labels=0).built(8)


@pytest.fixture(scope="module", params=claims.VARIANTS)
def built(request):
    """The same of each variant."""
    with claims.variant(request.param):
        return Gan("dcgan_mnist", dcgan_mnist, num_labels=0).built(8)


def test_networks_differ_in_what_the_name_says(built, chapters):
    models, noise_input, run = built
    name = run.name
    assert models[2].name == name
    assert name in claims.VARIANTS
    expected = CHANGED.get(name, (G, D))
    for model, layers, of_chapter in zip(models[:2], expected, chapters[0][:2], strict=True):
        assert " ".join(map(written, model.layers[1:])) == layers
        settings, others = other_settings(model), other_settings(of_chapter)
        for kind in settings.keys() & others.keys():
            assert settings[kind] == others[kind]
        # the same first weights, wherever there is a layer of this kind and shape
        kernels, own = ([w for w in x.weights if w.name == "kernel"] for x in (of_chapter, model))
        for kernel, other in zip(kernels, own, strict=True):
            same = np.array_equal(kernel, other)
            assert same == (kernel.shape == other.shape)
    np.testing.assert_array_equal(noise_input[0], chapters[1][0])
    assert run.rng.bit_generator.state == chapters[2].rng.bit_generator.state


def test_training_differs_in_what_the_name_says(built, chapters):
    (generator, discriminator, adversarial), _, run = built
    name = run.name
    rates = {"equal-rates": (2e-4, 6e-8), "adam": (2e-4, 6e-8)}.get(name, (1e-4, 3e-8))
    for model, (lr, decay) in ((discriminator, (2e-4, 6e-8)), (adversarial, rates)):
        schedule = model.optimizer._learning_rate
        for steps in (0, 40_000):
            assert float(schedule(steps)) == pytest.approx(lr / (1 + decay * steps), rel=2e-7)
        zero_sum = name == "zero-sum" and model is adversarial
        assert model.loss == (changes.zero_sum if zero_sum else "binary_crossentropy")
        assert model.jit_compile is False
        expected = chapters[0][2].optimizer
        if name in ("adam", "adam-halved"):
            expected = keras.optimizers.Adam(beta_1=0.5)
        assert type(model.optimizer) is type(expected)
        config, expected = (x.get_config() for x in (model.optimizer, expected))
        settings = config.keys() - {"name", "learning_rate"}
        assert settings == expected.keys() - {"name", "learning_rate"}
        assert [config[key] for key in settings] == [expected[key] for key in settings]
    discriminator.trainable = False  # as in G's turn
    learning = generator.trainable_weights
    if name == "d-unfrozen":
        learning = [*learning, *discriminator.weights]
    assert {id(w) for w in adversarial.trainable_weights} == {id(w) for w in learning}


def normalized(x):
    """Over all axes but the last, in float64."""
    x = x.astype(np.float64)
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-3)


def test_batch_normalization_in_d_knows_what_belongs_together(rng):
    real, fake = rng.normal(2, 1, (5, 4, 4, 3)), rng.normal(-3, 2, (5, 4, 4, 3))
    both = np.concatenate([real, fake]).astype(np.float32)
    apart = np.concatenate([normalized(real), normalized(fake)])
    for kind, expected in (
        (changes.BatchStatistics, normalized(both)),
        (changes.OwnStatistics, apart),
    ):
        layer = kind()
        np.testing.assert_allclose(layer(both, training=True), expected, atol=1e-4)
        layer.trainable = False  # in G's turn, which has fakes alone
        found = layer(fake.astype(np.float32), training=True)
        np.testing.assert_allclose(found, normalized(fake), atol=1e-4)
        # and it still learns to scale in D's
        layer.trainable = True
        layer.gamma.assign([1.0, 2.0, 3.0])
        np.testing.assert_allclose(layer(both, training=True), expected * [1, 2, 3], atol=1e-4)


def test_the_zero_sum_loss(rng):
    """Its values and gradients, also where a float32 of D(G(z)) has none left."""
    logits = np.array([-40.0, -3, 0, 2, 40])[:, np.newaxis]
    with tf.GradientTape() as tape:
        x = tf.Variable(logits, dtype=tf.float32)
        loss = changes.zero_sum(tf.ones((5, 1)), keras.activations.sigmoid(x))
    assert loss.shape == (5,)
    np.testing.assert_allclose(loss, -np.logaddexp(0, logits[:, 0]), rtol=1e-6)
    # it vanishes where D is sure of a fake
    np.testing.assert_allclose(tape.gradient(loss, x), -1 / (1 + np.exp(-logits)), rtol=1e-5)


def test_what_the_command_line_says(capsys):
    claims.main(["--list"])
    listed = capsys.readouterr().out
    for name, variant in claims.VARIANTS.items():
        assert (
            f"{name}\n    the chapter: {variant.claim}\n    changed: {variant.change}\n" in listed
        )
    for arguments, told in (
        (["bn-in-g"], "argument NAME: invalid choice: 'bn-in-g'"),
        (["--collect", "nowhere"], "nowhere holds no run of a variant"),
        (["--list", "--seeds=3"], "argument --seeds: has no effect without --all: leave it out"),
        (["--engine=compiled", "tanh"], "tanh comes first: python experiments/claims.py tanh ..."),
    ):
        with pytest.raises(SystemExit) as ended:
            claims.main(arguments)
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert told in line
        assert line.startswith("experiments/claims.py")
    assert dcgan_mnist.PROGRAM.name == "dcgan_mnist"


# One of them in the quick tests, all in the long ones.
@pytest.mark.parametrize(
    "name",
    [
        name if name == "bn-in-d-own-batches" else pytest.param(name, marks=pytest.mark.slow)
        for name in claims.VARIANTS
    ],
)
def test_each_variant_trains_and_resumes(name, data, tmp_path):
    """In bfloat16; what one engine computes, resumed with the other: the same from there on."""
    new = [f"--data={data}", "--batch-size=6", "--seed=1", "--save-interval=2"]
    new += ["--precision=bfloat16", "--engine=compiled", "--train-steps=4"]
    at_once, resumed = tmp_path / "at_once", tmp_path / "resumed"
    with contextlib.redirect_stdout(None):
        keras.utils.clear_session()  # so that layers get the names they have in a new process
        claims.main([name, *new, f"--outdir={at_once}"])
        shutil.copytree(at_once, resumed)
        (resumed / name / "checkpoints" / "00004.npz").unlink()
        (resumed / name / "00004.png").unlink()
        (resumed / f"{name}.h5").unlink()
        keras.utils.clear_session()
        claims.main([name, "--resume", "--engine=train_on_batch", f"--outdir={resumed}"])
    assert_same_run(at_once, resumed, name)
    drawn = tmp_path / "drawn.npz"
    claims.main([name, f"--generator={at_once / name}.h5", "--samples=4", f"--output={drawn}"])
    with np.load(drawn) as arrays:
        assert arrays["images"].shape == (4, 8, 8, 1)


@pytest.mark.slow
def test_all_go_on_where_they_were_killed(data, tmp_path):
    """Whether the training is killed with the command that has started it, or outlives it."""
    runs = tmp_path / "runs"
    flags = ["--all", str(runs), f"--data={data}", "--engine=compiled"]
    flags += ["--variants", "chapter", "--seeds", "0", "--train-steps=600"]
    folder = runs / "seed-0" / "chapter"
    command = spawn(tmp_path, claims.main, flags)
    wait_until((folder / "config.json").exists)
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 128 + signal.SIGTERM
    with (runs / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no training has it any more
    command = spawn(tmp_path, claims.main, flags)
    wait_until((folder / "checkpoints" / "00500.npz").exists)
    command.send_signal(signal.SIGKILL)
    command.wait()
    with (runs / "lock").open() as lock:
        with pytest.raises(BlockingIOError):  # the training still has it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = spawn(tmp_path, claims.main, flags)
        told = command.stdout.readline()
        assert told == f"another process is training in {runs}: waiting for its end\n"
    # everything is done
    assert command.communicate() == ("chapter, seed 0: complete\n", "")
    assert command.returncode == 0
    log = (runs / "seed-0" / "chapter.log").read_text()
    assert log.count("running on") == 2
    assert log.count("\n599: [discriminator loss") == 1


@pytest.mark.slow
def test_all_are_trained_in_turn(data, tmp_path):
    """Seed by seed; one that cannot be trained does not keep the others from it."""
    runs, names = tmp_path / "runs", ("chapter", "tanh")
    broken = runs / "seed-5" / "chapter" / "config.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    logs = [runs / f"seed-{seed}" / f"{name}.log" for seed in (5, 6) for name in names]
    flags = ["--all", str(runs), f"--data={data}", "--train-steps=2", "--variants", *names]
    command = spawn(tmp_path, claims.main, [*flags, "--seeds", "5", "6"])
    out, err = command.communicate()
    assert [line.split(": ")[1] for line in out.splitlines()] == [*map(str, logs)]
    assert command.returncode == 2
    assert err.endswith(f"error: trainings have failed, see the end of {logs[0]}\n")
    assert f"{broken} cannot be read" in logs[0].read_text()
    assert all((log.with_suffix("") / "checkpoints" / "00002.npz").exists() for log in logs[1:])


@pytest.mark.slow
def test_stages_are_evaluated_and_collected(data, tmp_path, monkeypatch):
    """The metrics of a stage, its picture, the result of a run, and what the page says of it."""
    monkeypatch.setattr(trainings, "STAGES", (2,))
    monkeypatch.setattr(trainings, "SAMPLES", 120)
    monkeypatch.setattr(collected, "STEPS_OF_MEAN", 2)
    monkeypatch.setattr(collected, "STEPS_OF_STAGE", 2)
    monkeypatch.setattr(health, "LOSS_INTERVAL", 1)
    monkeypatch.setattr(health, "GRACE", 3)
    monkeypatch.setattr(health, "LOWEST_LOSS", 100)
    runs = tmp_path / "runs"
    outdir = runs / "seed-1"
    folder = RunFolder(outdir / "tanh")
    earlier = trainings.stage_file(folder, 4)  # of another run, that was here before
    earlier.parent.mkdir(parents=True)
    earlier.write_text("{}")
    flags = [f"--data={data}", "--batch-size=6", "--seed=1", "--save-interval=2", "--quiet"]
    flags += ["--evaluate-interval=4", "--train-steps=5", f"--outdir={outdir}"]
    with trainings.log_of(folder).open("w") as log:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            claims.main(["tanh", *flags])
        log.write("warning: after 5 steps the discriminator wins: once more, after a resumption")
    assert {file.name for file in (folder.path / "stages").iterdir()} == {
        f"0000{steps}.{kind}" for steps in (2, 5) for kind in ("json", "png")
    }
    results = tmp_path / "results"
    collected.collect(runs, claims.VARIANTS, results)
    (stored,) = (results / "tanh").glob("seed-1-*.json")
    result = json.loads(stored.read_text())
    assert stored == collected.result_file(results, result)
    assert result["steps"] == 5
    assert result["warnings"] == {"the discriminator wins": 3}
    with folder.history.open() as file:
        losses = [float(row["discriminator_loss"]) for row in csv.DictReader(file)]
    stage = result["stages"]["5"]
    assert stage["discriminator_loss"] == pytest.approx(np.mean(losses[3:]))
    assert stage["discriminator_loss_deviation"] == pytest.approx(np.std(losses[3:]))
    assert result["losses"]["discriminator"] == pytest.approx(
        [np.mean(losses[:2]), np.mean(losses[2:4])], abs=1e-4
    )

    # the last generator, its images and their metrics, from the generator's file
    with claims.variant("tanh"):
        generator = load_generator(folder.generator, dcgan_mnist.new_generator)
    noise = np.random.default_rng(0).uniform(-1, 1, (120, 100)).astype(np.float32)
    images = (np.array(generator([noise])) + 1) / 2
    with np.load(data) as arrays:
        test = arrays["x_test"]
    classifier = classifier_for(load_dataset(data), outdir)
    of_test, _ = classifier.predict((test / 255).astype(np.float32)[..., np.newaxis])
    features, predicted = classifier.predict(images)
    assert stage["frechet_distance"] == pytest.approx(frechet_distance(of_test, features), rel=1e-3)
    shares = np.bincount(predicted, minlength=10) / 120
    assert [stage[f"share_of_{i}"] for i in range(10)] == pytest.approx(shares.tolist())
    picture = mpl_image.imread(stored.with_suffix(".png"))
    assert picture.shape == (2 * 10, 8 * 10)
    tiles = picture.reshape(2, 10, 8, 10)[:, 1:9, :, 1:9].swapaxes(1, 2).reshape(16, 8, 8)
    np.testing.assert_allclose(tiles, images[:16, :, :, 0], atol=0.51 / 255)


README = (claims.FOLDER / "README.md").read_text()
DESCRIBED = {name: variant[:2] for name, variant in claims.VARIANTS.items()}


def test_the_page_is_drawn_from_the_results():
    found = collected.read(claims.RESULTS, claims.VARIANTS)
    pages = "".join((claims.FOLDER / name).read_text() for name in tables.PAGES)
    for name, part in tables.parts(DESCRIBED, found).items():
        assert re.search(rf"<!-- {name}: .* -->\n{re.escape(part)}\n<!-- end of {name} -->", pages)
    for runs in found.values():
        assert {run["flags"]["seed"] for run in runs} == {0, 1, 2}
        assert min(run["steps"] for run in runs) >= 5000


def test_the_table_has_the_means_and_the_ranges_of_the_results():
    """The mean over the seeds, and from the lowest to the highest, straight from the files."""
    found = collected.read(claims.RESULTS, claims.VARIANTS)
    (row,) = re.findall(
        r"\| `equal-rates` \| 5,000 \|.*", tables.parts(DESCRIBED, found)["results"]
    )
    files = (claims.RESULTS / "equal-rates").glob("*.json")
    stages = [json.loads(file.read_text())["stages"]["5000"] for file in files]
    distances, recalls = ([x[name] for x in stages] for name in ("frechet_distance", "recall"))
    shares = [[stage[f"share_of_{i}"] for i in range(10)] for stage in stages]
    smallest, largest = [min(x) for x in shares], [max(x) for x in shares]
    for values, form in ((distances, ".3g"), (recalls, ".2f"), (smallest, ".1%"), (largest, ".1%")):
        mean, low, high = (format(x, form) for x in (np.mean(values), min(values), max(values)))
        assert f"| {mean} ({low} to {high}) |" in row


def test_the_command_line_of_a_variant():
    """In a process of its own, whose arguments begin with the variant's name."""
    command = [sys.executable, "experiments/claims.py", "tanh", "--generator=nowhere.h5"]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stderr.startswith(
        "experiments/claims.py tanh: error: generator nowhere.h5 cannot be read: "
    )


def test_the_pages_commands_are_understood(monkeypatch):
    """By the command lines; what they would do, other tests do."""
    monkeypatch.setattr(Program, "run", lambda program, argv, *_: program.options(argv))
    done = []
    monkeypatch.setattr(claims, "train_all", lambda *args: done.append(args))
    monkeypatch.setattr(claims, "collect", lambda *args: done.append(args))
    monkeypatch.setattr(claims, "draw", lambda *args: done.append(args))
    commands = re.findall(r"python experiments/claims\.py ([^#\n>]*)", README)
    assert len(commands) == 4
    for command in commands:
        claims.main(shlex.split(command))
    names = [*claims.VARIANTS]
    flags = {"train_steps": 5000, "engine": "compiled", "precision": "bfloat16"}
    runs = Path("../claims")
    assert done[0][1:] == (runs, names, [0, 1, 2], flags)
    assert done[1:] == [(runs, names, claims.RESULTS), (DESCRIBED, claims.RESULTS, claims.FOLDER)]
