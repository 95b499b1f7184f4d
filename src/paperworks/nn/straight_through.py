"""Signs that a gradient can pass: straight-through estimators, for binary weights and activations.

The forward pass is an exact sign. The backward pass multiplies by the slope of a surrogate function in its place:

    estimator     surrogate                   slope                  first used in
    identity      x                           1                      1308.3432 (Bengio et al.)
    clip          clip(x, -1, 1)              1 where |x| <= 1       1602.02830 (BinaryNet)
    polynomial    sign(x) (2|x| - x^2)        max(0, 2 - 2|x|)       1808.00278 (Bi-Real Net)
    tanh          tanh(k x)                   k (1 - tanh(k x)^2)    1909.10788 (IR-Net)
    square wave   sin(omega x)                omega cos(omega x)     2404.01278 (BiPer)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Estimator(NamedTuple):
    """A surrogate of the sign, and its slope; both take a steepness, which most of them ignore."""

    surrogate: Callable[[Tensor, float], Tensor]
    slope: Callable[[Tensor, float], Tensor]


def _polynomial(x: Tensor, k: float) -> Tensor:
    inside = x.clamp(-1, 1)
    return inside * (2 - inside.abs())


ESTIMATORS: dict[str, Estimator] = {
    "identity": Estimator(lambda x, k: x, lambda x, k: torch.ones_like(x)),
    "clip": Estimator(lambda x, k: x.clamp(-1, 1), lambda x, k: (x.abs() <= 1).to(x.dtype)),
    "polynomial": Estimator(_polynomial, lambda x, k: (2 - 2 * x.abs()).clamp(min=0)),
    "tanh": Estimator(lambda x, k: torch.tanh(k * x), lambda x, k: k * (1 - torch.tanh(k * x) ** 2)),
}


def sign(x: Tensor, of_zero: int = 1) -> Tensor:
    """-1 or +1 in x's type; `of_zero` is what zeros of either sign become: 1, -1, or 0 as `torch.sign` has it."""
    if of_zero not in (-1, 0, 1):
        raise ValueError(f"of_zero: -1, 0 or 1, given {of_zero}")
    found = torch.sign(x)
    return found if of_zero == 0 else found.mul_(2).add_(of_zero).clamp(-1, 1)


class _ThroughSign(torch.autograd.Function):
    """sign(x) forward, an estimator's slope backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, estimator: str, of_zero: int, k: float) -> Tensor:
        return sign(x, of_zero)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.estimator, _, ctx.k = inputs
        if ctx.estimator != "identity":
            ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        if ctx.estimator == "identity":
            return gradient, None, None, None
        (x,) = ctx.saved_tensors
        return gradient * ESTIMATORS[ctx.estimator].slope(x, ctx.k), None, None, None


class _SquareWave(torch.autograd.Function):
    """sign(sin(omega w)) forward, omega cos(omega w) backward."""

    generate_vmap_rule = True

    @staticmethod
    def forward(w: Tensor, omega: float, of_zero: int) -> Tensor:
        return sign(torch.sin(omega * w), of_zero)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        w, ctx.omega, _ = inputs
        ctx.save_for_backward(w)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (w,) = ctx.saved_tensors
        return gradient * (ctx.omega * torch.cos(ctx.omega * w)), None, None


class _ThroughScaledSign(torch.autograd.Function):
    """sign(x / s) with s^2 = var(x over `dims`) + eps, whose gradient passes through s too.

    The sign does not see the division, so only the backward pass makes it. With g the gradient at x / s,

        dL/dx = g / s - (x - mean) sum(g x) / ((n - 1) s^3).
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...], estimator: str, of_zero: int, eps: float) -> Tensor:
        return sign(x, of_zero)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dims, ctx.estimator, _, ctx.eps = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        variance, mean = torch.var_mean(x, ctx.dims, keepdim=True)
        inverse = (variance + ctx.eps).rsqrt()
        scaled = x * inverse
        through = ESTIMATORS[ctx.estimator].slope(scaled, 1.0).mul_(gradient).mul_(inverse)
        count = x.numel() // variance.numel()
        # sum(g x) / ((n - 1) s^3), written with through = g / s and scaled = x / s
        pull = (through * scaled).sum(ctx.dims, keepdim=True).mul_(inverse / (count - 1))
        return through.sub_(pull * (x - mean)), None, None, None, None


def binary_sign(x: Tensor, estimator: str = "clip", *, of_zero: int = 1, steepness: float = 1.0) -> Tensor:
    """The sign of x, whose gradient is that of the estimator's surrogate.

    Args:
        estimator: identity, clip, polynomial or tanh.
        of_zero: what zeros become, 1, -1 or 0.
        steepness: k of tanh.

    Raises:
        ValueError: another estimator.
    """
    _check(estimator)
    return _ThroughSign.apply(x, estimator, of_zero, steepness)  # type: ignore[no-any-return]


def scaled_sign(
    x: Tensor, dims: tuple[int, ...], estimator: str = "polynomial", *, of_zero: int = 1, eps: float = 1e-5
) -> Tensor:
    """The sign of x divided by its standard deviation over `dims`; the gradient passes through that division.

    The same as `binary_sign(x / (x.var(dims, keepdim=True) + eps).sqrt(), estimator)`, faster, and without keeping
    the quotient. `eps` is added to the variance (unbiased).
    """
    _check(estimator)
    return _ThroughScaledSign.apply(x, dims, estimator, of_zero, eps)  # type: ignore[no-any-return]


def square_wave(w: Tensor, omega: float, *, of_zero: int = 1) -> Tensor:
    """sign(sin(omega w)), whose gradient is that of sin(omega w)."""
    return _SquareWave.apply(w, omega, of_zero)  # type: ignore[no-any-return]


def surrogate(x: Tensor, estimator: str, steepness: float = 1.0) -> Tensor:
    """The function whose gradient an estimator gives."""
    _check(estimator)
    return ESTIMATORS[estimator].surrogate(x, steepness)


def _check(estimator: str) -> None:
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator {estimator!r}: one of {', '.join(ESTIMATORS)}")
