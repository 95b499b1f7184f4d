"""Numbers in [0, 1] as spikes, and event files as frames of spikes. All results are time-major."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

ENCODINGS = ("rate", "latency", "direct")


def rate(x: Tensor, steps: int, generator: torch.Generator | None = None, draws: Tensor | None = None) -> Tensor:
    """(batch, ...) -> spikes (steps, batch, ...): each step fires with probability x.

    Args:
        draws: uniform numbers (steps, 1 or batch, ...) to compare x with, instead of fresh ones; see `fixed_draws`.
    """
    _check(x, steps)
    if draws is None:
        draws = torch.rand(steps, *x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return (draws < x).to(x.dtype)


def fixed_draws(steps: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Uniform numbers (steps, 1, *shape), the same every time and for every row: the rate code of evaluation.

    What a network says of a row then depends on neither chance nor the rows beside it.
    """
    return torch.rand(steps, 1, *shape, generator=torch.Generator().manual_seed(seed), device="cpu")


def latency(x: Tensor, steps: int) -> Tensor:
    """(batch, ...) -> spikes (steps, batch, ...): one at step round((1 - x)(steps - 1)), the brighter the sooner.

    Where x is 0 there is none.
    """
    _check(x, steps)
    when = ((1 - x) * (steps - 1)).round()
    step = torch.arange(steps, device=x.device, dtype=x.dtype).reshape(-1, *[1] * x.ndim)
    return ((when == step) & (x > 0)).to(x.dtype)


def direct(x: Tensor, steps: int) -> Tensor:
    """(batch, ...) -> the same current at every step (steps, batch, ...), without a copy."""
    _check(x, steps, unit=False)
    return x.expand(steps, *x.shape)


def encode(x: Tensor, steps: int, encoding: str, generator: torch.Generator | None = None) -> Tensor:
    """By name: `rate`, `latency` or `direct`."""
    if encoding == "rate":
        return rate(x, steps, generator)
    if encoding == "latency":
        return latency(x, steps)
    if encoding == "direct":
        return direct(x, steps)
    raise ValueError(f"encoding: one of {', '.join(ENCODINGS)} expected, given {encoding!r}")


def events(
    recorded: np.ndarray | Sequence[Sequence[float]],
    steps: int,
    height: int,
    width: int,
    duration: float | None = None,
) -> Tensor:
    """Events (t, x, y, polarity) of a sensor -> spikes (steps, 2, height, width): 1 where at least one fell.

    Args:
        recorded: rows (t, x, y, p), or a structured array with fields t, x, y, p; p is 0 or 1 (-1 counts as 0).
        duration: of the recording, in the unit of t; by default up to its last event.
    """
    table = np.asarray(recorded)
    if table.dtype.names:
        missing = [name for name in "txyp" if name not in table.dtype.names]
        if missing:
            raise ValueError(f"recorded: fields t, x, y, p expected, without {', '.join(missing)}")
        table = np.stack([table[name].astype(np.float64) for name in "txyp"], 1)
    if table.ndim != 2 or table.shape[1] != 4:
        raise ValueError(f"recorded: expected shape (events, 4), given {table.shape}")
    made = torch.zeros(steps, 2, height, width)
    if not len(table):
        return made
    t, x, y, p = table.T.astype(np.float64)
    if x.min() < 0 or y.min() < 0 or x.max() >= width or y.max() >= height:
        raise ValueError(
            f"recorded: x below {width} and y below {height} expected, given up to {x.max():g} and {y.max():g}"
        )
    begin = t.min()
    length = duration if duration is not None else max(t.max() - begin, 1e-12)
    when = np.floor((t - begin) / length * steps).astype(int)
    inside = when < steps if duration is not None else np.ones(len(t), bool)
    when = np.minimum(when, steps - 1)
    made[when[inside], (p[inside] > 0).astype(int), y[inside].astype(int), x[inside].astype(int)] = 1
    return made


def _check(x: Tensor, steps: int, unit: bool = True) -> None:
    if steps < 1:
        raise ValueError(f"steps: at least 1 expected, given {steps}")
    if unit and not torch.compiler.is_compiling() and bool(((x < 0) | (x > 1)).any()):
        raise ValueError(
            f"x: values from 0 to 1 expected, given from {float(x.min()):g} to {float(x.max()):g}; scale them, or use "
            "the direct encoding"
        )
