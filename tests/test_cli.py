"""The command line: defaults are the chapter's, and every mistake gets one line."""

import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import cgan_mnist
import dcgan_mnist
from common import cli
from common.data import MNIST
from common.gan.saving import save_generator


@pytest.mark.parametrize("program", [dcgan_mnist, cgan_mnist])
def test_defaults_are_the_chapters(program):
    options = program.PROGRAM.options([])
    assert options.train_steps == 40000
    assert options.batch_size == 64
    assert options.save_interval == 500
    assert options.generator is None
    assert options.data == MNIST
    assert MNIST.is_file()


@pytest.mark.parametrize("program", [dcgan_mnist, cgan_mnist])
def test_help_shows_examples(program, capsys):
    with pytest.raises(SystemExit) as caught:
        program.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    name = program.PROGRAM.name
    assert f"python {name}.py --generator={name}.h5" in text
    assert ("--digit" in text) == (program is cgan_mnist)
    # every example is a command line that the parser takes
    for line in re.findall(rf"python {name}.py (-.*?)  ", text):
        cgan_mnist.PROGRAM.options(line.split())


def test_a_run_is_resumed_as_it_was_started():
    """With the flags that it does not keep itself, whichever these are."""
    kept = ["--train-steps=9", "--seed=1", "--precision=bfloat16", "--tensorboard"]
    own = ["--outdir=my runs", "--strategy=mirrored", "--devices=GPU:0,GPU:1", "--no-show"]
    own += ["--data=x.npz"]  # a worker may have it elsewhere than the chief
    for more in (["--quiet"], ["--log-interval=7"]):
        options = dcgan_mnist.PROGRAM.options([*kept, *own, *more, "--overwrite"])
        assert sorted(options.to_resume()) == sorted(["--resume", *own, *more])
    workers = ["--strategy=multiworker", "--worker-timeout=9", "--resume"]
    options = dcgan_mnist.PROGRAM.options(workers)
    assert sorted(options.to_resume()) == sorted(workers)


def test_commands_to_copy(monkeypatch, tmp_path):
    """As the user has started the program."""
    monkeypatch.delenv("MAKE_TARGET", raising=False)
    flags = ["--resume", "--outdir=my $HOME # runs"]
    in_a_notebook = cli.command("dcgan_mnist.py", *flags)
    assert in_a_notebook == "python dcgan_mnist.py --resume '--outdir=my $HOME # runs'"
    started = ["../bin/python3", "-u", "../my gan/dcgan_mnist.py"]
    monkeypatch.setattr(sys, "argv", [started[-1], "--quiet"])
    monkeypatch.setattr(sys, "orig_argv", [*started, "--quiet"])
    assert shlex.split(cli.command("dcgan_mnist.py", *flags)) == [*started, *flags]
    of_another = cli.command("experiments/claims.py tanh", "--resume")
    assert of_another == "python experiments/claims.py tanh --resume"
    of_this = shlex.split(cli.command("gans/dcgan_mnist.py tanh", *flags))
    assert of_this == [*started, "tanh", *flags]

    monkeypatch.setenv("MAKE_TARGET", "dcgan")
    assert cli.command("dcgan_mnist.py", "--resume") == "make dcgan ARGS=--resume"
    if shutil.which("make"):
        (tmp_path / "Makefile").write_text("dcgan:\n\t@printf '%s\\n' $(ARGS)\n")
        made = [*shlex.split(cli.command("dcgan_mnist.py", *flags)), "--no-print-directory"]
        assert subprocess.check_output(made, cwd=tmp_path, text=True).splitlines() == flags


