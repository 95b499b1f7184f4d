"""A claim's effect on a strip: the threshold in the middle, better to the right, interval, mean and every seed.

Strips are SVG in percentages, so that they fit any width while dots and text keep their size.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from paperworks.lab.verdict import number

LEAST_EXPONENT = 0.5  # an exponent's strip shows at least this much on either side of its target
HALF = 45.0  # per cent of the width from the threshold to the farthest value


def effect_text(scale: str, value: float | None) -> str:
    """An effect with its unit: `8.1×`, `+0.012`, `0.82`."""
    if value is None:
        return "no value"
    if scale == "ratio" and value == 0:
        return "diverged"
    text = number(value).replace("-", "−")
    if scale == "ratio":
        return f"{text}×"
    return f"+{text}" if scale == "difference" and value > 0 else text


def interval_text(scale: str, ends: Sequence[float | None] | None) -> str:
    """An interval in words; an end that is not finite is `unbounded`."""
    if not ends or (ends[0] is None and ends[1] is None):
        return "no interval"
    unbounded = (None, 0) if scale == "ratio" else (None,)  # a method that diverged is infinitely worse
    low, high = ("unbounded" if end in unbounded else effect_text(scale, end) for end in ends)
    return f"{low} to {high}"


def needs_text(verdict: Mapping[str, Any]) -> str:
    """What the claim needs, in words: `needs 3×`."""
    word = {"value": "at least" if verdict["better"] == "higher" else "at most", "exponent": "exponent"}
    return f"{word.get(verdict['scale'], 'more than')} {effect_text(verdict['scale'], verdict['threshold'])}"


def strip(verdict: Mapping[str, Any], part: Mapping[str, Any], label: str) -> str:
    """The strip of one part of a verdict; parts of one verdict share their scale."""
    parts = verdict.get("parts") or [part]
    every = [value for each in [*parts, part] for value in _values(verdict, each)]
    reach = max([abs(u) for value in every if (u := _place(verdict, value)) is not None] or [0.0]) or 1.0
    if verdict["scale"] == "exponent":
        reach = max(reach, LEAST_EXPONENT)

    def at(value: float | None) -> float | None:
        u = _place(verdict, value)
        return None if u is None else 50 + HALF * u / reach

    drawn = [
        f'<svg class="strip s-{part["status"].replace(" ", "-")}" role="img" aria-label="{escape(label, quote=True)}" '
        'width="100%" height="46" xmlns="http://www.w3.org/2000/svg">',
        '<rect class="good" x="50%" y="14" width="50%" height="32"/>' if verdict["scale"] != "exponent" else "",
        '<line class="rail" x1="0" x2="100%" y1="27" y2="27"/>',
        '<line class="limit" x1="50%" x2="50%" y1="14" y2="46"/>',
        f'<text x="50%" y="10" text-anchor="middle">{escape(needs_text(verdict))}</text>',
    ]
    zero = at(_no_effect(verdict))
    if zero is not None and abs(zero - 50) > 1:
        drawn.append(f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="18" y2="46"/>')
    ends = part.get("interval")
    if ends and part.get("effect") is not None:
        low, high = (at(end) for end in ends)
        if verdict["scale"] == "value" and verdict["better"] == "lower":
            low, high = high, low
        drawn.append(_bar(1.0 if low is None else low, 99.0 if high is None else high))
        drawn += [_open_end(side) for side, end in (("left", low), ("right", high)) if end is None]
    for value in part.get("values") or [] if verdict.get("paired", True) else []:
        if (x := at(value)) is not None:
            drawn.append(f'<circle class="seed" cx="{x:.2f}%" cy="39" r="3"/>')
    if (x := at(part.get("effect"))) is not None:
        drawn.append(f'<circle class="mean" cx="{x:.2f}%" cy="27" r="5"/>')
    return "".join(drawn) + "</svg>"


def _bar(low: float, high: float) -> str:
    return f'<line class="interval" x1="{low:.2f}%" x2="{high:.2f}%" y1="27" y2="27"/>'


def _open_end(side: str) -> str:
    x, path = ("1%", "M6 -5 L0 0 L6 5") if side == "left" else ("99%", "M-6 -5 L0 0 L-6 5")
    return f'<svg x="{x}" y="27" overflow="visible"><path class="open" d="{path}"/></svg>'


def _values(verdict: Mapping[str, Any], part: Mapping[str, Any]) -> list[float | None]:
    seeds = list(part.get("values") or []) if verdict.get("paired", True) else []
    return [part.get("effect"), *(part.get("interval") or []), *seeds, _no_effect(verdict)]


def _no_effect(verdict: Mapping[str, Any]) -> float | None:
    return {"ratio": 1.0, "difference": 0.0}.get(verdict["scale"])


def _place(verdict: Mapping[str, Any], value: float | None) -> float | None:
    """Distance from the threshold, better being positive; ratios by their logarithm."""
    if value is None or not math.isfinite(value):
        return None
    threshold = verdict["threshold"]
    if verdict["scale"] == "ratio":
        return math.log(value / threshold) if value > 0 and threshold > 0 else None
    sign = -1 if verdict["scale"] == "value" and verdict["better"] == "lower" else 1
    return sign * (value - threshold)
