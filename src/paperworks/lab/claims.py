"""The four kinds of statement a paper can make about measured rows. A study declares them; `verdict` decides them.

Each is worded so that `supported` is good for the paper. `kind` says what role it plays: `headline` (the paper's
result), `mechanism` (why it is said to work), `control` (the method beats what could explain the result away).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["headline", "mechanism", "control"]
Better = Literal["higher", "lower"]
Scale = Literal["ratio", "difference"]


@dataclass(frozen=True, kw_only=True)
class _Options:
    kind: Kind = "headline"
    per: str | None = None  # "cell": the statement must hold in every cell
    cell: str | None = None  # only this cell's rows
    paired: bool = True  # False: counts out of independent restarts
    equal: Sequence[str] | None = None  # costs that must be equal within 5 %; None: the study's
    name: str | None = None
    note: str | None = None
    published: str | None = None  # the paper's own number and its table
    differs: str | None = None  # how its setting differs from ours


@dataclass(frozen=True)
class Beats(_Options):
    """`method` is better than `baseline` (than each one of a list) on `metric` by more than `by`.

    `by` is a factor on the ratio scale (1 = any improvement) and a difference on the difference scale (0 = any).
    The scale defaults to the ratio where lower is better (errors, costs) and to the difference where higher is.
    """

    metric: str
    method: str
    baseline: str | Sequence[str]
    by: float | None = None
    better: Better | None = None
    scale: Scale | None = None


@dataclass(frozen=True)
class NotWorse(_Options):
    """`method` is worse than `baseline` on `metric` by less than `margin` (a share of it on the ratio scale)."""

    metric: str
    method: str
    baseline: str | Sequence[str]
    margin: float = 0.0
    better: Better | None = None
    scale: Scale | None = None


@dataclass(frozen=True)
class Reaches(_Options):
    """`variant`'s `metric` is at least `value` (at most, where lower is better)."""

    metric: str
    variant: str
    value: float
    better: Better = "higher"


@dataclass(frozen=True)
class Scales(_Options):
    """`metric` grows like `against` to the power `exponent`, within `tolerance`, over the rows of `variant`.

    `against` is a swept setting or another metric of the same rows.
    """

    metric: str
    against: str
    exponent: float
    variant: str
    tolerance: float = 0.2


Claim = Beats | NotWorse | Reaches | Scales

LOWER_IS_BETTER = ("error", "loss", "mse", "rmse", "mae", "l2", "gap", "bytes", "seconds", "operations", "parameters")


def direction(claim: Beats | NotWorse) -> Better:
    """`better` as declared, or as the metric's name tells (`..._error`, `..._loss`, costs: lower is better)."""
    if claim.better:
        return claim.better
    return "lower" if any(word in claim.metric.lower().split("_") for word in LOWER_IS_BETTER) else "higher"


def scale_of(claim: Beats | NotWorse) -> Scale:
    """`scale` as declared; else the ratio for what should be low, the difference for what should be high."""
    return claim.scale or ("ratio" if direction(claim) == "lower" else "difference")
