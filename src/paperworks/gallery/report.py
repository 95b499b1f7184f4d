"""The report of a run: one self-contained page whose first screen answers the claim."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.lab import Card
from paperworks.lab.files import write_text
from paperworks.lab.results import Recorded
from paperworks.lab.verdict import number

from . import figures
from .pages import environment, markdown_to_html

READ_FIRST = "Read before you believe it"
COSTS = ("parameters", "operations", "saved_bytes", "seconds", "steps")


def write_report(result: Mapping[str, Any], card: Card, path: Path) -> Path:
    """Write the page; returns its path.

    Raises:
        PaperworksError: the folder cannot be written.
    """
    write_text(path, render_report(result, card))
    return path


def render_report(result: Mapping[str, Any], card: Card, *, home: str | None = None) -> str:
    """The page as text; `home` is the address of the gallery it belongs to."""
    verdicts = result["verdicts"]
    lead = leading(verdicts)
    sections = card.sections
    read_first = ""
    if READ_FIRST in sections:
        body = f"## {READ_FIRST}\n{sections[READ_FIRST]}"
        read_first = markdown_to_html(Card(**{**vars(card), "body": body}).render(Recorded(result)).partition("\n")[2])
    payload = json.dumps(result).encode()
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            card=card,
            result=result,
            lead=lead,
            answer=answer(verdicts),
            lead_figure=_lead_figure(result, lead) if lead else None,
            studies=[_study(result, study) for study in result["studies"]],
            read_first=read_first,
            download=base64.b64encode(payload).decode() if len(payload) < 3_000_000 else None,
            home=home,
            number=number,
        )
    )


def leading(verdicts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The verdict that answers the paper's claim: its first headline."""
    return next((v for v in verdicts if v["kind"] == "headline"), verdicts[0] if verdicts else None)


def answer(verdicts: Sequence[Mapping[str, Any]]) -> str:
    """One generated sentence: the headline's effect, and which controls it fails."""
    lead = leading(verdicts)
    if lead is None:
        return "No claim was decided in this run."
    controls = [v for v in verdicts if v["kind"] == "control"]
    failed = [v for v in controls if v["status"] == "not supported"]
    open_ = [v for v in controls if v["status"] == "inconclusive"]
    text = lead["sentence"]
    if failed:
        text += f" It fails {_count(failed, 'control')}: {'; '.join(v['claim'] for v in failed)}."
    if open_:
        text += f" Undecided {_count(open_, 'control')}: {'; '.join(v['claim'] for v in open_)}."
    if controls and not failed and not open_:
        text += f" It passes {'its control' if len(controls) == 1 else f'all {len(controls)} controls'}."
    return text


def _count(found: Sequence[Any], word: str) -> str:
    return f"{len(found)} {word}{'' if len(found) == 1 else 's'}"


def _values(result: Mapping[str, Any], study: str, metric: str, cell: str | None) -> dict[str, list[float | None]]:
    """variant -> one value a seed, for one metric in one cell."""
    found: dict[str, dict[int, float | None]] = {}
    for trial in result["trials"]:
        if trial["study"] != study:
            continue
        for row in trial["rows"]:
            if metric in row["metrics"] and row["cell"] == cell:
                found.setdefault(row["variant"], {})[trial["seed"]] = row["metrics"][metric]
    return {variant: [by_seed[seed] for seed in sorted(by_seed)] for variant, by_seed in found.items()}


def _lead_figure(result: Mapping[str, Any], lead: Mapping[str, Any]) -> str | None:
    cell = lead["parts"][0]["cell"]
    values = _values(result, lead["study"], lead["metric"], cell)
    if not values:
        return figures.forest(lead)
    flat = [v for vs in values.values() for v in vs if v is not None]
    log = lead["scale"] == "ratio" and bool(flat) and min(flat) > 0
    order = [lead["method"], *(name for name in values if name != lead["method"])]
    ordered = {name: values[name] for name in order if name in values}
    return figures.points_by_variant(ordered, lead["metric"], log=log, emphasis=lead["method"])


def _study(result: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, Any]:
    """Everything the page shows of one study."""
    name = study["name"]
    trials = [trial for trial in result["trials"] if trial["study"] == name]
    verdicts = [verdict for verdict in result["verdicts"] if verdict["study"] == name]
    seen: dict[tuple[str, str | None], None] = {}
    for trial in trials:
        for row in trial["rows"]:
            for metric in row["metrics"]:
                seen[metric, row["cell"]] = None
    claimed = [verdict["metric"] for verdict in verdicts]
    keys = sorted(seen, key=lambda key: (claimed.index(key[0]) if key[0] in claimed else len(claimed), str(key[1])))
    panels = []
    for metric, cell in keys[:24]:
        values = _values(result, name, metric, cell)
        flat = [v for vs in values.values() for v in vs if v is not None]
        log = bool(flat) and min(flat) > 0 and max(flat) / min(flat) > 30
        title = metric.replace("_", " ") + (f", {cell}" if cell else "")
        panels.append({"title": title, "svg": figures.points_by_variant(values, title, log=log)})
    return {
        **study,
        "verdicts": [{**v, "svg": figures.forest(v)} for v in verdicts],
        "panels": panels,
        "more_panels": max(0, len(keys) - 24),
        "curves": _curves(trials),
        "costs": _costs(trials),
        "counters": sorted({trial["counter"] for trial in trials if trial.get("counter")}),
        "pictures": [
            {**{k: p.get(k) for k in ("title", "caption")}, "svg": figures.picture(p)}
            for trial in trials
            for p in trial.get("pictures", [])
        ][:24],
        "rows": [(trial, row) for trial in trials for row in trial["rows"]],
        "seeds": sorted({trial["seed"] for trial in trials}),
        "unequal": _unequal(verdicts),
    }


def _curves(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    names: dict[str, dict[str, list[Any]]] = {}
    for trial in trials:
        for name, curve in trial["curves"].items():
            if len(curve) > 1:
                names.setdefault(name, {}).setdefault(trial["arm"], []).append(curve)
    return [
        {"title": name.replace("_", " "), "svg": figures.curves(name, arms)} for name, arms in list(names.items())[:6]
    ]


def _costs(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Arm by arm, the mean over trials of what it paid."""
    table: dict[str, dict[str, list[float]]] = {}
    for trial in trials:
        costs = {name: trial.get(name) for name in COSTS} | (trial.get("counts") or {})
        for name, value in costs.items():
            if value is not None:
                table.setdefault(trial["arm"], {}).setdefault(name, []).append(value)
    names = list(dict.fromkeys(name for costs in table.values() for name in costs))
    return [
        {"arm": arm, "costs": {name: sum(costs[name]) / len(costs[name]) if name in costs else None for name in names}}
        for arm, costs in table.items()
    ]


def _unequal(verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    told = []
    for verdict in verdicts:
        if verdict["fair"] is False:
            told.append(f"{verdict['claim']}: not at equal {' and '.join(verdict['equal'])}")
    return told
