"""The report of a run: one HTML page whose first screen answers the claim and whose rest shows everything behind it."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from paperworks.errors import CardError
from paperworks.lab.expressions import render
from paperworks.lab.files import write_text
from paperworks.lab.results import Recorded
from paperworks.lab.verdict import EQUAL_WITHIN, number

from . import figures
from .answer import controls_sentence, headlines_sentence, overall
from .forest import effect_text, interval_text, needs_text, strip
from .pages import bytes_text, count_text, markdown, page, plain

FIRST_SCREEN = 6  # claims in the first figure
TABLE_ROWS = 2000  # rows of the table of all rows; the download has every one
BEFORE = "read before you believe it"
ORDER = {"headline": 0, "control": 1, "mechanism": 2}

Result = Mapping[str, Any]


def write_report(result: Result, card: Any, path: Path | str, *, home: str | None = None) -> Path:
    """Write a run's report, one self-contained HTML file; the path it was written to.

    Args:
        result: what a run returned or recorded.
        card: the paper's card; None where there is none.
        path: the file to write.
        home: address of the paper's page, where the report is part of a gallery.

    Raises:
        PaperworksError: the file cannot be written.
    """
    path = Path(path)
    write_text(path, page("report.html.j2", **view(result, card), home=home))
    return path


def view(result: Result, card: Any) -> dict[str, Any]:
    """Everything the template shows."""
    verdicts = list(result.get("verdicts") or [])
    lead = overall(verdicts)
    first = sorted(verdicts, key=lambda v: (v is not lead, ORDER.get(v["kind"], 3)))[:FIRST_SCREEN]
    text = json.dumps(result, ensure_ascii=False)
    trials, studies = list(result.get("trials") or []), list(result.get("studies") or [])
    named = _named(studies, verdicts)
    return {
        "title": getattr(card, "title", None) or result["paper"],
        "card": card,
        "result": result,
        "lead": lead,
        "controls": controls_sentence(verdicts) if verdicts else "",
        "headlines": headlines_sentence(verdicts),
        "first": [claim_view(verdict) for verdict in first],
        "unshown": len(verdicts) - len(first),
        "claims": [claim_view(verdict) for verdict in verdicts],
        "published": [_beside(verdict, trials, len(studies) > 1) for verdict in verdicts if verdict.get("published")],
        "studies": [
            study_view(study, [t for t in trials if t["study"] == study["name"]], verdicts, named) for study in studies
        ],
        "before": _section(card, result, BEFORE),
        "environment": result.get("environment") or {},
        "table": table_view(trials),
        "download": base64.b64encode(text.encode("utf-8", "surrogatepass")).decode(),
        "download_size": bytes_text(len(text)),
        "trial_count": len(trials),
    }


def claim_view(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """A verdict with its strip and its parts, as text."""
    weakest = {name: verdict.get(name) for name in ("effect", "interval", "status")}
    weakest["values"] = next(
        (
            part.get("values")
            for part in verdict.get("parts") or []
            if part.get("effect") == verdict["effect"] and part.get("interval") == verdict.get("interval")
        ),
        [],
    )
    parts = [
        {
            **part,
            "name": " · ".join(
                filter(None, [part.get("cell"), part.get("baseline") and f"against {part['baseline']}"])
            ),
            "text": effect_text(verdict["scale"], part.get("effect")),
            "interval_text": interval_text(verdict["scale"], part.get("interval")),
            "strip": Markup(strip(verdict, part, _described(verdict, part))),
        }
        for part in verdict.get("parts") or []
    ]
    return {
        **verdict,
        "text": effect_text(verdict["scale"], verdict["effect"]),
        "interval_text": interval_text(verdict["scale"], verdict.get("interval")),
        "needs": needs_text(verdict),
        "where": parts[0].get("cell") if len(parts) == 1 else None,
        "strip": Markup(strip(verdict, weakest, _described(verdict, weakest))),
        "parts": parts,
        "costs": verdict.get("costs") or {},
        "unequal": _unequal(verdict) if verdict.get("fair") is False else [],
        "fair_text": _fair_text(verdict),
    }


def _apart(verdict: Mapping[str, Any]) -> list[str]:
    """The costs in which method and baselines differ by more than 5 %."""
    costs, method = verdict.get("costs") or {}, verdict["method"]
    return [
        name
        for name, by in costs.items()
        if method in by and any(abs(by[method] - v) > EQUAL_WITHIN * max(abs(by[method]), abs(v)) for v in by.values())
    ]


def _unequal(verdict: Mapping[str, Any]) -> list[str]:
    """What an unfair claim needs equal and is not, over all its baselines."""
    return [name.replace("_", " ") for name in _apart(verdict) or verdict.get("equal") or []]


def _fair_text(verdict: Mapping[str, Any]) -> str:
    """What is equal, and how: within 5 %, or, for a clock that wavers, by steps calibrated beforehand."""
    if verdict.get("fair") is None:
        return ""
    if not verdict["fair"]:
        return "Not within 5 %: the comparison is not equal."
    if _apart(verdict) == ["seconds"]:
        return "Equal seconds were set by calibration, in interleaved short runs; these are the seconds it took."
    return "Within 5 %: equal."


def _described(verdict: Mapping[str, Any], part: Mapping[str, Any]) -> str:
    where = f" in {part['cell']}" if part.get("cell") else ""
    return (
        f"{verdict['claim']}{where}: effect {effect_text(verdict['scale'], part.get('effect'))}, 95 % interval "
        f"{interval_text(verdict['scale'], part.get('interval'))}, needs {needs_text(verdict)}: {part['status']}"
    )


def _beside(verdict: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], several: bool) -> dict[str, Any]:
    """The paper's own number and ours; with the study's name where there are `several`."""
    own = [t for t in trials if t["study"] == verdict["study"]]
    baselines = verdict.get("baseline")
    names = [verdict["method"], *([baselines] if isinstance(baselines, str) else baselines or [])]
    means = {name: _mean(_values(own, name, verdict["metric"])) for name in names}
    return {
        "claim": f"{verdict['study']}: {verdict['claim']}" if several else verdict["claim"],
        "published": verdict["published"],
        "differs": verdict.get("differs"),
        "means": {name: number(value) for name, value in means.items() if value is not None},
        "metric": verdict["metric"],
        "effect": effect_text(verdict["scale"], verdict["effect"]),
        "interval": interval_text(verdict["scale"], verdict.get("interval")),
        "status": verdict["status"],
    }


def _values(trials: Sequence[Mapping[str, Any]], variant: str, metric: str) -> list[float | None]:
    rows = [row for trial in trials for row in trial["rows"] if row["variant"] == variant]
    return [row["metrics"][metric] for row in rows if metric in row["metrics"]]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _section(card: Any, result: Result, heading: str) -> Markup | None:
    """A section of the card with its numbers filled in from this result."""
    if card is None:
        return None
    try:
        body = render(card, Recorded(result))
    except CardError as error:
        return markdown(f"The card's text could not be filled in:\n\n    {error}")
    parts = re.split(r"(?m)^## +(.+?) *$", body)
    for place in range(1, len(parts) - 1, 2):
        if parts[place].strip().lower() == heading:
            return markdown(parts[place + 1].strip())
    return None


def study_view(
    study: Mapping[str, Any],
    trials: list[Mapping[str, Any]],
    verdicts: Sequence[Mapping[str, Any]],
    page: Sequence[str] = (),
) -> dict:
    """What the pages show of one study: charts, costs, tuning, pictures, settings.

    `page` names the variants of all studies of the page: what several studies share has one colour in all of them.
    """
    own = [verdict for verdict in verdicts if verdict["study"] == study["name"]]
    named = _places(_named([study], own), page)
    data = study.get("data")
    return {
        **study,
        "points": [*_trade_off(study, trials), *_point_charts(trials, named, study["name"])],
        "curves": _curve_charts(trials, named, study["name"]),
        "fair": _fair_play(study, trials, own),
        "equal_times": _equal_times(study, trials),
        "tuning": study.get("tuning"),
        "pictures": _pictures(trials),
        "data_text": data
        if isinstance(data, str) or data is None
        else f"{data['name']}, fingerprint {data['fingerprint']}",
        "common": {name: plain(value) for name, value in (study.get("settings") or {}).items()},
        "own": {
            arm: {name: plain(value) for name, value in values.items()}
            for arm, values in (study.get("arm_settings") or {}).items()
            if values
        },
    }


def _named(studies: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Variants in the order in which colours are given: those of the claims first, then the other arms."""
    names: list[str] = []
    for verdict in sorted(verdicts, key=lambda verdict: ORDER.get(verdict["kind"], 3)):
        baselines = verdict.get("baseline")
        names += [verdict["method"], *([baselines] if isinstance(baselines, str) else baselines or [])]
    for study in studies:
        names += [*(study.get("arms") or []), *(study.get("variants") or {})]
    return list(dict.fromkeys(names))


