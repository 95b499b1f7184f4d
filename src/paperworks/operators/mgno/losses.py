"""Relative errors of fields, in L2 and H1: what MgNO and its baselines are trained and judged by.

Fields are (batch, channels, height, width) on the unit square. Each function gives one number a sample.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def relative_l2(guess: Float[Tensor, "batch *field"], truth: Float[Tensor, "batch *field"]) -> Float[Tensor, "batch"]:
    """|guess - truth| / |truth|."""
    return _norm(guess - truth) / _norm(truth)


def difference_h1(
    guess: Float[Tensor, "batch channels height width"],
    truth: Float[Tensor, "batch channels height width"],
    value_weight: float = (2 * math.pi) ** 2,
) -> Float[Tensor, "batch"]:
    """Relative H1 error by forward differences, for any boundary: sqrt(sum |grad e|^2 + weight sum e^2) over truth's.

    A weight of 0 is the seminorm, which does not see a constant offset. The default weighs values as the gradient of
    one period across the square does.
    """
    return (_energy(guess - truth, value_weight) / _energy(truth, value_weight)).sqrt()


def fourier_h1(
    guess: Float[Tensor, "batch channels height width"],
    truth: Float[Tensor, "batch channels height width"],
    cut: int | None = 20,
) -> Float[Tensor, "batch"]:
    """Relative H1 error as the authors train on it: the spectrum weighted by sqrt(1 + kx^2 + ky^2), integer k.

    Each of kx, ky counts as 0 from `cut` on, by itself. For fields that are not periodic the jump over the edge enters.
    """
    weight = torch.ones((), dtype=guess.dtype, device=guess.device)
    for axis in (-2, -1):
        n = guess.shape[axis]
        k = (torch.fft.fftfreq(n, 1 / n) if axis == -2 else torch.fft.rfftfreq(n, 1 / n)).abs().to(guess)
        k = k if cut is None else k * (k < cut)
        weight = weight + (k[:, None] ** 2 if axis == -2 else k**2)
    # half of the spectrum of a real field holds all but the constant column (and the highest of an even grid) twice
    n = guess.shape[-1]
    twice = torch.full((n // 2 + 1,), 2.0, dtype=guess.dtype, device=guess.device)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1

    def energy(field: Tensor) -> Tensor:
        z = torch.fft.rfft2(field)
        return ((z.real.square() + z.imag.square()) * (weight * twice)).flatten(1).sum(1)

    return (energy(guess - truth) / energy(truth)).sqrt()


def _norm(field: Tensor) -> Tensor:
    return field.flatten(1).norm(dim=1)


def _energy(field: Tensor, value_weight: float) -> Tensor:
    height, width = field.shape[-2:]
    down, right = field.diff(dim=-2) * (height - 1), field.diff(dim=-1) * (width - 1)
    energy = down.square().flatten(1).sum(1) + right.square().flatten(1).sum(1)
    return energy + value_weight * field.square().flatten(1).sum(1) if value_weight else energy
