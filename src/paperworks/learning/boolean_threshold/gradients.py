"""Networks of the same wiring trained by gradients, many starts at once: what reflect-reflect-relax is held against.

Layered networks whose neurons see the layer before and the constant -1, Adam on the logistic loss of all items. Hidden
neurons are tanh, or signs whose gradient is that of another function: of a clipped line, say, or of tanh.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from paperworks.nn.straight_through import binary_sign

KINDS = ("sign", "tanh")


def straight_through_sign(x: Tensor, slope: str = "clip") -> Tensor:
    """-1 or 1; its gradient is that of an estimator of `paperworks.nn.binary_sign`: clip, tanh and others."""
    return binary_sign(x, slope, of_zero=-1)


def draw_layers(widths: Sequence[int], starts: int, generator: torch.Generator) -> list[Tensor]:
    """Normal weights of variance 1 / D, (starts, D, neurons) a layer, the constant's last."""
    return [
        torch.randn(starts, n_in + 1, n_out, generator=generator) / math.sqrt(n_in + 1)
        for n_in, n_out in pairwise(widths)
    ]


def outputs(layers: Sequence[Tensor], x: Tensor, hidden: Callable[[Tensor], Tensor]) -> Tensor:
    """Sums that reach the outputs, (starts, items, outputs)."""
    values = x.expand(len(layers[0]), -1, -1)
    for number, w in enumerate(layers):
        values = torch.baddbmm(-w[:, -1:], values, w[:, :-1])
        if number < len(layers) - 1:
            values = hidden(values)
    return values


def hard(x: Tensor) -> Tensor:
    """-1 or 1."""
    return torch.where(x > 0, 1.0, -1.0)


def bit_accuracy(sums: Tensor, y: Tensor) -> Tensor:
    """Share of right output bits of every start."""
    return ((sums > 0) == (y > 0)).double().mean((1, 2))


@dataclass
class Trained:
    """What became of the starts, judged in one way.

    Attributes:
        accuracy: highest share of right bits seen on the items, (starts,).
        layers: the weights at which it was seen.
        steps: at which a start was right in every bit for the first time; 0 if never.
    """

    accuracy: Tensor
    layers: list[Tensor]
    steps: Tensor

    def look(self, step: int, layers: Sequence[Tensor], right: Tensor) -> None:
        """Keep what is better than before."""
        better = right >= self.accuracy  # of equals the last: gradients go on widening margins
        self.accuracy = torch.where(better, right, self.accuracy)
        self.steps[(right == 1) & (self.steps == 0)] = step
        for mine, now in zip(self.layers, layers, strict=True):
            mine[better] = now[better]


def train_starts(
    widths: Sequence[int],
    x: Tensor,
    y: Tensor,
    *,
    kind: str,
    starts: int,
    steps: int,
    lr: float,
    seed: int,
    slope: str = "clip",
    check_every: int = 50,
    stop_when_right: bool = True,
    log: Callable[..., None] | None = None,
) -> dict[str, Trained]:
    """Train all starts together.

    Args:
        x, y: (items, inputs) and (items, outputs), -1 and 1.
        kind: `sign` or `tanh`.
        slope: whose gradient signs take; see `straight_through_sign`.
        check_every: steps between looks at the accuracy.
        stop_when_right: stop when each start was right in every bit at a look.

    Returns:
        The networks as they are, and of tanh networks also as they are with signs for hidden neurons (`binarised`).
    """
    if kind not in KINDS:
        raise ValueError(f"kind: one of {', '.join(KINDS)}, given {kind!r}")
    hidden = partial(straight_through_sign, slope=slope) if kind == "sign" else torch.tanh
    layers = [w.requires_grad_() for w in draw_layers(widths, starts, torch.Generator().manual_seed(seed))]
    optimizer = torch.optim.Adam(layers, lr=lr, fused=True)
    judged = {"sign": hard} if kind == "sign" else {"tanh": torch.tanh, "binarised": hard}
    found = {}
    for name in judged:
        never, nothing = torch.zeros(starts, dtype=torch.long), torch.full((starts,), -1.0, dtype=torch.float64)
        found[name] = Trained(nothing, [w.detach().clone() for w in layers], never)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        # The sum over starts: Adam treats each weight alone, so that starts do not touch each other.
        loss = F.softplus(-y * outputs(layers, x, hidden)).mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % check_every == 0 or step == steps:
            with torch.no_grad():
                for name, judge in judged.items():
                    found[name].look(step, layers, bit_accuracy(outputs(layers, x, judge), y))
            if log:
                accuracy = float(found[kind].accuracy.mean())
                log(step, steps, train_accuracy=accuracy, seconds=time.perf_counter() - began)
            if stop_when_right and all(bool((trained.steps > 0).all()) for trained in found.values()):
                break
    return found
