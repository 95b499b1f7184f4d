"""Surrogate derivatives of the spike (arXiv 1804.08150, Section on supervised learning): what the Heaviside step
function, whose derivative is zero, is given for a derivative while training. v is the membrane minus the threshold."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Surrogate:
    """A derivative by name and its steepness.

    Attributes:
        name: `atan`, `fast_sigmoid`, `sigmoid` or `triangle`.
        scale: alpha of atan (2 by default), k of the sigmoids (25); the triangle has none.
    """

    name: str = "atan"
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.name not in DERIVATIVES:
            raise ValueError(f"surrogate: one of {', '.join(DERIVATIVES)} expected, given {self.name!r}")
        if self.scale is not None and not self.scale > 0:
            raise ValueError(f"scale: a number above 0 expected, given {self.scale}")

    def derivative_(self, v: Tensor) -> Tensor:
        """Overwrite `v` by the derivative there."""
        default, overwrite = DERIVATIVES[self.name]
        return overwrite(v, default if self.scale is None else self.scale)

    def add_scaled_(self, total: Tensor, factor: Tensor, v: Tensor) -> None:
        """total += factor * derivative(v); overwrites `v`. The arc tangent's takes two operations."""
        if self.name != "atan":
            total.addcmul_(factor, self.derivative_(v))
            return
        alpha = 2.0 if self.scale is None else self.scale
        one = torch.ones((), dtype=v.dtype, device=v.device)
        total.addcdiv_(factor, torch.addcmul(one, v, v, value=(math.pi / 2 * alpha) ** 2, out=v), value=alpha / 2)


def _atan(v: Tensor, alpha: float) -> Tensor:
    """(alpha / 2) / (1 + (pi alpha v / 2)^2)."""
    return v.mul_(math.pi / 2 * alpha).square_().add_(1).reciprocal_().mul_(alpha / 2)


def _fast_sigmoid(v: Tensor, k: float) -> Tensor:
    """1 / (1 + k |v|)^2."""
    return v.abs_().mul_(k).add_(1).reciprocal_().square_()


def _sigmoid(v: Tensor, k: float) -> Tensor:
    """k s (1 - s) with s = sigmoid(k v)."""
    s = v.mul_(k).sigmoid_()
    return s.sub_(s.square()).mul_(k)


def _triangle(v: Tensor, _: float) -> Tensor:
    """max(0, 1 - |v|)."""
    return v.abs_().neg_().add_(1).clamp_(min=0)


DERIVATIVES: dict[str, tuple[float, Callable[[Tensor, float], Tensor]]] = {
    "atan": (2.0, _atan),
    "fast_sigmoid": (25.0, _fast_sigmoid),
    "sigmoid": (25.0, _sigmoid),
    "triangle": (1.0, _triangle),
}


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v: Tensor, surrogate: Surrogate) -> Tensor:  # type: ignore[override, no-untyped-def]
        ctx.save_for_backward(v)
        ctx.surrogate = surrogate
        return (v > 0).to(v.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override, no-untyped-def]
        (v,) = ctx.saved_tensors
        return gradient * ctx.surrogate.derivative_(v.clone()), None


def spike(v: Tensor, surrogate: Surrogate) -> Tensor:
    """1 where v > 0, else 0; backwards the surrogate's derivative."""
    return _Spike.apply(v, surrogate)  # type: ignore[no-any-return]