@pytest.mark.parametrize(
    ("flag", "values", "expected"),
    [
        ("--train-steps", ["0", "-5", "many", "1e3"], "a whole number from 1 to 1000000000"),
        ("--batch-size", ["0", "2.5", "", "1000000001"], "a whole number from 1 to 1000000000"),
        ("--seed", ["-1", "4294967296", "0.5"], "a whole number from 0 to 4294967295"),
        ("--samples", ["0", "10001"], "a whole number from 1 to 10000"),
        ("--interpolate", ["1", "1001"], "a whole number from 2 to 1000"),
    ],
)
def test_values_out_of_range(fails, flag, values, expected):
    for value in values:
        complaint = f"argument {flag}: {value!r} given, {expected} expected"
        assert fails(cgan_mnist, f"{flag.split('/')[-1]}={value}") == complaint


@pytest.mark.parametrize("flag", ["-d/--digit=8", "--evaluate", "--interpolate", "--output=a.png"])
def test_what_needs_a_generator(fails, flag):
    assert fails(cgan_mnist, flag.split("/")[-1]) == (
        f"argument {flag.split('=')[0]}: needs --generator FILE, the generator to use"
    )


@pytest.mark.parametrize(
    "flag", ["--train-steps=9", "--data=x.npz", "--resume", "--figures", "--strategy=mirrored"]
)
def test_training_flags_do_not_go_with_generator(fails, flag):
    complaint = fails(dcgan_mnist, "--generator", "dcgan_mnist.h5", flag)
    flag = flag.split("=")[0]
    assert complaint.startswith(f"argument {flag}: has no effect together with --generator: leave")


def test_figures_are_drawn_from_the_folder_alone(fails):
    complaint = fails(dcgan_mnist, "--figures", "--train-steps=5")
    assert complaint.startswith("argument --train-steps: has no effect together with --figures: ")


@pytest.mark.parametrize("digits", ["5", "2026", "16", "eight", "1.5", "1,2", ""])
def test_digits_outside_the_classes(fails, tmp_path, digits):
    """Of a generator of five classes."""
    file = tmp_path / "cgan_mnist.h5"
    save_generator(cgan_mnist.new_generator(8, 5), file)
    arguments = ("--generator", file, "--digit", "1", digits, "--outdir", tmp_path)
    assert fails(cgan_mnist, *arguments) == (
        f"argument -d/--digit: {digits!r} given, expected digits that {file} draws, 0 to 4"
    )
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ("--evaluate --digit 8", "-d/--digit: has no effect together with --evaluate: leave"),
        ("--evaluate --samples 99", "--samples: 99 given, --evaluate needs at least 100"),
        ("--export a.onnx --seed 9", "--seed: has no effect together with --export: leave"),
        (
            "--export a.h5",
            "--export: 'a.h5' given, expected NAME.html, NAME.keras, NAME.onnx, NAME",
        ),
        (
            "--output a.jpg",
            "--output: 'a.jpg' given, expected NAME.png, NAME.pdf, NAME.svg, NAME.npz",
        ),
        (
            "--output .png",
            "--output: '.png' given, expected NAME.png, NAME.pdf, NAME.svg, NAME.npz",
        ),
        ("--show --output a.pdf", "--show: has no effect on a.pdf: leave it out, or name a .png"),
        ("--output a.gif", "--output: a.gif given, an animation, which needs --interpolate: add"),
    ],
)
def test_flags_that_do_not_go_together(fails, flags, complaint):
    said = fails(cgan_mnist, "--generator", "cgan_mnist.h5", *flags.split())
    assert said.startswith(f"argument {complaint}")


