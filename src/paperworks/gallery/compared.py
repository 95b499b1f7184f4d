"""The page of a comparison: who has the lowest error, one table, one picture of error against cost, what is behind."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from paperworks.lab.files import write_text
from paperworks.lab.verdict import number

from . import figures
from .pages import bytes_text, count_text, page
from .report import study_view, table_view

COSTS = {"parameters": "parameters", "seconds": "seconds of training", "inference_ms": "inference, ms a sample"}


def write_comparison(result: Mapping[str, Any], path: Path | str, *, home: str | None = None) -> Path:
    """Write a comparison's page, one self-contained HTML file; the path it was written to.

    Args:
        home: address of the gallery's index, where the page is part of one.

    Raises:
        PaperworksError: the file cannot be written.
    """
    path = Path(path)
    write_text(path, page("compared.html.j2", **view(result), home=home))
    return path


def view(result: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the template shows."""
    compared, trials = result["comparison"], list(result["trials"])
    entries = compared["models"]
    several = len(compared["sizes"]) > 1
    metric = _words(compared["metric"])
    places = list(dict.fromkeys(place for entry in entries for place in (*entry["elsewhere"], *entry["refused"])))
    others = list(dict.fromkeys(name for entry in entries for name in entry["metrics"] if not name.startswith("valid")))
    order = list(dict.fromkeys(entry["model"] for entry in entries))
    marks = {model: Markup(figures.mark(place, model)) for place, model in enumerate(order)}
    about = {entry["model"]: entry["about"] for entry in entries}
    reasons: dict[str, list[str]] = {}
    for item in compared["left_out"]:
        reasons.setdefault(item["why"], []).append(item["model"])
    text = json.dumps(result, ensure_ascii=False)
    study = study_view({**result["studies"][0], "arms": order}, trials, [])
    study["pictures"].sort(key=lambda picture: order.index(picture["arm"]))
    return {
        "title": f"{compared['field']} on {compared['task']}",
        "result": result,
        "compared": compared,
        "metric": metric,
        "several": several,
        "reasons": reasons,
        "pareto": [
            {"cost": name, "svg": Markup(_pareto(entries, order, cost, name, metric))} for cost, name in COSTS.items()
        ],
        "legend": [{"model": model, "about": about[model], "svg": marks[model]} for model in order],
        "others": [_words(name) for name in others],
        "refusals": [
            {"model": entry["model"], "place": place, "why": why}
            for entry in entries
            for place, why in entry["refused"].items()
        ],
        "places": places,
        "rows": [
            {**_row(entry, others, places, entries[0] is entry), "mark": marks[entry["model"]]} for entry in entries
        ],
        "study": study,
        "table": table_view(trials),
        "environment": result.get("environment") or {},
        "download": base64.b64encode(text.encode("utf-8", "surrogatepass")).decode(),
        "download_size": bytes_text(len(text)),
        "trial_count": len(trials),
        "seeds": len({trial["seed"] for trial in trials}),
    }


def _row(entry: Mapping[str, Any], others: Sequence[str], places: Sequence[str], best: bool) -> dict[str, Any]:
    ratio = entry.get("against_best")
    return {
        "model": entry["model"],
        "about": entry["about"],
        "error": _told(entry["error"]),
        "ratio": "best" if best else f"{number(ratio['effect'])}×" if ratio else "–",
        "ratio_interval": _ends(ratio["interval"]) if ratio else "",
        "tied": bool(ratio and (ratio["interval"] is None or ratio["interval"][0] <= 1)),
        "others": [_told(entry["metrics"].get(name)) for name in others],
        "parameters": count_text(entry["parameters"]),
        "unequal": entry["unequal"],
        "operations": count_text(entry["operations"]),
        "steps": f"{entry['steps']:,}",
        "lr": f"{entry['lr']:g}",
        "seconds": _told(entry["seconds"]),
        "inference": _told(entry["inference_ms"]),
        "elsewhere": [
            _told(entry["elsewhere"].get(place))
            or {"mean": "refuses" if place in entry["refused"] else "no claim", "ends": ""}
            for place in places
        ],
        "front": [COSTS[cost] for cost, on in entry["front"].items() if on],
    }


def _told(spread: Mapping[str, Any] | None) -> dict[str, str] | None:
    """A mean and its interval as text."""
    if spread is None:
        return None
    if spread["mean"] is None:
        return {"mean": f"diverged in {spread['diverged']} of {len(spread['values'])}", "ends": ""}
    return {"mean": number(spread["mean"]), "ends": _ends(spread["interval"])}


def _ends(interval: Sequence[float] | None) -> str:
    return f"{number(interval[0])} to {number(interval[1])}".replace("-", "−") if interval else ""


def _words(name: str) -> str:
    return name.replace("_", " ").replace("l2", "L2")


def _pareto(entries: Sequence[Mapping[str, Any]], order: Sequence[str], cost: str, name: str, metric: str) -> str:
    """Error against a cost: every model at its means, with intervals; what nothing beats in both is joined."""
    places: dict[str, list[tuple[float, float]]] = {}
    front: list[tuple[float, float]] = []
    bars: dict[str, list[Sequence[float] | None]] = {}
    for entry in entries:
        paid = entry[cost]["mean"] if isinstance(entry[cost], Mapping) else entry[cost]
        if paid is None or entry["error"]["mean"] is None:
            continue
        places.setdefault(entry["model"], []).append((paid, entry["error"]["mean"]))
        bars.setdefault(entry["model"], []).append(entry["error"]["interval"])
        if entry["front"].get(cost):
            front.append((paid, entry["error"]["mean"]))
    groups = {model: places[model] for model in order if model in places}
    label = f"{metric} against {name}: " + "; ".join(
        f"{model} {number(y)} at {number(x)}" for model, found in groups.items() for x, y in found
    )
    return figures.pareto(
        groups,
        {model: bars[model] for model in groups},
        sorted(front),
        [order.index(model) for model in groups],
        label=label,
        x=name,
        y=metric,
    )
