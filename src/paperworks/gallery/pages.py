"""The template environment that all pages share: everything escaped, styles inlined, numbers as a reader wants them."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from paperworks.lab.verdict import number

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """Templates with autoescape on."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made.globals |= {
        "style": Markup((TEMPLATES / "style.css").read_text(encoding="utf-8")),
        "script": Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
    }
    made.filters |= {"number": number, "count": count, "interval": interval, "slug": status_class}
    return made


def count(value: Any) -> str:
    """A count with thousands separated; small fractions as they are."""
    if value is None:
        return "–"
    if isinstance(value, float) and not value.is_integer():
        return number(value)
    return f"{int(value):,}"


def interval(ends: Any) -> str:
    """An interval in words."""
    return "none" if not ends else f"{number(ends[0])} to {number(ends[1])}"


def status_class(status: str) -> str:
    """A verdict's status as a class name."""
    return status.replace(" ", "-")


def markdown_to_html(text: str) -> Markup:
    """Markdown as HTML; raw HTML in it is shown, not run, and addresses that are no links are left out."""
    return Markup(MarkdownIt("commonmark", {"html": False}).enable("table").render(text))  # noqa: S704 (escaped above)
