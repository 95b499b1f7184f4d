"""The error of replacing weights by their signs: measured, and in closed form for periodic weights.

For effective weights s the best scale of their signs is E|s|, and leaves

    QE = min over gamma of E (s - gamma sign s)^2 = E s^2 - (E|s|)^2.

With s = sin(omega w) both moments have closed forms, which depend on omega times the spread of w alone: that product
is what controls the error. The paper states the dependence in words and curves; the formulas are derived here.
"""

import math

import torch
from torch import Tensor

KINDS = ("optimal", "relative", "official")
LIMIT = 1 - 8 / math.pi**2  # relative error for u to infinity
TERMS = 400


def sign_error(values: Tensor, kind: str = "relative") -> Tensor:
    """How far real weights are from their signs.

    Args:
        kind: `optimal`, QE with the best scale; `relative`, QE over E s^2 (0: signs already, 1/2: Laplace);
            `official`, the mean of |s - sign s| that the authors' script reports.
    """
    return torch.as_tensor(_of_moments(values.abs().mean(), values.square().mean(), kind))


def quantization_error(w: Tensor, freq: float = 20.0, kind: str = "relative") -> Tensor:
    """`sign_error` of sin(freq w): what stage 2 changes in the weights of stage 1."""
    return sign_error(torch.sin(freq * w), kind)


def laplace_error(u: float, kind: str = "relative") -> float:
    """The error of sin(omega w) for w ~ Laplace(0, b), u = omega b.

    E s^2 = 2 u^2 / (1 + 4 u^2),   E|s| = u / (1 + u^2) coth(pi / (2 u)).
    """
    _check(u)
    return float(_of_moments(u / (1 + u * u) / math.tanh(math.pi / (2 * u)), 2 * u * u / (1 + 4 * u * u), kind))


def gaussian_error(u: float, kind: str = "relative") -> float:
    """The error of sin(omega w) for w ~ N(0, b^2), u = omega b.

    E s^2 = (1 - exp(-2 u^2)) / 2; |sin| by its Fourier series: E|s| = 2/pi - 4/pi sum_k exp(-2 k^2 u^2) / (4 k^2 - 1).
    For u below 0.02 the series converges too slowly, and sin is the identity to 1e-4.
    """
    _check(u)
    if u < 0.02:
        return float(_of_moments(u * math.sqrt(2 / math.pi), u * u, kind))
    series = sum(math.exp(-2 * (k * u) ** 2) / (4 * k * k - 1) for k in range(1, TERMS + 1))
    return float(_of_moments(2 / math.pi - 4 / math.pi * series, -math.expm1(-2 * u * u) / 2, kind))


def _of_moments(absolute: float | Tensor, square: float | Tensor, kind: str) -> float | Tensor:
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: one of {', '.join(KINDS)}")
    if kind == "official":
        return 1 - absolute
    optimal = square - absolute * absolute
    return optimal if kind == "optimal" else optimal / square


def _check(u: float) -> None:
    if not (math.isfinite(u) and u > 0):
        raise ValueError(f"u: omega times the spread of the weights, a number above 0; given {u}")
