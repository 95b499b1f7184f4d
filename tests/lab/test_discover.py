"""Finding papers: by their cards in the package, in other packages, and in a folder; nothing is listed by hand."""

import importlib.metadata
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from paperworks.errors import CardError, PaperworksError
from paperworks.lab import discover, find_paper, find_papers

TOY = Path(__file__).parent / "toy_paper"
STUDY = """
from paperworks.lab import Study
study = Study("s", arms=("a",), claims=[])

@study.trial
def trial(t):
    t.row(x=1.0)
"""


@pytest.fixture
def room(tmp_path):
    """A paper's folder outside any package; keyword arguments are the text of its files."""

    def make(name="mine", **files):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        shutil.copy(TOY / "card.md", folder / "card.md")
        for part, text in files.items():
            (folder / f"{part}.py").write_text(text)
        return folder

    return make


@pytest.fixture
def found_afresh():
    find_papers.cache_clear()
    yield
    find_papers.cache_clear()


def test_every_card_of_the_package_is_found_once_sorted_by_field():
    papers = find_papers()
    cards = set(discover.PACKAGE.rglob("card.md"))
    assert {paper.folder / "card.md" for paper in papers.values()} == cards
    assert [(p.card.field, p.slug) for p in papers.values()] == sorted((p.card.field, p.slug) for p in papers.values())
    assert all(slug == paper.slug == paper.reference for slug, paper in papers.items())


def test_dashes_are_underscores():
    assert find_paper("modular-addition") is find_paper("modular_addition")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("deeponets", "did you mean 'deeponet'"),
        ("crosvit", "did you mean 'crossvit'"),
        ("modular addition", "did you mean 'modular_addition'"),
        ("qqqqqq", "^no paper 'qqqqqq'; `paperworks list`"),
        ("./nowhere", "no folder with a card.md"),
        ("nowhere/at/all", "no folder with a card.md"),
        ("paper.zip", "no folder with a card.md"),
    ],
)
def test_an_unknown_paper_is_told_with_the_nearest(reference, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PaperworksError, match=told):
        find_paper(reference)


def test_a_folder_without_a_card_is_told(tmp_path):
    with pytest.raises(CardError, match=r"card\.md cannot be read: No such file"):
        find_paper(str(tmp_path))


def test_a_slug_goes_before_a_folder_of_that_name_and_a_path_does_not(tmp_path, monkeypatch, room):
    room("deeponet", study=STUDY)
    monkeypatch.chdir(tmp_path)
    assert find_paper("deeponet").folder.is_relative_to(discover.PACKAGE)
    assert find_paper("./deeponet").folder == tmp_path / "deeponet"


def test_a_folder_is_found_again_from_its_reference_wherever_one_stands(tmp_path, monkeypatch, room):
    room(study=STUDY)
    monkeypatch.chdir(tmp_path)
    paper = find_paper("./mine")
    monkeypatch.chdir("/")
    assert find_paper(paper.reference).folder == paper.folder == tmp_path / "mine"


def test_parts_of_a_folder_import_each_other_and_two_folders_of_one_name_stay_apart(room):
    body = "from .model import WHOSE\n" + STUDY.replace("x=1.0", "x=WHOSE")
    one, two = (find_paper(str(room(f"{n}/mine", model=f"WHOSE = {n}.0", study=body))) for n in (1, 2))
    assert (one.load("model").WHOSE, two.load("model").WHOSE) == (1.0, 2.0)
    assert (one.load("study").WHOSE, two.load("study").WHOSE) == (1.0, 2.0)
    assert "mine" not in sys.modules
    assert "model" not in sys.modules


def test_studies_come_in_the_order_of_their_definition(room):
    more = STUDY.replace('"s"', '"a_later_one"').replace("study", "second").replace("def trial", "def other")
    assert list(find_paper(str(room(study=STUDY + more))).studies) == ["s", "a_later_one"]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({}, "toy has no study"),
        ({"study": "x = 1"}, "defines no Study"),
        ({"study": STUDY.replace("@study.trial", "")}, "no @study.trial function"),
        ({"study": "x = (\n"}, r"study\.py, line 1"),
        (
            {"study": "import not_installed_anywhere"},
            "cannot be imported: ModuleNotFoundError: No module named 'not_installed_anywhere'",
        ),
        (
            {"study": "from .model import Net", "model": "class Other: ..."},
            "cannot be imported: ImportError: cannot import name",
        ),
        ({"study": "from .model import Net", "model": "def broken(:"}, r"model\.py, line 1"),
    ],
)
def test_a_room_that_is_not_whole_is_told(room, files, told):
    with pytest.raises(PaperworksError, match=told):
        _ = find_paper(str(room(**files))).studies


# Papers of other packages


@pytest.fixture
def other_package(tmp_path, monkeypatch, found_afresh):
    """An installed package `their_papers` that names itself in the entry point."""

    def install(slug="theirs"):
        folder = tmp_path / "site" / "their_papers" / "wing" / slug
        folder.mkdir(parents=True)
        (folder / "card.md").write_text((TOY / "card.md").read_text().replace("slug: toy", f"slug: {slug}"))
        (folder / "study.py").write_text(STUDY)
        for place in (folder, folder.parent, folder.parent.parent):
            (place / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / "site")
        points = [SimpleNamespace(value="their_papers")]
        real = importlib.metadata.entry_points
        monkeypatch.setattr(
            importlib.metadata,
            "entry_points",
            lambda **of: points if of == {"group": discover.ENTRY_POINTS} else real(**of),
        )
        return folder

    yield install
    for name in [name for name in sys.modules if name.split(".")[0] == "their_papers"]:
        del sys.modules[name]


def test_papers_of_other_packages_are_found(other_package):
    folder = other_package()
    paper = find_papers()["theirs"]
    assert (paper.folder, paper.module, paper.reference) == (folder, "their_papers.wing.theirs", "theirs")
    assert paper.load("study").__name__ == "their_papers.wing.theirs.study"
    assert list(paper.studies) == ["s"]
    assert "deeponet" in find_papers()


def test_two_papers_of_one_slug_are_refused(other_package):
    folder = other_package("deeponet")
    with pytest.raises(CardError, match="two papers bear the slug 'deeponet'") as told:
        find_papers()
    assert str(folder) in str(told.value)


def test_an_entry_point_to_a_package_that_is_gone_hides_no_paper(found_afresh, monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [SimpleNamespace(value="gone_long_ago")])
    assert "deeponet" in find_papers()
