"""Networks of the same wiring trained by gradients, many starts at once: what reflect-reflect-relax is held against.

Layered networks whose neurons see the layer before and the constant -1, Adam on the logistic loss of all items. Hidden
neurons are tanh, or signs whose gradient passes straight through where the sum lies in [-1, 1].
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

KINDS = ("sign", "tanh")


def straight_through_sign(x: Tensor) -> Tensor:
    """-1 or 1; its gradient is that of x clamped to [-1, 1]."""
    soft = x.clamp(-1, 1)
    return soft + (torch.where(x > 0, 1.0, -1.0) - soft).detach()


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
    """What became of the starts.

    Attributes:
        accuracy: highest share of right bits seen on the items, (starts,).
        layers: the weights at which it was seen.
        steps: at which a start was right in every bit for the first time; 0 if never.
        seconds: spent training.
    """

    accuracy: Tensor
    layers: list[Tensor]
    steps: Tensor
    seconds: float


def train_starts(
    widths: Sequence[int],
    x: Tensor,
    y: Tensor,
    *,
    kind: str,
    binarised: bool = False,
    starts: int,
    steps: int,
    lr: float,
    seed: int,
    check_every: int = 50,
    log: Callable[..., None] | None = None,
) -> Trained:
    """Train all starts together until each was right in every bit at a look, or to the last step.

    Args:
        x, y: (items, inputs) and (items, outputs), -1 and 1.
        kind: `sign` or `tanh`.
        binarised: judge a tanh network with its hidden neurons replaced by their signs.
        check_every: steps between looks at the accuracy.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: one of {', '.join(KINDS)}, given {kind!r}")
    hidden = straight_through_sign if kind == "sign" else torch.tanh
    judged = hard if kind == "sign" or binarised else torch.tanh
    layers = [w.requires_grad_() for w in draw_layers(widths, starts, torch.Generator().manual_seed(seed))]
    optimizer = torch.optim.Adam(layers, lr=lr, fused=True)
    best, first = torch.full((starts,), -1.0, dtype=torch.float64), torch.zeros(starts, dtype=torch.long)
    kept = [w.detach().clone() for w in layers]
    began = time.perf_counter()
    for step in range(1, steps + 1):
        # The sum over starts: Adam treats each weight alone, so that starts do not touch each other.
        loss = F.softplus(-y * outputs(layers, x, hidden)).mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % check_every == 0 or step == steps:
            with torch.no_grad():
                right = bit_accuracy(outputs(layers, x, judged), y)
                better = right > best
                best = torch.where(better, right, best)
                first[(right == 1) & (first == 0)] = step
                for mine, now in zip(kept, layers, strict=True):
                    mine[better] = now[better]
            if log:
                log(step, steps, train_accuracy=float(best.mean()), seconds=time.perf_counter() - began)
            if bool((first > 0).all()):
                break
    return Trained(best, kept, first, time.perf_counter() - began)