def _places(named: Sequence[str], page: Sequence[str]) -> dict[str, int]:
    """Places in the palette: a variant has the one that the whole page gives it, as long as there are colours."""
    shared = {name: place for place, name in enumerate(page[: figures.SERIES])}
    places = {name: shared[name] for name in named if name in shared}
    free = [place for place in range(figures.SERIES) if place not in places.values()]
    late = [name for name in named if name not in places]
    places |= dict(zip(late, [*free, *range(figures.SERIES, figures.SERIES + len(late))], strict=False))
    return {name: places[name] for name in named}


def _by_metric(trials: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[str | None, list[float | None]]]]:
    """Metric -> variant -> cell -> values of all seeds."""
    found: dict[str, dict[str, dict[str | None, list[float | None]]]] = {}
    for trial in trials:
        for row in trial["rows"]:
            for metric, value in row["metrics"].items():
                cells = found.setdefault(metric, {}).setdefault(row["variant"], {})
                cells.setdefault(row["cell"], []).append(value)
    return found


def _trade_off(study: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A metric against a cost, means over seeds: one place a variant, or one a cell joined by a line."""
    if not study.get("trade_off"):
        return []
    cost, metric, wanted = study["trade_off"]
    found = _by_metric(trials)
    series = {}
    for name in wanted:
        costs, values = (found.get(each, {}).get(name, {}) for each in (cost, metric))
        places = [(x, y) for cell in values if (x := _mean(costs.get(cell) or [None])) and (y := _mean(values[cell]))]
        if places:
            xs, ys = zip(*sorted(places), strict=True)
            series[name] = (xs, ys)
    if not series:
        return []
    label = f"{study['name']}: {metric} against {cost}, means over seeds"
    return [{"svg": Markup(figures.lines(series, label=label, x=cost, y=metric, dots=True)), "note": ""}]


def _point_charts(trials: Sequence[Mapping[str, Any]], named: Mapping[str, int], study: str) -> list[dict[str, Any]]:
    charts, rank = [], {name: place for place, name in enumerate(named)}
    for metric, variants in _by_metric(trials).items():
        order = sorted(variants, key=lambda name: rank.get(name, len(rank)))
        cells = list(dict.fromkeys(cell for variant in order for cell in variants[variant]))
        label = f"{study}: {metric} of every seed, by arm"
        xs = _numeric_cells(cells)
        if xs and xs[0] == metric:
            continue
        if xs and len(cells) > 2:
            charts.append({"svg": Markup(_along(variants, order, cells, xs, label, metric, named)), "note": ""})
            continue
        for cell in cells if 1 < len(cells) <= 8 else [None]:
            if 1 < len(cells) <= 8:
                rows = {name: variants[name][cell] for name in order if cell in variants[name]}
            else:
                rows = {
                    f"{name}, {each}" if each else name: values
                    for name in order
                    for each, values in variants[name].items()
                }
            where = f", {cell}" if cell and len(cells) > 1 else ""
            text = label + where
            if len(rows) > figures.ROWS:
                text += f"; the first {figures.ROWS} of {len(rows)}"
            svg = figures.points(rows, label=text, metric=metric + where, colours=named)
            cut = f"The first {figures.ROWS} of {len(rows)} rows." if len(rows) > figures.ROWS else ""
            charts.append({"svg": Markup(svg), "note": cut})
    return charts


def _numeric_cells(cells: Sequence[str | None]) -> tuple[str, list[float]] | None:
    """Cells such as `m=10`, `m=20`: the name and its values."""
    found = [re.fullmatch(r"([^=]+)=([-+0-9.eE]+)", cell or "") for cell in cells]
    if not all(found) or len({match[1] for match in found if match}) != 1:
        return None
    try:
        return found[0][1], [float(match[2]) for match in found if match]  # type: ignore[index]
    except ValueError:
        return None


def _along(variants, order, cells, xs, label, metric, named) -> str:
    """A metric against the number in its cells' names: mean by variant and every seed."""
    where = dict(zip(cells, xs[1], strict=True))
    means, single = {}, {}
    for name in order:
        by = sorted((where[cell], values) for cell, values in variants[name].items())
        means[name] = ([x for x, _ in by], [_mean(values) for _, values in by])
        single[name] = [([x] * len(values), values) for x, values in by]
    against = f"{label}, against {xs[0]}"
    return figures.lines(means, label=against, x=xs[0], y=metric, single=single, dots=True, colours=named)


def _curve_charts(trials: Sequence[Mapping[str, Any]], named: Mapping[str, int], study: str) -> list[dict[str, Any]]:
    by: dict[str, dict[str, list[tuple[list, list]]]] = {}
    swept = len({json.dumps(trial.get("point") or {}, sort_keys=True) for trial in trials}) > 1
    for trial in trials:
        arm = trial["arm"] + (f" {plain(trial['point'])}" if swept and trial.get("point") else "")
        for metric, curve in (trial.get("curves") or {}).items():
            if len(curve) > 1:
                by.setdefault(metric, {}).setdefault(arm, []).append(([x for x, _ in curve], [y for _, y in curve]))
    charts, rank = [], {name: place for place, name in enumerate(named)}
    for metric, arms in by.items():
        order = sorted(arms, key=lambda arm: rank.get(arm, len(rank)))
        means = {arm: _mean_curve(arms[arm]) for arm in order}
        label = f"{study}: {metric} while training, mean and every seed, by arm"
        single = {arm: curves for arm, curves in arms.items() if len(curves) > 1}
        svg = figures.lines(means, label=label, x="step", y=metric, single=single, colours=named)
        charts.append({"metric": metric, "svg": Markup(svg)})
    return charts


def _mean_curve(curves: Sequence[tuple[list, list]]) -> tuple[list, list]:
    """Mean over seeds; on the steps all seeds share, or else interpolated where all have begun and none has ended."""
    import numpy

    steps = curves[0][0]
    if any(xs != steps for xs, _ in curves):
        low, high = max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves)
        if low >= high:
            return curves[0]
        steps = numpy.linspace(low, high, 60).tolist()
    columns = []
    for xs, ys in curves:
        known = numpy.array([numpy.nan if y is None else y for y in ys], dtype=float)
        columns.append(numpy.interp(steps, xs, known) if xs != steps else known)
    mean = numpy.mean(columns, axis=0)
    return steps, [float(value) if numpy.isfinite(value) else None for value in mean]


