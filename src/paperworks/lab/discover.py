"""Finding papers: every `card.md` of the package, of packages that name themselves in an entry point, or a folder."""

import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType

from paperworks.errors import CardError, PaperworksError

from .card import Card, load_card
from .study import Study

PACKAGE = Path(__file__).resolve().parents[1]
ENTRY_POINTS = "paperworks.papers"  # a package of this group: its folder is searched for cards


@dataclass(frozen=True)
class Paper:
    """A paper's room: its card, its folder, and the module its folder is."""

    card: Card
    folder: Path
    module: str | None = None  # importable name; None: a folder outside any package
    _loaded: dict[str, ModuleType] = field(default_factory=dict, compare=False, repr=False)

    @property
    def slug(self) -> str:
        """The paper's short name."""
        return self.card.slug

    @property
    def reference(self) -> str:
        """What another process needs to find this paper again: its slug, or its folder."""
        return self.slug if self.module else str(self.folder)

    def load(self, part: str) -> ModuleType:
        """Import a part of the room: `study`, `model`, `recipe` or `tool`.

        Raises:
            PaperworksError: the room has no such part, or it does not import.
        """
        path = self.folder / f"{part}.py"
        if not path.is_file():
            raise PaperworksError(f"{self.slug} has no {part}: {path} does not exist")
        return import_part(self.folder, self.module, part)

    @property
    def studies(self) -> dict[str, Study]:
        """The studies that `study.py` defines, in order."""
        module = self.load("study")
        studies = dict.fromkeys(value for value in vars(module).values() if isinstance(value, Study))
        found = {study.name: study for study in studies}
        if len(found) < len(studies):
            raise PaperworksError(f"{self.folder / 'study.py'} defines two studies of one name; names tell them apart")
        if not found:
            raise PaperworksError(f"{self.folder / 'study.py'} defines no Study")
        for study in found.values():
            if study.body is None:
                raise PaperworksError(f"{self.folder / 'study.py'}: study '{study.name}' has no @study.trial function")
        return found


def import_part(folder: Path, module: str | None, part: str) -> ModuleType:
    """Import `part` of a folder that is the package `module`, or lies outside any package.

    Raises:
        PaperworksError: a module outside the package does not import; names the line.
    """
    if module:
        return importlib.import_module(f"{module}.{part}")
    path = folder / f"{part}.py"
    try:
        return importlib.import_module(f"{_outside_package(folder)}.{part}")
    except SyntaxError as error:
        raise PaperworksError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # whatever the user's module raises while it is imported is theirs to mend
        line = next(
            (f.lineno for f in reversed(traceback.extract_tb(error.__traceback__)) if f.filename == str(path)), 0
        )
        where = f"{path}, line {line}" if line else str(path)
        raise PaperworksError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error


def _outside_package(folder: Path) -> str:
    """Make a folder outside any package importable under a name of its own, so that `from .model import X` works."""
    name = f"paperworks_outside_{folder.name}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    if name not in sys.modules:
        init = folder / "__init__.py"
        spec = importlib.util.spec_from_file_location(
            name, init if init.is_file() else None, submodule_search_locations=[str(folder)]
        )
        if spec is None:
            spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
            spec.submodule_search_locations = [str(folder)]
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        if spec.loader and init.is_file():
            spec.loader.exec_module(module)
    return name


@cache
def find_papers() -> dict[str, Paper]:
    """Every paper found, slug -> paper, sorted by field and slug.

    Raises:
        CardError: a card does not parse, or two papers bear one slug.
    """
    rooms = [(card, f"paperworks.{card.parent.parent.name}.{card.parent.name}") for card in PACKAGE.glob("*/*/card.md")]
    rooms += _from_other_packages()
    papers: dict[str, Paper] = {}
    for path, module in rooms:
        card = load_card(path)
        if card.slug in papers:
            raise CardError(f"two papers bear the slug '{card.slug}': {papers[card.slug].folder} and {path.parent}")
        papers[card.slug] = Paper(card, path.parent, module)
    return dict(sorted(papers.items(), key=lambda item: (item[1].card.field, item[0])))


def _from_other_packages() -> list[tuple[Path, str]]:
    from importlib.metadata import entry_points

    rooms = []
    for point in entry_points(group=ENTRY_POINTS):
        try:
            spec = importlib.util.find_spec(point.value)
        except ModuleNotFoundError:
            continue  # what was uninstalled in part hides no other paper
        for place in spec.submodule_search_locations or [] if spec else []:
            for card in Path(place).rglob("card.md"):
                inner = ".".join(card.parent.relative_to(place).parts)
                rooms.append((card, f"{point.value}.{inner}" if inner else point.value))
    return rooms


def find_paper(reference: str) -> Paper:
    """The paper with this slug, or the one that lives in this folder.

    Raises:
        PaperworksError: there is none; the message suggests the nearest slug.
    """
    papers = find_papers()
    if not reference.strip():
        raise PaperworksError("the paper's name is empty; `paperworks list` shows all")
    slug = reference.replace("-", "_")
    if slug in papers and not reference.startswith((".", "/")):
        return papers[slug]
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return Paper(load_card(folder / "card.md"), folder.resolve())
    if any(mark in reference for mark in "/\\."):
        raise PaperworksError(f"{reference} is no folder with a card.md; `paperworks new NAME` makes one")
    near = get_close_matches(slug.lower(), papers, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise PaperworksError(f"no paper '{reference}'; {hint}`paperworks list` shows them all")
