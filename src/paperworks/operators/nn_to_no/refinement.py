"""Whether a network is one operator on all grids: the same functions on several, outputs compared where they meet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .spectral_convs import fourier_resample


@dataclass(frozen=True)
class Refinement:
    """How a network's output changes with the grid.

    `differences`: relative L2 distance of the output on each grid from that on the finest, at the shared points;
    `errors`: relative L2 error on each grid, where truths were given; `order`: observed order of convergence.
    """

    resolutions: list[int]
    differences: list[float]
    errors: list[float]
    order: float


def discretization_report(
    model: nn.Module,
    sampler: Callable[[int], Any],
    resolutions: Sequence[int],
    restrict: str = "points",
) -> Refinement:
    """Run `model` on the same functions on several grids.

    Args:
        sampler: resolution -> inputs (batch, channels, *grid), or (inputs, truth).
        resolutions: increasing; each must divide the finest where `restrict` is `points`.
        restrict: how the finest output is brought to a grid: its values at shared `points`, or `fourier`.

    Returns:
        `Refinement`. An operator's differences fall as the grid is refined; a pixel network's do not.
    """
    outputs, errors = [], []
    with torch.no_grad():
        for resolution in resolutions:
            given = sampler(resolution)
            x, truth = given if isinstance(given, tuple | list) else (given, None)
            y = model(x)
            outputs.append(y)
            if truth is not None:
                errors.append(float(relative_l2(y, truth).mean()))
    finest, differences = outputs[-1], []
    for y in outputs[:-1]:
        if restrict == "fourier":
            there = fourier_resample(finest, y.shape[2:])
        else:
            steps = [n // m for n, m in zip(finest.shape[2:], y.shape[2:], strict=True)]
            if any(n != m * s for n, m, s in zip(finest.shape[2:], y.shape[2:], steps, strict=True)):
                raise ValueError(f"resolutions: {tuple(y.shape[2:])} does not divide {tuple(finest.shape[2:])}")
            there = finest[(..., *[slice(None, None, s) for s in steps])]
        differences.append(float(relative_l2(y, there).mean()))
    order = math.nan
    if len(differences) > 1 and min(differences) > 0:
        order = math.log(differences[0] / differences[-1]) / math.log(resolutions[-2] / resolutions[0])
    return Refinement(list(resolutions), differences, errors, order)


def relative_l2(guess: Tensor, truth: Tensor) -> Float[Tensor, " batch"]:
    """||guess - truth|| / ||truth|| a row, over all other axes."""
    return (guess - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1).clamp_min(1e-12)