def _fair_play(
    study: Mapping[str, Any], trials: Sequence[Mapping[str, Any]], verdicts: Sequence[Mapping[str, Any]]
) -> dict[str, Any] | None:
    """What every arm paid, mean over trials; what a claim needs equal and is not is marked."""
    if not trials:
        return None
    columns = ["parameters", "operations", "saved_bytes", "seconds"]
    columns += [name for t in trials for name in t.get("counts") or {}]
    columns = [name for name in dict.fromkeys(columns) if any(_cost(t, name) is not None for t in trials)]
    order = list(dict.fromkeys(trial["arm"] for trial in trials))
    means: dict[str, dict[str, float | None]] = {}
    for arm in order:
        own = [trial for trial in trials if trial["arm"] == arm]
        means[arm] = {name: _mean([v for t in own if (v := _cost(t, name)) is not None]) for name in columns}
    payers = study.get("variants") or {}
    unequal: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        baselines = verdict.get("baseline")
        for name, by in (verdict.get("costs") or {}).items():
            method = verdict["method"]
            for baseline in [baselines] if isinstance(baselines, str) else baselines or []:
                ours, theirs = by.get(method), by.get(baseline)
                if ours is None or theirs is None or payers.get(baseline, baseline) == payers.get(method, method):
                    continue
                calibrated = name == "seconds" and {method, baseline} & set(study.get("calibrated") or [])
                if not calibrated and abs(ours - theirs) > EQUAL_WITHIN * max(abs(ours), abs(theirs)):
                    unequal.setdefault((payers.get(baseline, baseline), name), []).append(payers.get(method, method))
    form = {"saved_bytes": bytes_text, "seconds": lambda v: "–" if v is None else f"{number(v)} s"}
    rows = [
        {
            "arm": arm,
            "cells": [
                {
                    "text": form.get(name, count_text)(means[arm][name]),
                    "unequal": ", ".join(dict.fromkeys(unequal.get((arm, name), []))),
                }
                for name in columns
            ],
        }
        for arm in order
    ]
    costs: dict[str, list[float]] = {}
    for trial in trials:
        for variant, seconds in (trial.get("costs") or {}).items():
            costs.setdefault(variant, []).append(seconds)
    needed = {name for verdict in verdicts for name in verdict.get("equal") or []} or set(study.get("equal") or [])
    units = sorted({trial["unit"] for trial in trials if trial.get("unit")})
    return {
        "columns": [{"name": name.replace("_", " "), "needed": name in needed} for name in columns],
        "rows": rows,
        "counters": sorted({trial["counter"] for trial in trials if trial.get("counter")}),
        "unit": ", ".join(units),
        "needed": sorted(needed),
        "unmeasured": sorted(needed - set(columns)),
        "unequal": bool(unequal),
        "variants": dict(payers),
        "costs": {variant: f"{number(_mean(seconds))} s" for variant, seconds in costs.items()},
    }


