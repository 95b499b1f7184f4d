"""Pages out of templates: one self-contained HTML file each, every text escaped, nothing fetched.

A page carries a content security policy that allows its own script by hash and no network at all: text from a card or
a result cannot become code even where escaping were to fail.
"""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from paperworks.lab.verdict import number

from .forest import effect_text, interval_text

TEMPLATES = Path(__file__).parent / "templates"


def page(template: str, **content: Any) -> str:
    """The HTML of a page."""
    style = (TEMPLATES / "style.css").read_text(encoding="utf-8")
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template(template)
        .render(style=Markup(style), script=Markup(script), policy=policy, **content)
    )


def markdown(text: str) -> Markup:
    """A card's prose as HTML: raw HTML stays text, pictures from elsewhere are not loaded."""
    return Markup(_markdown().render(text))


def slug_of(status: str | None) -> str:
    """A status as a CSS class."""
    return (status or "not measured").replace(" ", "-")


def count_text(value: float | None) -> str:
    """A count as a reader wants it: whole below a million, else with k, M, G, T."""
    if value is None:
        return "–"
    if abs(value) < 1e6:
        return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else number(value)
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return number(value)


def bytes_text(value: float | None) -> str:
    """A size in memory."""
    if value is None:
        return "–"
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def plain(value: Any) -> str:
    """A setting or metric as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(item)}" for name, item in value.items())
    return str(value)


@cache
def _markdown() -> Any:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "status": slug_of,
        "number": number,
        "plain": plain,
        "count": count_text,
        "bytes": bytes_text,
    }
    environment.globals |= {"effect_text": effect_text, "interval_text": interval_text}
    return environment
