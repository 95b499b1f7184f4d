"""How a verdict is computed: a 95 % t-interval over seeds of the paired effect, held against the claim's threshold.

Interval above the threshold: `supported`; below: `not supported`; across it, or a single seed: `inconclusive`.
Seeds are the only repetition: what a row averages inside one seed (neurons, images) is not independent.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from .claims import Beats, Claim, NotWorse, Reaches, Scales, direction, scale_of

Status = Literal["supported", "not supported", "inconclusive"]
EQUAL_WITHIN = 0.05


@dataclass
class Part:
    """One comparison behind a verdict: one baseline in one cell."""

    cell: str | None
    baseline: str | None
    effect: float | None
    interval: list[float | None] | None
    status: Status
    values: list[float | None]
    seeds: int
    fair: bool | None = None
    diverged: dict[str, int] = field(default_factory=dict)  # variant -> in how many seeds


@dataclass
class Verdict:
    """A claim, decided. Where it has several parts, `effect` and `interval` are those of the weakest."""

    study: str
    claim: str
    kind: str
    status: Status
    effect: float | None
    interval: list[float | None] | None
    threshold: float
    scale: str
    better: str
    metric: str
    method: str
    baseline: str | list[str] | None
    seeds: int
    paired: bool
    fair: bool | None
    equal: list[str]
    costs: dict[str, dict[str, float]]
    sentence: str
    published: str | None = None
    differs: str | None = None
    note: str | None = None
    parts: list[Part] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class Rows:
    """The rows of one study's trials, looked up by variant, cell and seed."""

    def __init__(self, trials: Iterable[Mapping[str, Any]], variants: Mapping[str, str] | None = None):
        self.payers = dict(variants or {})
        values: dict[tuple[str, str, str | None], dict[int, list[float | None]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.cells: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._counts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._xs: dict[tuple[str, str], dict[int, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
        for trial in trials:
            costs = {"parameters": trial.get("parameters"), "operations": trial.get("operations")}
            costs |= {"saved_bytes": trial.get("saved_bytes"), "seconds": trial.get("seconds")}
            for name, count in (costs | dict(trial.get("counts") or {})).items():
                if count is not None:
                    self._counts[trial["arm"]][name].append(float(count))
            for variant, seconds in (trial.get("costs") or {}).items():
                self._counts[variant]["seconds"].append(float(seconds))
            for row in trial["rows"]:
                variant, cell = row["variant"], row["cell"]
                for metric, value in row["metrics"].items():
                    values[variant, metric, cell][trial["seed"]].append(value)
                    if cell is not None and cell not in self.cells[variant, metric]:
                        self.cells[variant, metric].append(cell)
                    numbers = {**trial.get("settings", {}), **trial.get("point", {}), **row["metrics"]}
                    for name, x in numbers.items():
                        if isinstance(x, int | float) and not isinstance(x, bool) and value is not None:
                            self._xs[variant, metric + "\0" + name][trial["seed"]].append((float(x), value))
        self._values = {key: {seed: _mean(found) for seed, found in by.items()} for key, by in values.items()}

    def by_seed(self, variant: str, metric: str, cell: str | None) -> dict[int, float | None]:
        """Seed -> value; without a cell, the row that has none, or else the mean over all cells."""
        if cell is not None or (variant, metric, None) in self._values:
            return self._values.get((variant, metric, cell), {})
        collected: dict[int, list[float | None]] = defaultdict(list)
        for name in self.cells[variant, metric]:
            for seed, value in self._values[variant, metric, name].items():
                collected[seed].append(value)
        return {seed: _mean(found) for seed, found in collected.items()}

    def points(self, variant: str, metric: str, against: str) -> dict[int, list[tuple[float, float]]]:
        """Seed -> (x, value) pairs for a scaling claim."""
        return self._xs.get((variant, metric + "\0" + against), {})

    def cost(self, variant: str, name: str) -> float | None:
        """Mean over trials of what the variant's arm paid."""
        for payer in (variant, self.payers.get(variant)):
            found = self._counts.get(payer or "", {}).get(name)
            if found:
                return sum(found) / len(found)
        return None


def _mean(values: Sequence[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if len(numbers) == len(values) and values else None


def t_interval(values: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean and 95 % t-interval of independent values; None for fewer than two."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return None
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    return mean, mean - half, mean + half


def welch_interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float, float] | None:
    """Difference of two means and its 95 % interval, the samples being independent of each other (Welch)."""
    from scipy.special import stdtrit

    if len(a) < 2 or len(b) < 2:
        return None
    means = [math.fsum(x) / len(x) for x in (a, b)]
    parts = [math.fsum((v - m) ** 2 for v in x) / (len(x) - 1) / len(x) for x, m in zip((a, b), means, strict=True)]
    difference, variance = means[0] - means[1], sum(parts)
    if variance == 0:
        return difference, difference, difference
    freedom = variance**2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    return difference, difference - half, difference + half


def decide(interval: tuple[float, float, float] | None, threshold: float, inclusive: bool = False) -> Status:
    """The verdict's rule, for effects of which more is better."""
    if interval is None:
        return "inconclusive"
    _, low, high = interval
    if low > threshold or (inclusive and low >= threshold):
        return "supported"
    return "not supported" if high < threshold or (not inclusive and high == low == threshold) else "inconclusive"


def judge(claim: Claim, study: Any, rows: Rows, calibrated: frozenset[str] = frozenset()) -> Verdict:
    """Decide one claim of a study from its rows.

    `calibrated` names the equal-time arms whose steps were calibrated: they count as equal in seconds.
    """
    method = claim.variant if isinstance(claim, Reaches | Scales) else claim.method
    if isinstance(claim, Beats | NotWorse):
        baselines = [claim.baseline] if isinstance(claim.baseline, str) else list(claim.baseline)
        scale, better = scale_of(claim), direction(claim)
        threshold = _threshold(claim, scale)
    else:
        baselines = [None]
        scale = "value" if isinstance(claim, Reaches) else "exponent"
        better = claim.better if isinstance(claim, Reaches) else "higher"
        threshold = claim.value if isinstance(claim, Reaches) else claim.exponent
    cells = rows.cells[method, claim.metric] if claim.per else [claim.cell]
    equal = list(study.equal if claim.equal is None else claim.equal) if baselines != [None] else []
    parts = []
    for cell in cells or [None]:
        for baseline in baselines:
            part = _part(claim, rows, method, baseline, cell, scale, better, threshold, study.deterministic)
            part.fair = _fair(rows, method, baseline, equal, study, calibrated) if baseline and equal else None
            parts.append(part)
    states = {part.status for part in parts}
    status: Status = "inconclusive"
    if "not supported" in states:
        status = "not supported"
    elif states == {"supported"}:
        status = "supported"
    weakest = min(parts, key=lambda part: _rank(part, better if scale == "value" else "higher"))
    fairness = [part.fair for part in parts]
    costs = {
        name: {v: c for v in dict.fromkeys([method, *filter(None, baselines)]) if (c := rows.cost(v, name)) is not None}
        for name in equal
    }
    verdict = Verdict(
        study=study.name,
        claim=claim.name or wording(claim),
        kind=claim.kind,
        status=status,
        effect=weakest.effect,
        interval=weakest.interval,
        threshold=threshold,
        scale=scale,
        better=better,
        metric=claim.metric,
        method=method,
        baseline=None if baselines == [None] else baselines[0] if len(baselines) == 1 else baselines,  # type: ignore[arg-type]
        seeds=min(part.seeds for part in parts),
        paired=claim.paired,
        fair=False if False in fairness else (None if None in fairness else True),
        equal=equal,
        costs=costs,
        sentence="",
        published=claim.published,
        differs=claim.differs,
        note=claim.note,
        parts=parts,
    )
    verdict.sentence = sentence(verdict)
    return verdict


def _threshold(claim: Beats | NotWorse, scale: str) -> float:
    if isinstance(claim, NotWorse):
        return 1 / (1 + claim.margin) if scale == "ratio" else -claim.margin
    return (1.0 if scale == "ratio" else 0.0) if claim.by is None else float(claim.by)


def _rank(part: Part, better: str) -> float:
    if part.effect is None:
        return -math.inf
    return part.effect if better == "higher" else -part.effect


def _part(claim, rows, method, baseline, cell, scale, better, threshold, deterministic) -> Part:
    if isinstance(claim, Scales):
        values = {seed: _slope(points) for seed, points in rows.points(method, claim.metric, claim.against).items()}
        numbers = [value for value in values.values() if value is not None]
        interval = _interval(numbers, deterministic) if len(numbers) == len(values) else None
        status: Status = "inconclusive"
        if interval:
            low, high = claim.exponent - claim.tolerance, claim.exponent + claim.tolerance
            status = "supported" if low <= interval[1] and interval[2] <= high else "inconclusive"
            status = "not supported" if interval[2] < low or interval[1] > high else status
        return _as_part(cell, None, interval, status, values)
    ours = rows.by_seed(method, claim.metric, cell)
    if baseline is None:
        if None in ours.values():
            part = _as_part(cell, None, None, "not supported" if len(ours) > 1 else "inconclusive", ours)
            part.diverged = _diverged({method: ours})
            return part
        interval = _interval([value for value in ours.values() if value is not None], deterministic)
        sign = 1 if better == "higher" else -1
        low, high = sorted(sign * end for end in interval[1:]) if interval else (0.0, 0.0)
        turned = (sign * interval[0], low, high) if interval else None
        return _as_part(cell, None, interval, decide(turned, sign * threshold, inclusive=True), ours)
    theirs = rows.by_seed(baseline, claim.metric, cell)
    if not claim.paired:
        a, b = ([_on_scale(v, scale) for v in side.values() if v is not None] for side in (ours, theirs))
        lost = len(a) < len(ours) or len(b) < len(theirs)
        interval = None if lost else welch_interval(a, b)
        if interval and better == "lower":
            interval = (-interval[0], -interval[2], -interval[1])
        effects: dict[int, float | None] = dict(ours)
    else:
        effects = {seed: _effect(ours[seed], theirs[seed], scale, better) for seed in ours if seed in theirs}
        interval = _paired_interval(effects, deterministic)
    limit = math.log(threshold) if scale == "ratio" else threshold
    status = decide(interval, limit)
    if scale == "ratio":
        interval = interval and tuple(_exp(value) for value in interval)
        effects = {seed: None if v is None else _exp(v) for seed, v in effects.items()} if claim.paired else effects
    part = _as_part(cell, baseline, interval, status, effects)
    part.diverged = _diverged({method: ours, baseline: theirs})
    return part


def _diverged(sides: Mapping[str, Mapping[int, float | None]]) -> dict[str, int]:
    counts = {name: sum(value is None for value in values.values()) for name, values in sides.items()}
    return {name: count for name, count in counts.items() if count}


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _on_scale(value: float, scale: str) -> float:
    return math.log(max(value, 1e-300)) if scale == "ratio" else value


def _effect(ours: float | None, theirs: float | None, scale: str, better: str) -> float | None:
    """The paired effect, more being better for the method; infinite where one side diverged, None where both did."""
    if ours is None or theirs is None:
        return None if ours is theirs else (-math.inf if ours is None else math.inf)
    difference = _on_scale(ours, scale) - _on_scale(theirs, scale)
    return difference if better == "higher" else -difference


def _paired_interval(effects: dict[int, float | None], deterministic: bool) -> tuple[float, float, float] | None:
    """The t-interval of paired effects. A diverged method is worst: the interval then reaches down to minus infinity.

    A diverged baseline counts as no more than the best effect seen on the other seeds, so that it cannot narrow or
    widen the interval in the method's favour; its upper end is open.
    """
    values = [value for value in effects.values() if value is not None]
    finite = [value for value in values if math.isfinite(value)]
    if len(values) < len(effects) or not values:
        return None
    if len(finite) == len(values):
        return _interval(values, deterministic)
    if len(values) < 2:
        return None
    lost, won = -math.inf in values, math.inf in values
    if not finite:
        return (-math.inf, -math.inf, math.inf if won else -math.inf) if lost else (math.inf, math.inf, math.inf)
    known = [max(finite) if value == math.inf else value for value in values if value != -math.inf]
    inner = _interval(known, deterministic) or (known[0], -math.inf, math.inf)
    return (-math.inf if lost else inner[0], -math.inf if lost else inner[1], math.inf if won else inner[2])


def _interval(values: Sequence[float], deterministic: bool) -> tuple[float, float, float] | None:
    if deterministic and len(values) == 1:
        return values[0], values[0], values[0]
    return t_interval(values)


def _slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Least-squares slope of log value against log x."""
    logs = [(math.log(x), math.log(y)) for x, y in points if x > 0 and y > 0]
    if len({x for x, _ in logs}) < 2 or len(logs) < len(points):
        return None
    mx, my = (math.fsum(column) / len(logs) for column in zip(*logs, strict=True))
    return math.fsum((x - mx) * (y - my) for x, y in logs) / math.fsum((x - mx) ** 2 for x, _ in logs)


def _as_part(cell, baseline, interval, status, values: Mapping[int, float | None]) -> Part:
    def plain(value: float | None) -> float | None:
        return value if value is not None and math.isfinite(value) else None

    shown = [plain(values[seed]) for seed in sorted(values)]
    centre = plain(interval[0]) if interval else (shown[0] if len(shown) == 1 else None)
    ends = [plain(interval[1]), plain(interval[2])] if interval else None
    return Part(cell, baseline, centre, ends, status, shown, len(values))


def _fair(rows: Rows, method, baseline, equal, study, calibrated) -> bool | None:
    for name in equal:
        if name == "seconds":
            pairs = {frozenset((arm, spec[1])) for arm, spec in study.equal_time.items() if arm in calibrated}
            if frozenset(study.variants.get(each, each) for each in (method, baseline)) in pairs:
                continue
        ours, theirs = rows.cost(method, name), rows.cost(baseline, name)
        if ours is None or theirs is None:
            return None
        if abs(ours - theirs) > EQUAL_WITHIN * max(abs(ours), abs(theirs)):
            return False
    return True


def wording(claim: Claim) -> str:
    """The claim in words, generated."""
    if isinstance(claim, Reaches):
        return f"{claim.variant} reaches {claim.metric} {'>=' if claim.better == 'higher' else '<='} {claim.value:g}"
    if isinstance(claim, Scales):
        return f"{claim.metric} of {claim.variant} scales like {claim.against}^{claim.exponent:g}"
    names = claim.baseline if isinstance(claim.baseline, str) else " and ".join(claim.baseline)
    ratio = scale_of(claim) == "ratio"
    if isinstance(claim, NotWorse):
        margin = f"{claim.margin:.0%}" if ratio else f"{claim.margin:g}"
        return f"{claim.method} is not worse than {names} on {claim.metric} by more than {margin}"
    threshold = _threshold(claim, scale_of(claim))
    by = "" if threshold == (1 if ratio else 0) else f" by {threshold:g}{'x' if ratio else ''}"
    return f"{claim.method} beats {names} on {claim.metric}{by}"


def number(value: float | None) -> str:
    """A number as a reader wants it: a count whole, all else in three significant digits."""
    if value is None:
        return "unbounded"
    if 1000 <= abs(value) < 1e9 and value == int(value):
        return f"{value:,.0f}"
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.2e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def sentence(v: Verdict) -> str:
    """One sentence: effect, interval, seeds, at equal what, and the verdict."""
    weakest = next((p for p in v.parts if p.effect == v.effect and p.interval == v.interval), v.parts[0])
    against = weakest.baseline or ""
    where = f" in {weakest.cell}" if weakest.cell and len(v.parts) > 1 else ""
    if weakest.diverged and (v.effect is None or v.method in weakest.diverged):
        lost = " and ".join(f"{name} in {count} of {weakest.seeds}" for name, count in weakest.diverged.items())
        return f"{v.metric}{where} diverged: {lost} seed{'' if weakest.seeds == 1 else 's'}: {v.status}."
    if v.effect is None:
        effect = f"{v.method} on {v.metric} could not be measured"
    elif v.scale == "ratio":
        won = v.effect >= 1
        word = ("lower" if won else "higher") if v.better == "lower" else ("higher" if won else "lower")
        factor = v.effect if won else 1 / v.effect
        effect = f"{v.metric} of {v.method} is {number(factor)} times {word} than that of {against}{where}"
    elif v.scale == "difference":
        better = v.effect >= 0
        word = ("higher" if better else "lower") if v.better == "higher" else ("lower" if better else "higher")
        effect = f"{v.metric} of {v.method} is {number(abs(v.effect))} {word} than that of {against}{where}"
    elif v.scale == "exponent":
        effect = f"{v.metric} of {v.method} scales with exponent {number(v.effect)}"
    else:
        effect = f"{v.metric} of {v.method} is {number(v.effect)}{where}"
    interval = "no interval"
    if v.interval and v.interval != [None, None]:
        ends = v.interval
        if v.scale == "difference" and v.effect is not None and v.effect < 0:
            ends = [None if end is None else -end for end in reversed(ends)]
        if v.scale == "ratio" and v.effect is not None and v.effect < 1:
            ends = [None if end is None or end == 0 else 1 / end for end in reversed(ends)]
        low, high = (number(end) if end is not None else "unbounded" for end in ends)
        interval = f"95 % interval {low} to {high}"
    seeds = f"{v.seeds} seed{'' if v.seeds == 1 else 's'}"
    equal = f", at equal {' and '.join(v.equal)}" if v.equal and v.fair else ""
    unfair = f", NOT at equal {' and '.join(v.equal)}" if v.fair is False else ""
    return f"{effect} ({interval}, {seeds}{equal}{unfair}): {v.status}."