def _cost(trial: Mapping[str, Any], name: str) -> float | None:
    value = trial.get(name)
    return value if value is not None else (trial.get("counts") or {}).get(name)


def _equal_times(study: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The arms whose length was set so that they train as long as another."""
    found = []
    for arm, spec in (study.get("equal_time") or {}).items():
        method, reference = spec[0], spec[1]
        took = {
            name: _mean([t["seconds"] for t in trials if t["arm"] == name and t.get("seconds") is not None])
            for name in (arm, reference)
        }
        found.append(
            {
                "arm": arm,
                "method": method,
                "reference": reference,
                "calibrated": arm in (study.get("calibrated") or []),
                "took": {name: f"{number(seconds)} s" for name, seconds in took.items() if seconds is not None},
            }
        )
    return found


def _pictures(trials: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The pictures of the lowest seed, by arm."""
    kept = [trial for trial in trials if trial.get("pictures")]
    first = min((trial["seed"] for trial in kept), default=0)
    return [
        {
            "arm": trial["arm"],
            "seed": first,
            "title": content.get("title") or content.get("kind"),
            "caption": content.get("caption") or "",
            "svg": Markup(svg) if (svg := figures.picture(content)) else None,
        }
        for trial in kept
        if trial["seed"] == first
        for content in trial["pictures"]
    ]


def table_view(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All rows, one line each."""
    flat = [(trial, row) for trial in trials for row in trial["rows"]]
    metrics = list(dict.fromkeys(name for _, row in flat for name in row["metrics"]))
    return {
        "metrics": metrics,
        "total": len(flat),
        "rows": [
            [
                trial["study"],
                trial["arm"],
                trial["seed"],
                row["variant"],
                row["cell"] if row["cell"] is not None else plain(trial.get("point") or None),
                *(
                    ("diverged" if row["metrics"][name] is None else plain(row["metrics"][name]))
                    if name in row["metrics"]
                    else ""
                    for name in metrics
                ),
            ]
            for trial, row in flat[:TABLE_ROWS]
        ],
    }
