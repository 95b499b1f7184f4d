"""A paper's card: YAML front matter that a program reads and a page of prose that a person reads.

Measured numbers in the prose are expressions over the recorded results, such as
`{{ mean("digits", "mlp", "acc") | percent }}`, so that none is typed by hand. The template language is cut down to
expressions over those results: a card from someone else cannot run code, loop or allocate.
"""

import dataclasses
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from paperworks.errors import CardError

LARGEST = 1_000_000  # bytes; a card is a page of prose
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Card:
    """The front matter of a `card.md`, field by field, and its body."""

    path: Path
    title: str
    slug: str
    arxiv: str
    year: int
    field: str
    idea: str
    claim: str
    tags: list[str] = dataclasses.field(default_factory=list)
    license: str = ""
    official: str | None = None
    tool: str | None = None
    body: str = ""

    @property
    def sections(self) -> dict[str, str]:
        """The body's second-level sections, heading -> text, in order."""
        parts = re.split(r"(?m)^## +(.+?) *$", self.body)
        return {parts[i]: parts[i + 1].strip() for i in range(1, len(parts) - 1, 2)}

    def summary(self) -> dict[str, Any]:
        """What `paperworks list --json` prints of a paper."""
        names = ("slug", "title", "arxiv", "year", "field", "idea", "claim", "tags", "license", "official", "tool")
        return {name: getattr(self, name) for name in names}


def load_card(path: Path | str) -> Card:
    """Read a `card.md`.

    Raises:
        CardError: the file is missing, too large, not text, or its front matter lacks a field; says which.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise CardError(f"{path} is larger than {LARGEST} bytes; a card is a page of prose")
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CardError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise CardError(f"{path} cannot be read: {error.strerror}") from error
    match = re.match(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)(.*)\Z", text, re.DOTALL)
    if not match:
        raise CardError(f"{path} does not begin with front matter: a line '---', YAML, and a line '---'")
    try:
        front = yaml.load(match[1], Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise CardError(f"{path}: the front matter is not plain YAML: {error}") from error
    if not isinstance(front, dict):
        raise CardError(f"{path}: the front matter must be 'name: value' lines, found {type(front).__name__}")
    return Card(path=path, body=match[2].strip() + "\n", **_checked(path, front))


def _checked(path: Path, front: dict[Any, Any]) -> dict[str, Any]:
    if "arxiv" in front and isinstance(front["arxiv"], float):
        raise CardError(f"{path}: write arxiv in quotes, a bare number loses its last zeros")
    required = {"title": str, "slug": str, "arxiv": str, "year": int, "field": str, "idea": str, "claim": str}
    for name, kind in required.items():
        if name not in front:
            raise CardError(f"{path}: the front matter lacks '{name}'")
        if not isinstance(front[name], kind) or front[name] == "":
            raise CardError(f"{path}: '{name}' must be {kind.__name__}, found {type(front[name]).__name__}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", front["slug"]):
        raise CardError(f"{path}: 'slug' must be lower-case letters, digits and underscores, as a Python name")
    tags = front.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise CardError(f"{path}: 'tags' must be a list of words")
    for name in ("license", "official", "tool"):
        if front.get(name) is not None and not isinstance(front[name], str):
            raise CardError(f"{path}: '{name}' must be text")
    known = {item.name for item in fields(Card)} - {"path", "body"}
    unknown = sorted(str(name) for name in front.keys() - known)
    if unknown:
        raise CardError(
            f"{path}: unknown in the front matter: {', '.join(unknown)}; known are {', '.join(sorted(known))}"
        )
    return {**front, "tags": tags, "license": front.get("license") or ""}
