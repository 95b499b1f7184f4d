"""The projections of arXiv 2602.17493: a product held at a value, a neuron held to its margin, copies made equal.

In the coordinates w + x and w - x the bilinear projection is diagonal: with a = |w + x|^2 / 2, b = |w - x|^2 / 2 it
divides them by 1 - u and 1 + u, where a / (1 - u)^2 - b / (1 + u)^2 = 2c. For c > w.x the root lies in 0 < u < 1, and
t = 1 + u is the root of

    t - 2 + A t / sqrt(t^2 + B) = 0,   A = sqrt(a / 2c), B = b / 2c,

which rises and is concave: Newton's method from t = 1 climbs to it without overshooting. Three steps leave 1e-9, four
the last bit of a double.
"""

import math

import torch
from torch import Tensor

NEWTON_STEPS = {torch.float32: 3, torch.float64: 5}


def margin_factors(a: Tensor, b: Tensor, c: float | Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
    """What w + x and w - x are multiplied by so that w.x rises to c > 0: 1 / (1 - u) and 1 / (1 + u).

    Args:
        a: |w + x|^2 / 2, above 0.
        b: |w - x|^2 / 2; (a - b) / 2 = w.x < c.
        steps: of Newton's method; default: as many as the type can tell.
    """
    scale = 0.5 / c
    rise, shift = (a * scale).clamp_min(torch.finfo(a.dtype).tiny).sqrt(), b * scale
    inverse = (1 + shift).rsqrt()
    reach, t = rise * inverse, torch.ones_like(a)
    for _ in range(NEWTON_STEPS.get(a.dtype, 3) if steps is None else steps):
        bend = reach * shift * inverse.square()
        t = t * (2 - reach + bend) / (t + bend)
        inverse = (t.square() + shift).rsqrt()
        reach = rise * t * inverse
    return reach.reciprocal(), t.reciprocal()  # reach is 1 - u: so the product is c whatever is left of the root


def project_bilinear(w: Tensor, x: Tensor, c: float | Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
    """The nearest (w', x') with w'.x' = c, over the last axis.

    Args:
        w, x: (..., D).
        c: the product, a number or (...).

    Returns:
        w' = (w + u x) / (1 - u^2), x' = (x + u w) / (1 - u^2) with u in (-1, 1).
    """
    product = (w * x).sum(-1)
    wanted = torch.as_tensor(c, dtype=w.dtype, device=w.device).expand_as(product)
    plus, minus = w + x, w - x
    a, b = plus.square().sum(-1) / 2, minus.square().sum(-1) / 2
    # Raise w.x to c, or (-w).x to -c; where the wanted product is of the other sign, Newton's method needs the general
    # root: it is found by bisection on u, where the left side rises from minus to plus infinity.
    up = wanted >= product
    near, far, goal = torch.where(up, a, b), torch.where(up, b, a), torch.where(up, wanted, -wanted)
    simple = goal > 0
    first, second = margin_factors(near, far, torch.where(simple, goal, torch.ones_like(goal)), steps)
    if not bool(simple.all()):
        u = _bisected(near, far, goal)
        first, second = torch.where(simple, first, 1 / (1 - u)), torch.where(simple, second, 1 / (1 + u))
    same = wanted == product
    f_plus = torch.where(same, torch.ones_like(first), torch.where(up, first, second))[..., None]
    f_minus = torch.where(same, torch.ones_like(first), torch.where(up, second, first))[..., None]
    return (f_plus * plus + f_minus * minus) / 2, (f_plus * plus - f_minus * minus) / 2


def _bisected(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    low, high = torch.zeros_like(a), torch.ones_like(a)
    for _ in range(60):
        u = (low + high) / 2
        below = a * (1 + u).square() - b * (1 - u).square() < 2 * c * (1 - u.square()).square()
        low, high = torch.where(below, u, low), torch.where(below, high, u)
    return (low + high) / 2


def neuron_factors(
    plus: Tensor, minus: Tensor, y: Tensor, margin: float, exact: bool = False, steps: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The projection of a neuron to y in {-1, 1}, y (w.x) >= margin, from its squared norms alone.

    Args:
        plus, minus: |w + x|^2 / 2 and |w - x|^2 / 2.
        y: the neuron's output.
        exact: compare both outputs always. False: where y and w.x have one sign, that sign is kept, as the authors'
            code does; it is not always the nearest.

    Returns:
        What w + x and w - x are multiplied by, and the new y.
    """
    product = (plus - minus) / 2
    first, second, cost = _raised(plus, minus, margin, steps)
    first_down, second_down, cost_down = _raised(minus, plus, margin, steps)
    up = cost + (1 - y).square() < cost_down + (1 + y).square()
    if not exact:
        up = torch.where(y * product > 0, y > 0, up)
    return torch.where(up, first, second_down), torch.where(up, second, first_down), torch.where(up, 1.0, -1.0).to(y)


def _raised(near: Tensor, far: Tensor, margin: float, steps: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Factors that raise (near - far) / 2 to the margin where it is below, and the squared distance."""
    first, second = margin_factors(near, far, margin, steps)
    there = near - far >= 2 * margin
    first, second = torch.where(there, 1.0, first), torch.where(there, 1.0, second)
    return first, second, near * (first - 1).square() + far * (second - 1).square()


def project_boolean_threshold(
    w: Tensor, x: Tensor, y: Tensor, sigma: float = 3.0, exact: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The nearest neuron with y in {-1, 1} and y (w.x) >= sqrt(D / sigma).

    Args:
        w, x: weights and inputs, (..., D).
        y: outputs, (...).
        sigma: the support: so many equal weights of norm sqrt(D) reach the margin.
    """
    if w.shape != x.shape or w.shape[:-1] != y.shape:
        raise ValueError(f"w, x: expected shape (*{tuple(y.shape)}, D), given {tuple(w.shape)} and {tuple(x.shape)}")
    plus, minus = w + x, w - x
    f_plus, f_minus, sign = neuron_factors(
        plus.square().sum(-1) / 2, minus.square().sum(-1) / 2, y, math.sqrt(w.shape[-1] / sigma), exact
    )
    plus, minus = f_plus[..., None] * plus, f_minus[..., None] * minus
    return (plus + minus) / 2, (plus - minus) / 2, sign


def weighted_concur(copies: Tensor, weights: Tensor, dim: int, norm: float | None = None) -> Tensor:
    """The point nearest to all copies in the metric of their weights: the weighted mean over `dim`, kept as an axis.

    Args:
        copies: (...).
        weights: not negative, of the same shape or broadcast to it.
        norm: length to which the means are scaled, over the axis after `dim`; None: they are not.
    """
    mean = (weights * copies).sum(dim, keepdim=True) / weights.sum(dim, keepdim=True)
    if norm is None:
        return mean
    return mean * (norm / torch.linalg.vector_norm(mean, dim=dim + 1, keepdim=True))
