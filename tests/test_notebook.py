"""The notebook: it runs, and what is saved in it is what it shows."""

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import ROOT

FILE = ROOT / "chapter.ipynb"
# Cells that show pictures say so by these calls.
SHOWING = ("show(", "display(", "run_steps(")


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(FILE, as_version=4)


def pictures(cell):
    return [output for output in cell.outputs if "image/png" in output.get("data", {})]


def assert_complete(notebook):
    """Every cell has run, in order, without an error, and the pictures are there."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        assert not [
            x for x in cell.outputs if x.output_type == "error" or x.get("name") == "stderr"
        ]
        shows = any(call in cell.source for call in SHOWING) and "def show" not in cell.source
        assert bool(pictures(cell)) == shows, cell.source
    assert sum(len(pictures(cell)) for cell in cells) >= 8


def test_its_saved_outputs_are_small_and_complete(notebook):
    assert FILE.stat().st_size < 1_000_000
    assert_complete(notebook)


def test_its_explanations_stand_in_both_languages(notebook):
    for cell in notebook.cells[1:]:
        if cell.cell_type == "markdown":
            assert any("\u4e00" <= character <= "\u9fff" for character in cell.source), cell.source


@pytest.mark.slow
def test_it_runs_from_top_to_bottom(notebook, tmp_path):
    """With few steps and few images."""
    shorter = {"STEPS = 2000": "STEPS = 4", "--samples=1000": "--samples=100"}
    shorter['Path("notebook")'] = f"Path({str(tmp_path)!r})"
    sources = "".join(cell.source for cell in notebook.cells)
    assert all(sources.count(text) == 1 for text in shorter)
    fresh = nbformat.from_dict(notebook)
    for cell in fresh.cells:
        for text, replacement in shorter.items():
            cell.source = cell.source.replace(text, replacement)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(fresh, timeout=None, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert_complete(fresh)
