"""Imports run one way: from the programs down to the ground, and never back up."""

import ast

import pytest

from conftest import ROOT

# From the ground up. A module imports from floors below its own, or from its own floor.
FLOORS = [
    *(
        "common.startup",
        "common.errors",
        "common.files",
        "common.device",
        "common.data",
        "common.gan",
    ),
    *("common.flags", "common.options", "common.cli", "common.images"),
    *("common.runs", "common.sampling", "common.evaluation", "common.training", "common.program"),
]
# What is slow to import, and what only some commands need, is imported where it is used.
LAZY = {
    "common.cli": {"common.device"},
    "common.program": {"common.evaluation.evaluate"},
    "common.training.train": {"common.training.callbacks.tensorboard"},
}


def name_of(file):
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(file): ast.parse(file.read_text()) for file in (ROOT / "common").rglob("*.py")}


def imported(tree, lazy):
    """The modules that a module imports: at its head, or inside of functions."""
    at_head = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if (id(node) in at_head) == lazy:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in MODULES else node.module


def of_the_project(tree, lazy):
    return {name for name in imported(tree, lazy) if name.split(".")[0] == "common"}


def floor_of(name):
    return next(i for i, floor in enumerate(FLOORS) if f"{name}.".startswith(f"{floor}."))


@pytest.mark.parametrize("name", sorted(MODULES.keys() - {"common"}))
def test_no_import_leads_up(name):
    for lazy in (False, True):
        for other in of_the_project(MODULES[name], lazy):
            assert floor_of(other) <= floor_of(name), f"{name} imports {other}"


def test_no_circle():
    """Neither of modules nor hidden in a function."""
    below: dict[str, set[str]] = {
        name: of_the_project(tree, False) | of_the_project(tree, True)
        for name, tree in MODULES.items()
    }
    while free := [name for name, others in below.items() if not others & below.keys()]:
        for name in free:
            del below[name]
    assert not below


def test_imports_inside_functions_are_of_what_is_slow():
    for name, tree in MODULES.items():
        assert of_the_project(tree, lazy=True) == LAZY.get(name, set()), name


def test_no_import_is_for_types_alone():
    for name in MODULES:
        assert "TYPE_CHECKING" not in ast.dump(MODULES[name]), name


def everything_below(name):
    """All that importing a module imports, other packages by their first names."""
    seen, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += imported(MODULES[module], lazy=False) if module in MODULES else []
    return {module if module in MODULES else module.split(".")[0] for module in seen}


CORE = [name for name in MODULES if name.startswith("common.gan.")] + [
    *("common.training.loop", "common.training.compiled"),
]


@pytest.mark.parametrize("name", CORE)
def test_the_core_needs_neither_pictures_nor_a_terminal(name):
    found = everything_below(name)
    assert found & {"numpy", "keras"}
    assert not found & {"matplotlib", "PIL", "rich", "sklearn", "scipy", "tensorboard"}
