"""Imports point down: cli -> gallery -> lab; study -> lab, training, model, data; model -> nn, measure -> torch."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "paperworks"
FILES = sorted(ROOT.rglob("*.py"))
BASE = {"errors", "lazy", ""}
WINGS = {path.name for path in ROOT.iterdir() if any(path.glob("*/card.md"))} if ROOT.is_dir() else set()
MAY = {
    "errors": set(),
    "lazy": set(),
    "nn": set(),
    "measure": set(),
    "training": {"nn"},
    "lab": {"measure", "training"},  # counts a step, hands a trial its checkpoint
    "gallery": {"lab"},
    "cli": {"lab", "gallery", "training"},
}


def imported(path):
    """Dotted names of the project's modules that a file imports, in functions too."""
    package = ["paperworks", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("paperworks"))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                start = package[: len(package) - node.level + 1]
                yield ".".join([*start, node.module] if node.module else start)
            elif (node.module or "").startswith("paperworks"):
                yield node.module or ""


def room(name):
    parts = name.split(".")[1:]
    return parts[0] if parts else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    inside = path.relative_to(ROOT).parts
    here = inside[0].removesuffix(".py")
    if here in ("__init__", "__main__"):
        return
    names = {name for name in imported(path) if room(name) not in {*BASE, here}}
    if here in MAY:
        assert {room(name) for name in names} <= MAY[here] | {"__version__"}
        return
    assert here in WINGS
    if inside[1:] == ("comparison.py",):  # the wing's models, put before the lab side by side
        assert {room(name) for name in names} <= {"lab", "training", "nn", "measure"}
        return
    if len(inside) == 3 and inside[2] in ("study.py", "recipe.py", "tool.py"):
        allowed = {"lab", "training", "nn", "measure"} if inside[2] == "study.py" else {"training", "nn", "measure"}
    else:
        allowed = {"nn", "measure"}
        # A way of training; a wing's readers, which check users' files with training.arrays as all recipes do; and the
        # part of a recipe that all rooms of a wing share. None of them is imported by a model.
        own_data = len(inside) == 2 and inside[1].endswith(("_files.py", "_recipe.py"))
        if own_data or (len(inside) == 3 and inside[2] == "training.py"):
            allowed |= {"training"}
    assert {room(name) for name in names} <= allowed, f"{path}: {sorted(names)}"


@pytest.mark.parametrize(
    "path", [p for p in FILES if p.parent.parent.parent == ROOT], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_papers_do_not_import_each_other(path):
    wing, paper = path.relative_to(ROOT).parts[:2]
    rooms = {card.parent.name for card in (ROOT / wing).glob("*/card.md")} - {paper}
    for name in imported(path):
        parts = name.split(".")
        assert not (parts[1:2] == [wing] and len(parts) > 2 and parts[2] in rooms), f"{path} imports {name}"


def test_the_lab_knows_no_paper():
    for path in FILES:
        here = path.relative_to(ROOT).parts[0]
        if here in ("lab", "training", "nn", "measure", "gallery"):
            assert not {room(name) for name in imported(path)} & WINGS


def test_no_pickle_anywhere():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called = ast.unparse(node.func)
                assert called not in ("torch.load", "pickle.load", "pickle.loads", "joblib.load"), path
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, path


def test_models_and_simulators_reach_no_reader_and_no_recipe():
    for path in FILES:
        inside = path.relative_to(ROOT).parts
        if inside[0] in WINGS and inside[-1] in ("model.py", "pde_data.py"):
            assert not [name for name in imported(path) if name.endswith(("_files", "_recipe"))], path
