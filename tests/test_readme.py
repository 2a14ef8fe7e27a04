"""What the pages of the project say of it: links, commands, flags, names, figures."""

import re
import shlex
from functools import cache

import numpy as np
import pytest

import cgan_mnist
import dcgan_mnist
import quality
from common.program import Program
from conftest import ROOT

PROGRAMS = {"dcgan_mnist": dcgan_mnist, "cgan_mnist": cgan_mnist}
PAGES = [
    "README.md",
    "README.zh-CN.md",
    "RESULTS.md",
    "docs/manual.md",
    "benchmarks/RESULTS.md",
    "data/README.md",
    "experiments/README.md",
]


@cache
def page(name):
    return (ROOT / name).read_text()


def anchors(text):
    """Of the headings, in their order, as web pages that show Markdown name them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)]+)\)", page(name)):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_names_are_in_the_files_they_are_said_to_be_in():
    """`file.py`: `name`, `name`, and tests by their names, in the tables from chapter to code."""
    names_of = r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)"
    found = re.findall(names_of, page("README.md") + page("docs/manual.md"))
    assert len(found) >= 20
    for file, names in found:
        source = (ROOT / ("tests" if file.startswith("test_") else "") / file).read_text()
        for name in re.findall(r"\w+(?=`)", names):
            assert re.search(rf"^ *(def|class) {name}\b", source, re.MULTILINE), (file, name)


def commands(name):
    """The command lines of the programs on a page, `(program, arguments)`."""
    text = page(name).replace("\\\n", "")  # lines that go on in the next one
    found = re.findall(r"python (\w+)\.py( [^`#\n]*)?", text)
    made = re.findall(r'make (\w+) ARGS="?([^`"#\n]*)', text)
    return [(program, arguments) for program, arguments in found if program in PROGRAMS] + [
        (f"{model}_mnist", arguments) for model, arguments in made if model in ("cgan", "dcgan")
    ]


@pytest.mark.parametrize("name", PAGES[:4])
def test_commands_are_understood(name, monkeypatch, tmp_path):
    """By the programs' own command line; what they would do, other tests do."""
    monkeypatch.chdir(tmp_path)
    parsed = []

    def read_only(self, argv):
        parsed.append(options(self, argv))
        raise StopIteration

    options = Program.options
    monkeypatch.setattr(Program, "options", read_only)
    found = commands(name)
    assert len(found) >= 3
    for program, arguments in found:
        arguments = arguments.replace("$resume", "--resume")
        with pytest.raises(StopIteration):
            PROGRAMS[program].main(shlex.split(arguments))
    assert len(parsed) == len(found)
    for given in parsed:
        if str(given.generator).startswith("pretrained"):
            assert (ROOT / given.generator).exists()


@pytest.mark.slow
def test_snippets_run_as_printed(monkeypatch, tmp_path):
    """In their order, but for a shorter training; they find the files that the manual makes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    for option in ("--export=cgan_mnist.onnx", "--output=digits.npz"):
        cgan_mnist.main(["--generator=pretrained/cgan_mnist.h5", option])
    ran = []
    for name in ("README.md", "docs/manual.md"):
        for snippet in re.findall(r"^```python\n(.*?)^```$", page(name), re.DOTALL | re.MULTILINE):
            names = {"images": np.zeros((20, 28, 28), np.uint8), "labels": np.arange(20) % 10}
            names |= {f"test_{name}": array for name, array in names.items()}
            exec(snippet.replace('"2000"', '"2"'), names)
            ran.append(names["images"].shape)
    assert ran == [(20, 28, 28), (16, 28, 28, 1), (20, 28, 28), (20, 28, 28), (20, 28, 28, 1)]
    assert len(list(tmp_path.glob("000*.png"))) == len(np.load("digits.npz")["images"])
    assert (tmp_path / "runs" / "cgan_mnist.h5").exists()
    assert (tmp_path / "letters.npz").exists()


def test_each_flag_is_told_of_and_no_other(capsys, monkeypatch):
    """Those of --help, on the pages that are for users."""
    monkeypatch.setenv("COLUMNS", "500")  # or --help breaks words
    with pytest.raises(SystemExit):
        cgan_mnist.main(["--help"])
    flag = r"(?<![\w-])--[a-z][a-z_-]+"
    flags = set(re.findall(flag, capsys.readouterr().out))
    told = set(re.findall(flag, page("docs/manual.md")))
    assert {name for name in flags - told if not name.startswith("--no-")} == {"--help"}
    of_others = {"--samples_per_plugin"}  # TensorBoard's, and sbatch's
    of_others |= {"--nodes", "--ntasks-per-node", "--gpus-per-task", "--requeue"}
    assert (told | set(re.findall(flag, page("README.md")))) - flags == of_others


def parts(name):
    """A page below its first line, as code blocks, headings, paragraphs, list items, cells."""
    text = page(name).partition("\n\n")[2]
    for position, anchor in enumerate(anchors(text)):
        text = text.replace(f"](#{anchor})", f"](#{position})")
    found = []
    for piece in re.split(r"^(```.*?^```)$", text, flags=re.DOTALL | re.MULTILINE):
        if piece.startswith("```"):
            found.append(piece)
        else:
            prose = re.split(r"\n\n|\n(?=[|-] )| \| ", piece.strip())
            found += [" ".join(part.split()) for part in prose]
    return found


def facts(part):
    """What no translation changes: the kind of part, its code, numbers and link targets."""
    kind = re.match(r"[#|-]*", part)[0]
    if part.startswith("```"):
        kind, part = re.sub(r" *#.*", "", part), " ".join(re.findall(r"#.*", part))
    digits = {"ones": "1", "nines": "9", "sixes": "6", "eights": "8"}
    named = r"\b(few|many|\d+) (ones|nines|sixes|eights)\b"
    part = re.sub(named, lambda match: f"{match[1]} {digits[match[2]]}", part)
    shared = r"`[^`]+`|\]\([^)]+\)|(?<!\w)\d+(?:[.,]\d+)*%?"
    return kind, sorted(re.findall(shared, part))


def test_the_readme_says_the_same_in_both_languages():
    english, chinese = parts("README.md"), parts("README.zh-CN.md")
    for one, other in zip(english, chinese, strict=False):
        assert facts(one) == facts(other), f"\n{one}\n\n{other}"
    assert len(english) == len(chinese)


def test_the_results_are_those_of_the_evaluations():
    """The tables are what benchmarks/quality.py prints."""
    files = sorted((ROOT / "docs" / "results").glob("*/*.json"))
    rows = quality.table(quality.evaluations(files)).splitlines()[2:]
    assert len(rows) == len(files) + 1
    for row in rows:
        assert row in page("RESULTS.md")


def test_the_readme_tells_the_same_results():
    figures = {
        "a classifier reads the digit that was asked for": ("digit_accuracy", ".1%"),
        "Frechet distance to the test images": ("frechet_distance", ".3g"),
    }
    section = page("README.md").split("\n## Results\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    steps = [int(cell.replace(",", "")) for cell in rows[0][1:-1]]
    assert len(rows) > 2
    for row in rows[2:]:
        gan, told = row[0].split(": ")
        name, form = figures[told]
        folder = ROOT / "docs" / "results" / f"{gan.lower()}_mnist"
        runs = quality.evaluations(sorted(folder.glob("*.json")))
        reports = runs[folder.name]
        expected = [
            format(reports[count]["generated"][name], form) if count in reports else "-"
            for count in steps
        ]
        assert row[1:] == [*expected, format(quality.of_real_images(runs)[name], form)]
