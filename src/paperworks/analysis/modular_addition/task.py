"""The data: pairs (x, y) modulo p with their answer, deduplicated where the order of a pair does not matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

OPERATIONS = ("add", "subtract", "quadratic")


class Pairs(NamedTuple):
    """Distinct inputs: pairs (n, 2), labels (n,), and how many ordered pairs each stands for (n,)."""

    pairs: Tensor
    labels: Tensor
    weights: Tensor


def answer(pairs: Tensor, p: int, operation: str) -> Tensor:
    """x + y, x - y or x^2 + x y + y^2, modulo p."""
    x, y = pairs.unbind(-1)
    if operation == "add":
        return (x + y) % p
    if operation == "subtract":
        return (x - y) % p
    if operation == "quadratic":
        return (x * x + x * y + y * y) % p
    raise ValueError(f"operation {operation!r}: one of {', '.join(OPERATIONS)}")


def merged(pairs: Tensor, labels: Tensor) -> Pairs:
    """One row for (x, y) and (y, x) with one label: the network cannot tell them apart, so this is exact."""
    low, high = pairs.min(-1).values, pairs.max(-1).values
    rows, counts = torch.unique(torch.stack([low, high, labels], dim=-1), dim=0, return_counts=True)
    return Pairs(rows[:, :2].contiguous(), rows[:, 2].contiguous(), counts)


@dataclass
class ModularTask:
    """All p^2 ordered pairs, split into training and test pairs.

    Args:
        p: an odd modulus, prime or not.
        operation: add, subtract or quadratic.
        train_fraction: share of pairs to train on; 1 trains and tests on the same set, as the paper's analysis does.
        split: `ordered` draws ordered pairs, so that about train_fraction of the test pairs are trained swapped;
            `unordered` keeps (x, y) and (y, x) together, which is what generalisation should mean.
        seed: of the split.
    """

    p: int = 23
    operation: str = "add"
    train_fraction: float = 1.0
    split: str = "ordered"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.p < 3 or self.p % 2 == 0:
            raise ValueError(f"p: an odd number from 3, given {self.p} (an even one has a frequency without a sine)")
        if not 0 < self.train_fraction <= 1:
            raise ValueError(f"train_fraction: above 0 and at most 1, given {self.train_fraction}")
        if self.split not in ("ordered", "unordered"):
            raise ValueError(f"split {self.split!r}: ordered or unordered")
        p = self.p
        pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
        labels = answer(pairs, p, self.operation)
        if self.train_fraction == 1:
            chosen = torch.ones(len(pairs), dtype=torch.bool)
            held = chosen
        else:
            generator = torch.Generator().manual_seed(self.seed)
            if self.split == "ordered":
                order = torch.randperm(len(pairs), generator=generator)
                chosen = torch.zeros(len(pairs), dtype=torch.bool)
                chosen[order[: int(self.train_fraction * len(pairs))]] = True
            else:
                kept = torch.rand(p, p, generator=generator).triu()
                kept = kept + kept.triu(1).T
                chosen = (kept < kept.flatten().quantile(self.train_fraction)).flatten()
            held = ~chosen
        grid = chosen.view(p, p)
        self.train = merged(pairs[chosen], labels[chosen])
        self.test = Pairs(pairs[held], labels[held], torch.ones(int(held.sum()), dtype=torch.long))
        self.swap_seen = grid.T.flatten()[held]  # test pairs whose swap is a training pair


def grokking_stages(
    steps: Sequence[int], train_accuracy: Sequence[float], test_accuracy: Sequence[float], level: float = 0.95
) -> tuple[int | None, int | None]:
    """Ends of memorisation and of generalisation: the first steps at which train and test accuracy reach `level`."""
    first = [
        next((step for step, value in zip(steps, values, strict=True) if value >= level), None)
        for values in (train_accuracy, test_accuracy)
    ]
    return first[0], first[1]
