"""The figures of a run: pixel by pixel, and number by number."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

import dcgan_mnist
from common.errors import UserError
from common.images import image_grid, save_picture
from common.runs.folder import RunFolder
from common.runs.history import COLUMNS, StepRecord
from common.training.figures import LossCurves, draw_evolution, draw_figures


def read(file):
    """The grey pixels of a picture."""
    with Image.open(file) as picture:
        return np.asarray(picture.convert("L"))


def rows(rng, count):
    return [StepRecord(*record) for record in rng.uniform(0, 1, (count, 5)).tolist()]


@pytest.mark.parametrize("count", [1, 2, 150, 3000])
def test_curves_show_the_history(rng, tmp_path, count):
    history = rows(rng, count)
    curves = LossCurves("dcgan_mnist", history, tmp_path / "losses.png")
    curves.draw()
    # D's loss and accuracy, and the adversarial ones
    for column, of_metric in enumerate(curves._lines.values()):
        raw, smooth = (line.get_data() for line in of_metric)
        values = np.array(history)[:, column] * (100 if column % 2 else 1)
        # each mean, straight from its definition
        for step, mean in zip(*smooth, strict=True):
            assert mean == pytest.approx(values[max(0, step - 99) : step + 1].mean(), rel=1e-9)
        assert smooth[0][0] == 0
        assert smooth[0][-1] == count - 1
        # no peak of a single step is lost where there are more steps than pixels
        assert raw[1].max() == values.max()
        assert raw[1].min() == values.min()
        if count <= 1000:
            np.testing.assert_array_equal(raw[0], np.arange(count))
            np.testing.assert_array_equal(raw[1], values)
        assert len(raw[0]) <= 1400
    assert [axes.get_yscale() for axes in curves._axes] == ["linear", "linear"]
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.size == (900, 640)


def write_run(folder, rng, steps=(2, 4, 6, 7), size=8):
    folder.mkdir(exist_ok=True)
    grids = {}
    for step in steps:
        grids[step] = image_grid(rng.uniform(0, 1, (16, size, size, 1)))
        save_picture(grids[step], folder / f"{step:05d}.png")
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("step", *COLUMNS))
    table.writerows((step, *row) for step, row in enumerate(rows(rng, max(steps))))
    (folder / "history.csv").write_text(text.getvalue())
    return grids


def test_the_animation_has_a_frame_for_each_grid(rng, tmp_path):
    grids = write_run(tmp_path, rng, steps=range(500, 15500, 500))
    draw_evolution(RunFolder(tmp_path))
    with Image.open(tmp_path / "evolution.gif") as animation:
        assert animation.n_frames == len(grids) == 30
        assert animation.info["loop"] == 0  # for ever
        durations = []
        for number, grid in enumerate(grids.values()):
            animation.seek(number)
            durations.append(animation.info["duration"])
            np.testing.assert_array_equal(np.asarray(animation.convert("L"))[24:], grid)
    assert len(set(durations[:-1])) == 1
    assert durations[-1] == 2000 > durations[0]


def test_the_evolution_doubles_from_grid_to_grid(rng, tmp_path):
    """The chapter's 40,000 steps; what is shown is recognized by its pixels."""
    grids = write_run(tmp_path, rng, steps=range(500, 40500, 500))
    draw_evolution(RunFolder(tmp_path))
    picture = read(tmp_path / "evolution.png")
    side, caption, gap = 4 * 86 + 6, 24, 12  # of grids of images of 8 x 8 pixels, at 80 x 80
    assert picture.shape == (2 * (caption + side), 4 * side + 3 * gap)
    shown, captions = [], set()
    for row, column in [*np.ndindex(2, 4)][:7]:
        top, left = row * (caption + side), column * (side + gap)
        above, grid = np.split(picture[top : top + caption + side, left : left + side], [caption])
        shown += [step for step in grids if np.array_equal(grids[step], grid)]
        assert above.min() == 0  # black text on white
        assert (above == 255).mean() > 0.9
        captions.add(above.tobytes())
        if column:
            assert (picture[:, left - gap : left] == 255).all()
    assert len(captions) == 7
    assert shown == [500, 1000, 2500, 5000, 10000, 20000, 40000]


def test_figures_from_the_folder_alone_are_the_runs_own(tmp_path, data, capsys):
    run = [f"--outdir={tmp_path}", f"--data={data}", "--batch-size=4"]
    dcgan_mnist.main([*run, "--train-steps=5", "--save-interval=2"])
    folder = tmp_path / "dcgan_mnist"
    drawn = ["losses.png", "evolution.png", "evolution.gif"]
    before = {name: (folder / name).read_bytes() for name in drawn}
    for name in drawn:
        (folder / name).unlink()
    (tmp_path / "dcgan_mnist.h5").unlink()
    dcgan_mnist.main([f"--outdir={tmp_path}", "--figures"])
    assert capsys.readouterr().out.endswith(f"drawn in {folder}: {', '.join(drawn)}\n")
    assert {name: (folder / name).read_bytes() for name in drawn} == before


def test_a_folder_that_cannot_be_drawn(rng, tmp_path):
    folder = RunFolder(tmp_path / "dcgan_mnist")
    write_run(folder.path, rng, steps=[2])
    folder.grid(2).unlink()
    with pytest.raises(UserError, match=r"holds no grids such as 00500.png to draw: train first"):
        draw_figures(folder)
    folder.history.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"history.csv cannot be read .*: train first"):
        draw_figures(folder)
    folder.history.unlink()
    with pytest.raises(UserError, match=r"read \(No such file or directory\): train first"):
        draw_figures(folder)