@pytest.mark.parametrize("program", [dcgan_mnist, cgan_mnist])
def test_missing_files(fails, program, tmp_path):
    missing = tmp_path / "missing"
    assert f"data set {missing} does not exist" in fails(program, "--data", missing)
    assert f"generator {missing}.h5 cannot be read: No such file" in fails(
        program, "--generator", f"{missing}.h5"
    )
    (tmp_path / "my_gan.h5").touch()
    assert fails(program, "--generator", f"{tmp_path / 'mygan.h5'}").endswith(
        f"did you mean {tmp_path / 'my_gan.h5'}?"
    )
    (tmp_path / "my_gan").mkdir()  # the folder of its run
    assert fails(program, "-g", tmp_path / "my_gan").endswith(
        f"It is a folder: did you mean {tmp_path / 'my_gan.h5'}?"
    )
    assert fails(program, "-g", "elsewhere/x.h5").endswith(f"pretrained/{program.PROGRAM.name}.h5")
    assert "'' given, a file or a folder expected" in fails(program, "--generator=")


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("--epochs=3", "did you mean --train-steps?"),
        ("--train=3", "did you mean --train-steps?"),
        ("--evaluate-intervall=3", "did you mean --evaluate-interval?"),
        ("--zzz", "--help lists what there is"),
        ("dcgan_mnist.h5", "a generator is given as --generator FILE, a data set as --data PATH"),
        ("--digit=8", "only a GAN with labels can be asked for a digit, such as cgan_mnist.py"),
        ("--label=8", "only a GAN with labels can be asked for a digit, such as cgan_mnist.py"),
        ("-d", "only a GAN with labels can be asked for a digit, such as cgan_mnist.py"),
    ],
)
def test_unknown_arguments(fails, argument, advice):
    assert fails(dcgan_mnist, argument) == f"unrecognized arguments: {argument}: {advice}"


def test_another_name_of_a_flag(fails):
    assert fails(cgan_mnist, "--label=8").endswith("--label=8: did you mean --digit?")


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    options = dcgan_mnist.PROGRAM.options(["--outdir=~/digits", "--data=~/set.npz"])
    assert (options.outdir, options.data) == (tmp_path / "digits", tmp_path / "set.npz")
    options = cgan_mnist.PROGRAM.options(["-g=~/a.H5", "--output=~/b.PNG", "--show"])
    assert (options.generator, options.output) == (tmp_path / "a.H5", tmp_path / "b.PNG")


@pytest.mark.parametrize(
    ("sides", "flags", "complaint"),
    [
        ((8, 9), (), "have 8 x 9 pixels"),
        ((8, 8), ("--evaluate-interval=5",), "has no array x_test"),
    ],
)
@pytest.mark.parametrize("program", [dcgan_mnist, cgan_mnist])
def test_bad_data_is_refused_before_training(fails, program, tmp_path, sides, flags, complaint):
    images = np.random.default_rng(0).integers(0, 256, (400, *sides), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=np.arange(400) % 2)
    assert complaint in fails(program, *flags, "--data", tmp_path / "set.npz")


@pytest.mark.parametrize("program", [dcgan_mnist, cgan_mnist])
def test_an_outdir_that_cannot_be_written_is_found_before_training(fails, program, tmp_path):
    (tmp_path / "file").write_text("precious")
    complaint = fails(program, "--train-steps", 1, "--outdir", tmp_path / "file")
    assert complaint.startswith(f"cannot write {tmp_path / 'file' / program.PROGRAM.name}.h5: ")
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.skipif(bool(tf.config.list_physical_devices("GPU")), reason="a GPU can do all of this")
@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--precision=float16"], "argument --precision: float16 given, which needs a GPU"),
        (["--xla"], "argument --xla: is for --engine compiled"),
        (["--xla", "--engine=compiled"], "argument --xla: needs a GPU"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(fails, flags, complaint):
    assert fails(dcgan_mnist, *flags).startswith(complaint)


def test_show_without_a_display_is_found_before_training(fails, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    complaint = fails(dcgan_mnist, "--show", "--train-steps=1")
    assert complaint.startswith("argument --show: there is no display")


@pytest.mark.parametrize("allocate", [lambda: np.empty(10**17), lambda: tf.zeros(10**17)])
def test_running_out_of_memory_is_the_users_to_mend(allocate, capsys):
    with pytest.raises(SystemExit), dcgan_mnist.PROGRAM.one_line_errors():
        allocate()
    assert capsys.readouterr().err == (
        "dcgan_mnist.py: error: out of memory: give smaller images, a smaller --batch-size, or "
        "fewer --samples\n"
    )
