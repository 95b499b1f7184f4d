"""A study: one controlled comparison with its settings at three budgets; and the trial that its body is given."""

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from paperworks.errors import SettingError

from .claims import Claim

BUDGETS = ("smoke", "laptop", "paper")
SMOKE_SEEDS = 2
CURVE_POINTS = 120  # a recorded curve is thinned to about this many


class Settings(Mapping[str, Any]):
    """Read-only settings, by item or by attribute."""

    def __init__(self, values: Mapping[str, Any]):
        self._values = dict(values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_values":
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"no setting '{name}'; there are {', '.join(sorted(self._values))}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


class Study:
    """One controlled comparison: arms, settings at three budgets, claims, and the body that `@study.trial` marks.

    Args:
        name: a word; a paper's studies are run in the order in which `study.py` defines them.
        arms: what a trial runs and pays for.
        claims: what is held against the rows.
        question: what the study asks, one sentence.
        variants: other names that rows may bear, each with the arm that pays for it.
        settings: settings common to the budgets `smoke`, `laptop` and `paper`, which override them.
        per_arm: settings of single arms, over those of the budget.
        seeds: how many seeds laptop and paper runs take (smoke: 2; a deterministic study: 1).
        grid: settings tuned by `--tune`, alike for every arm, by the metric `select` (name, "higher" or "lower").
        tuning: settings that hold while tuning only (a shorter run, say).
        equal_time: further arms: name -> (arm, reference[, setting]): `arm` trained as long as `reference`, by
            scaling `setting` (default `steps`).
        sweep: settings whose every combination is run for every arm and seed; rows are celled by it.
        equal: the costs that claims need equal within 5 %.
        files: value of the setting `data` -> files needed below the data root.
        deterministic: seeds do not change the rows; one is run.
        trade_off: a cost, a metric and variants: the report draws the variants' metric against their cost, the cells of
            one joined by a line.
    """

    def __init__(
        self,
        name: str,
        *,
        arms: Sequence[str],
        claims: Sequence[Claim],
        question: str = "",
        variants: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        smoke: Mapping[str, Any] | None = None,
        laptop: Mapping[str, Any] | None = None,
        paper: Mapping[str, Any] | None = None,
        per_arm: Mapping[str, Mapping[str, Any]] | None = None,
        seeds: int = 5,
        grid: Mapping[str, Sequence[Any]] | None = None,
        select: tuple[str, str] | None = None,
        tuning: Mapping[str, Any] | None = None,
        equal_time: Mapping[str, Sequence[str]] | None = None,
        sweep: Mapping[str, Sequence[Any]] | None = None,
        equal: Sequence[str] = (),
        files: Mapping[str, Sequence[str]] | None = None,
        deterministic: bool = False,
        trade_off: tuple[str, str, Sequence[str]] | None = None,
    ):
        self.name, self.question, self.claims = name, question, tuple(claims)
        self.arms, self.variants = tuple(arms), dict(variants or {})
        self.settings = dict(settings or {})
        self.budgets = {"smoke": dict(smoke or {}), "laptop": dict(laptop or {}), "paper": dict(paper or {})}
        self.per_arm = {arm: dict(values) for arm, values in (per_arm or {}).items()}
        self.seeds, self.deterministic, self.trade_off = seeds, deterministic, trade_off
        self.grid, self.select, self.tuning = dict(grid or {}), select, dict(tuning or {})
        self.equal_time = {arm: tuple(spec) for arm, spec in (equal_time or {}).items()}
        self.sweep, self.equal = dict(sweep or {}), tuple(equal)
        self.files = {data: tuple(paths) for data, paths in (files or {}).items()}
        self.body: Callable[[Trial], None] | None = None
        self._check()

    def _check(self) -> None:
        if self.grid and (not self.select or self.select[1] not in ("higher", "lower")):
            raise ValueError(f"study {self.name}: a grid needs select=(metric, 'higher' or 'lower')")
        for arm, (method, reference, *_) in self.equal_time.items():
            if arm in self.arms or method not in self.arms or reference not in self.arms:
                raise ValueError(f"study {self.name}: equal_time {arm} must be a new name over two of the arms")
        for variant, arm in self.variants.items():
            if arm not in self.all_arms:
                raise ValueError(f"study {self.name}: variant {variant} is paid for by {arm}, which is no arm")
        for claim in self.claims:
            named = [getattr(claim, "variant", None) or claim.method]  # type: ignore[union-attr]
            baselines = getattr(claim, "baseline", [])
            named += [baselines] if isinstance(baselines, str) else list(baselines)
            for name in named:
                if name not in self.all_arms and name not in self.variants:
                    raise ValueError(f"study {self.name}: a claim names {name}, which is neither arm nor variant")
        for name in self.trade_off[2] if self.trade_off else ():
            if name not in self.all_arms and name not in self.variants:
                raise ValueError(f"study {self.name}: trade_off names {name}, which is neither arm nor variant")
        for arm in self.per_arm:
            if arm not in self.all_arms:
                raise ValueError(f"study {self.name}: per_arm names {arm}, which is no arm")

    @property
    def all_arms(self) -> tuple[str, ...]:
        """The declared arms and the equal-time ones."""
        return (*self.arms, *self.equal_time)

    def method(self, arm: str) -> str:
        """The arm whose code an equal-time arm runs; any other arm itself."""
        return self.equal_time[arm][0] if arm in self.equal_time else arm

    def scaled_setting(self, arm: str) -> str:
        """The setting that an equal-time arm scales."""
        spec = self.equal_time[arm]
        return spec[2] if len(spec) > 2 else "steps"

    def trial(self, body: "Callable[[Trial], None]") -> "Callable[[Trial], None]":
        """Mark the function that runs one trial."""
        self.body = body
        return body

    def known_settings(self) -> dict[str, Any]:
        """Every setting with a value that shows its type."""
        known: dict[str, Any] = {}
        for source in (*self.budgets.values(), self.settings, *self.per_arm.values()):
            known = {**source, **known}
        for name, values in {**self.grid, **self.sweep}.items():
            known.setdefault(name, values[0])
        return known

    def resolve(self, budget: str, arm: str | None = None, *layers: Mapping[str, Any]) -> dict[str, Any]:
        """The settings at `budget`, of one arm if named, with further `layers` over them."""
        resolved = {**self.settings, **self.budgets[budget]}
        if arm is not None:
            resolved |= self.per_arm.get(self.method(arm), {}) | self.per_arm.get(arm, {})
        for layer in layers:
            resolved |= layer
        return resolved

    def points(self, overrides: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The sweep's grid points; a swept setting that is overridden is swept no more."""
        swept = {name: values for name, values in self.sweep.items() if name not in overrides}
        return [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]


def parse_settings(pairs: Sequence[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """`name=value` texts as settings, each converted to the type its known value has.

    Raises:
        SettingError: no '=', a name that no study has (with the nearest), or a value of another type.
    """
    parsed = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise SettingError(f"'{pair}' is not a setting; write name=value, for example steps=500")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            raise SettingError(f"no setting '{name}'{hint} There are: {', '.join(sorted(known)) or 'none'}")
        parsed[name] = _converted(name, text, known[name])
    return parsed


def _converted(name: str, text: str, like: Any) -> Any:
    if isinstance(like, str):
        return text

    def refuse(constant: str) -> None:
        raise SettingError(f"setting {name}={text}: {constant} is no setting; write a finite number")

    try:
        value = json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text), parse_constant=refuse)
    except SettingError:
        raise
    except (ValueError, RecursionError):  # no JSON, a number of thousands of digits, or nested beyond reason
        value = text
    kind = type(like)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return value
    number_ok = not isinstance(value, float) or math.isfinite(value)
    if kind is int and type(value) is int and value < 0 < like:  # a count: steps, widths, sizes
        raise SettingError(f"setting {name}={text}: expected a whole number from 0, such as {like}")
    if like is None or (type(value) is (list if kind is tuple else kind) and number_ok):
        return value
    raise SettingError(f"setting {name}={text}: expected {kind.__name__} such as {json.dumps(like)}")


class Trial:
    """One arm, one seed, one grid point: what a study's body works with.

    Attributes:
        arm: the arm, and `method` the arm whose code it runs (they differ for equal-time arms).
        seed: from 0; torch is seeded with it before the body starts.
        settings: resolved for this arm and grid point.
        data_root: the folder given by `--data` or `PAPERWORKS_DATA`, or None.
        device: the torch device's name; a study that never asks for it runs on the CPU, and the result says so.
        checkpoint: hand it to `fit`: a killed trial goes on from there.
    """

    def __init__(
        self,
        *,
        arm: str,
        method: str,
        seed: int,
        settings: Mapping[str, Any],
        point: Mapping[str, Any] | None = None,
        data_root: Path | None = None,
        device: str = "cpu",
        checkpoint: Any = None,
        progress: Callable[[int, int | None, dict[str, Any]], None] | None = None,
    ):
        self.arm, self.method, self.seed = arm, method, seed
        self._device, self.device_used = device, False
        self.settings, self.point = Settings(settings), dict(point or {})
        self.data_root, self.checkpoint = data_root, checkpoint
        self.rows: list[dict[str, Any]] = []
        self.curves: dict[str, list[list[float | None]]] = {}
        self.pictures: list[dict[str, Any]] = []
        self.notes: dict[str, str] = {}
        self.measured: dict[str, Any] = {}
        self.counts: dict[str, float] = {}
        self.costs: dict[str, float] = {}
        self.training_seconds: float | None = None
        self.off_the_clock = 0.0
        self._progress = progress

    @property
    def device(self) -> str:
        """The torch device's name."""
        self.device_used = True
        return self._device

    def row(self, variant: str | None = None, cell: str | None = None, **metrics: Any) -> None:
        """Report what was measured: numbers, or None for a metric that diverged."""
        point = ", ".join(f"{name}={value}" for name, value in self.point.items())
        cell = ", ".join(part for part in (point, cell) if part) or None
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        self.rows.append({"variant": variant or self.arm, "cell": cell, "metrics": numbers})

    def count(
        self, model: Any, step: Callable[[], Any] | None = None, *, unit: str = "step", **counts: float
    ) -> dict[str, Any]:
        """Count what one step costs: parameters, operations, saved activation bytes. Off the clock, once a trial.

        `model` is a module or None, `step` runs one training step's forward pass and returns the loss. Further
        `counts` are a method's own (block evaluations, spikes); those the claims need equal are compared.
        """
        from paperworks import measure

        began = time.perf_counter()
        if model is not None:
            self.measured["parameters"] = measure.count_parameters(model)
        if step is not None:
            import torch

            with torch.random.fork_rng(devices=[]):
                operations = measure.count_operations(step)
            self.measured["operations"] = int(operations)
            self.measured["counter"] = getattr(operations, "counter", "torch FlopCounterMode")
            with torch.random.fork_rng(devices=[]):
                self.measured["saved_bytes"] = int(measure.saved_bytes(step))
        self.measured["unit"] = unit
        self.counts |= {name: float(value) for name, value in counts.items()}
        self.off_the_clock += time.perf_counter() - began
        return dict(self.measured)

    def log(self, step: int, total: int | None = None, *, seconds: float | None = None, **metrics: Any) -> None:
        """Record points of learning curves and show progress; `seconds` is the training time so far."""
        if seconds is not None:
            self.training_seconds = float(seconds)
        self.counts["steps"] = max(self.counts.get("steps", 0.0), float(step))
        numbers = {name: _number(name, value) for name, value in metrics.items()}
        for name, value in numbers.items():
            curve = self.curves.setdefault(name, [])
            if curve and curve[-1][0] == step:
                curve.pop()
            curve.append([step, value])
        if self._progress:
            self._progress(step, total, numbers)

    @contextmanager
    def cost(self, variant: str) -> Iterator[None]:
        """Charge the seconds spent inside to `variant` alone."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.costs[variant] = self.costs.get(variant, 0.0) + time.perf_counter() - began

    def note(self, about: str, text: str) -> None:
        """Keep a sentence about what was not measured, and why."""
        self.notes[about] = text

    def picture(self, title: str, kind: str, *, caption: str = "", **content: Any) -> None:
        """Keep something worth looking at: `lines`, `bars`, `heatmap`, `scatter`, `images` or `network`, as small
        plain lists."""
        if kind not in ("lines", "bars", "heatmap", "scatter", "images", "network"):
            raise ValueError(f"picture kind {kind!r}: one of lines, bars, heatmap, scatter, images, network")
        self.pictures.append({"title": title, "kind": kind, "caption": caption, **_plain(content)})


def _number(name: str, value: Any) -> float | int | None:
    if value is None:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, bool | int):
        return int(value)
    if not isinstance(value, float):
        raise TypeError(f"metric {name}: a number or None, not {type(value).__name__}")
    return value if math.isfinite(value) else None


def _plain(value: Any) -> Any:
    """Tensors and arrays as nested lists, floats at the precision a picture needs."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def thinned(curve: Sequence[Sequence[float | None]]) -> list[Sequence[float | None]]:
    """A curve of at most about CURVE_POINTS points, its last one kept."""
    stride = math.ceil(len(curve) / CURVE_POINTS)
    kept = list(curve[::stride]) if stride > 1 else list(curve)
    return kept if not curve or kept[-1] is curve[-1] else [*kept, curve[-1]]
