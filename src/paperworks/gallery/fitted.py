"""The report of a fit to a user's files: scores by part, learning curves, and what the recipe offers to look at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from paperworks.lab.files import write_text

from . import figures
from .pages import page, plain


def write_fit_report(report: Mapping[str, Any], card: Any, source: Path | str, path: Path | str) -> Path:
    """Write the report of a fit, one self-contained HTML file; the path it was written to.

    Args:
        report: what `fit_files` returned.
        card: the paper's card.
        source: the data that was fitted.
        path: the file to write.

    Raises:
        PaperworksError: the file cannot be written.
    """
    path = Path(path)
    write_text(path, page("fitted.html.j2", **view(report, card, Path(source).name)))
    return path


def view(report: Mapping[str, Any], card: Any, source: str) -> dict[str, Any]:
    """Everything the template shows."""
    metrics = report["metrics"]
    names = list(dict.fromkeys(name for part in metrics.values() for name in part))
    judged = next((part for part in ("test", "validation", "train") if metrics.get(part)), None)
    return {
        "title": f"{card.slug} fitted to {figures.clean(source, 60)}",
        "card": card,
        "judged": judged,
        "scores": {_words(name): plain(value) for name, value in (metrics[judged] if judged else {}).items()},
        "rows": report["rows"],
        "names": [_words(name) for name in names],
        "table": [
            (part, report["rows"].get(part), [plain(own[name]) if name in own else "" for name in names])
            for part, own in metrics.items()
        ],
        "curves": [Markup(svg) for svg in _curves(report.get("curves") or {})],
        "pictures": [
            {
                "title": content.get("title") or content.get("kind"),
                "caption": content.get("caption") or "",
                "svg": Markup(svg) if (svg := figures.picture(content)) else None,
            }
            for content in report.get("pictures") or []
        ],
        "pictured": report.get("pictured"),
        "steps": report["steps"],
        "seconds": report["seconds"],
        "settings": {name: plain(value) for name, value in sorted(report["settings"].items())},
        "model": report["model"],
        "predictions": report.get("predictions", "predictions"),
    }


def _curves(curves: Mapping[str, list[list[Any]]]) -> list[str]:
    """One chart for the loss and one for each score of the validation rows."""
    return [
        figures.lines(
            {name: ([x for x, _ in points], [y for _, y in points])},
            label=f"{_words(name)} while fitting",
            x="step",
            y=f"{_words(name)}{', training' if name == 'loss' else ', validation'}",
        )
        for name, points in curves.items()
        if len(points) > 1
    ]


def _words(name: str) -> str:
    return name.replace("_", " ").replace("l2", "L2")
