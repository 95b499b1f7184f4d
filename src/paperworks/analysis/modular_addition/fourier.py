"""Rows of weights as waves: cos(w_k j + phi_k) with amplitude alpha_k at frequencies w_k = 2 pi k / p.

arXiv 2602.16849, section 2 and 3; conventions as in Y-Agent/modular-addition-feature-learning.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class FourierRows(NamedTuple):
    """Amplitudes and phases of rows at k = 1..(p-1)/2, (rows, K) each, and the constant part (rows,)."""

    alpha: Tensor
    phi: Tensor
    dc: Tensor


def fourier_basis(p: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "p p"]:
    """Orthonormal rows: the constant, then cosine and sine of every frequency."""
    j = torch.arange(p, dtype=torch.float64)
    k = torch.arange(1, (p - 1) // 2 + 1, dtype=torch.float64)
    angle = 2 * math.pi * k[:, None] * j / p
    waves = torch.stack([angle.cos(), angle.sin()], dim=1).flatten(0, 1) * math.sqrt(2 / p)
    return torch.cat([torch.full((1, p), 1 / math.sqrt(p), dtype=torch.float64), waves]).to(dtype)


def _coefficients(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found = rows @ fourier_basis(rows.shape[-1], rows.dtype).to(rows.device).T
    return found[..., 0], found[..., 1::2], found[..., 2::2]


def fourier_decode(rows: Float[Tensor, "rows p"]) -> FourierRows:
    """row_j = dc / sqrt(p) + sum_k alpha_k cos(w_k j + phi_k)."""
    dc, cosine, sine = _coefficients(rows)
    alpha = math.sqrt(2 / rows.shape[-1]) * torch.hypot(cosine, sine)
    return FourierRows(alpha, torch.atan2(-sine, cosine), dc)


def fourier_encode(waves: FourierRows) -> Float[Tensor, "rows p"]:
    """The rows that `fourier_decode` gives these waves for."""
    p = 2 * waves.alpha.shape[-1] + 1
    j = torch.arange(p, dtype=waves.alpha.dtype, device=waves.alpha.device)
    k = torch.arange(1, waves.alpha.shape[-1] + 1, dtype=waves.alpha.dtype, device=waves.alpha.device)
    angle = 2 * math.pi * k[:, None] * j / p + waves.phi[..., None]
    return (waves.alpha[..., None] * angle.cos()).sum(-2) + waves.dc[..., None] / math.sqrt(p)


def dominant_frequency(alpha: Float[Tensor, "rows K"]) -> Int[Tensor, " rows"]:
    """Index (0 for k = 1) of the largest amplitude."""
    return alpha.argmax(-1)


def largest_coefficient_frequency(rows: Float[Tensor, "rows p"]) -> Int[Tensor, " rows"]:
    """The authors' decoder: frequency of the single largest coefficient, cosine and sine apart; -1 for the constant."""
    dc, cosine, sine = _coefficients(rows)
    largest = torch.cat([dc[..., None], torch.stack([cosine, sine], -1).flatten(-2)], -1).abs().argmax(-1)
    return torch.where(largest == 0, -1, (largest - 1) // 2)


def phase_misalignment(phi: Tensor, psi: Tensor) -> Tensor:
    """D = 2 phi - psi, wrapped to (-pi, pi]; zero where a neuron's input and output waves agree."""
    turned = torch.remainder(2 * phi - psi, 2 * math.pi)
    return torch.where(turned > math.pi, turned - 2 * math.pi, turned)


def inverse_participation(rows: Float[Tensor, "rows p"], kind: str = "power") -> Float[Tensor, " rows"]:
    """Sum P^2 / (sum P)^2: 1 for a single frequency.

    `power` (the authors' figures) takes P_k = c_k^2 + s_k^2 without the constant; `coefficient` (their notebooks)
    takes every squared coefficient by itself, so that a single frequency scores between 1/2 and 1.
    """
    dc, cosine, sine = _coefficients(rows)
    if kind == "power":
        power = cosine**2 + sine**2
    elif kind == "coefficient":
        power = torch.cat([dc[..., None], cosine, sine], -1) ** 2
    else:
        raise ValueError(f"kind {kind!r}: power or coefficient")
    return power.square().sum(-1) / power.sum(-1).square()


def phase_symmetry(
    phases: Float[Tensor, " neurons"], orders: tuple[int, ...] = (1, 2, 3, 4)
) -> Float[Tensor, " orders"]:
    """|mean of exp(i l phi)| for every order l: near 0 where phases are spread evenly."""
    angles = torch.tensor(orders, dtype=phases.dtype, device=phases.device)[:, None] * phases
    return torch.hypot(angles.cos().mean(-1), angles.sin().mean(-1))


def frequency_histogram(frequencies: Int[Tensor, " neurons"], p: int) -> Int[Tensor, " K"]:
    """How many neurons prefer each frequency."""
    return torch.bincount(frequencies, minlength=(p - 1) // 2)


def flawed_indicator(p: int, alpha: float, beta: float, neurons: int) -> Float[Tensor, "p p p"]:
    """Logits (x, y, j) of the exact solution with `neurons` a frequency: a peak at x + y and ghosts at 2x and 2y.

    alpha^2 beta N / 2 * [-1 + (p/2) 1(j = x+y) + (p/4) (1(j = 2x) + 1(j = 2y))].
    """
    x = torch.arange(p)
    eye = torch.eye(p, dtype=torch.float64)
    right = eye[(x[:, None] + x) % p]
    ghost = eye[(2 * x) % p]
    values = -1 + p / 2 * right + p / 4 * (ghost[:, None] + ghost[None, :])
    return alpha**2 * beta * neurons / 2 * values
