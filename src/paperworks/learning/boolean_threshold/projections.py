"""The projections of arXiv 2602.17493: a product held at a value, a neuron held to its margin, copies made equal.

In the coordinates w + x and w - x the bilinear projection is diagonal: with a = |w + x|^2 / 2, b = |w - x|^2 / 2 it
divides them by 1 - u and 1 + u, where a / (1 - u)^2 - b / (1 + u)^2 = 2c. For c > w.x the root lies in 0 < u < 1, and
t = 1 + u is the root of

    t - 2 + A t / sqrt(t^2 + B) = 0,   A = sqrt(a / 2c), B = b / 2c,

which rises and is concave: Newton's method from t = 1 climbs to it without overshooting. Three steps leave 1e-9, four
the last bit of a double. Whatever is left of the root, 1 - u is taken as A t / sqrt(t^2 + B), so that the product is c.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

NEWTON_STEPS = {torch.float32: 3, torch.float64: 5}


class Room:
    """Memory for intermediate results, kept from call to call: on a CPU, fresh pages cost more than the arithmetic."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}

    def like(self, name: str, tensor: Tensor) -> Tensor:
        """A tensor of this name, with anything in it, shaped like another one."""
        return self.of(name, tensor.shape, tensor)

    def of(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """A tensor of this name and shape, of the type and on the device of another one."""
        kept = self.kept.get(name)
        if kept is None or kept.shape != tuple(shape):
            kept = self.kept[name] = torch.empty(tuple(shape), dtype=like.dtype, device=like.device)
        return kept


def margin_factors(
    near: Tensor, far: Tensor, steps: int | None = None, room: Room | None = None
) -> tuple[Tensor, Tensor]:
    """What w + x and w - x are divided by so that w.x rises to c > 0: 1 - u and 1 + u, both 1 where it is there.

    No element is treated by a condition of its own: where w.x >= c the root is at t <= 1, and t is held at 1 all along.

    Args:
        near: |w + x|^2 / 4c, above 0.
        far: |w - x|^2 / 4c, so that (near - far) c = w.x.
        steps: of Newton's method; default: as many as the type can tell.
        room: the results lie in it, and are overwritten by the next call.
    """
    room = room or Room()
    rise = torch.sqrt(near, out=room.like("rise", near))
    inverse = torch.add(far, 1, out=room.like("inverse", near)).rsqrt_()
    reach = torch.mul(rise, inverse, out=room.like("reach", near))
    bend = torch.mul(inverse, inverse, out=room.like("bend", near)).mul_(far).mul_(reach)
    t = torch.sub(bend, reach, out=room.like("t", near)).add_(2).div_(bend.add_(1)).clamp_(min=1)
    for _ in range((NEWTON_STEPS.get(near.dtype, 3) if steps is None else steps) - 1):
        inverse = torch.addcmul(far, t, t, out=inverse).rsqrt_()
        torch.mul(rise, t, out=reach).mul_(inverse)
        torch.mul(inverse, inverse, out=bend).mul_(far).mul_(reach)
        torch.sub(bend, reach, out=reach).add_(2).mul_(t)
        torch.div(reach, bend.add_(t), out=t).clamp_(min=1)
    inverse = torch.addcmul(far, t, t, out=inverse).rsqrt_()
    return rise.mul_(t).mul_(inverse).clamp_(max=1), t


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
    # Raise w.x to c, or (-w).x to -c. Where that goal is not above 0 the root is found by bisection.
    up = wanted >= product
    near, far, goal = torch.where(up, a, b), torch.where(up, b, a), torch.where(up, wanted, -wanted)
    simple = goal > 0
    scale = 0.5 / torch.where(simple, goal, torch.ones_like(goal))
    first, second = margin_factors((near * scale).clamp_min(torch.finfo(w.dtype).tiny), far * scale, steps)
    if not bool(simple.all()):
        u = _bisected(near, far, goal)
        first, second = torch.where(simple, first, 1 - u), torch.where(simple, second, 1 + u)
    plus = plus / torch.where(up, first, second)[..., None]
    minus = minus / torch.where(up, second, first)[..., None]
    return (plus + minus) / 2, (plus - minus) / 2


def _bisected(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    low, high = torch.zeros_like(a), torch.ones_like(a)
    for _ in range(60):
        u = (low + high) / 2
        below = a * (1 + u).square() - b * (1 - u).square() < 2 * c * (1 - u.square()).square()
        low, high = torch.where(below, u, low), torch.where(below, high, u)
    return (low + high) / 2


def neuron_factors(
    norms: Tensor,
    y: Tensor,
    margin: float | Tensor,
    exact: bool = False,
    steps: int | None = None,
    room: Room | None = None,
) -> tuple[Tensor, Tensor]:
    """The projection of a neuron to y in {-1, 1}, y (w.x) >= margin, from its squared norms alone.

    Selections are written as arithmetic: on a CPU that is several times faster than `torch.where`.

    Args:
        norms: |w + x|^2 and |w - x|^2, (2, ...).
        y: the neuron's output, (...).
        margin: above 0, broadcast to y.
        exact: compare both outputs always. False: where y and w.x have one sign, that sign is kept, as the authors'
            code does; it is not always the nearest.
        room: the results lie in it, and are overwritten by the next call.

    Returns:
        What w + x and w - x are multiplied by, (2, ...), and the new y.
    """
    room = room or Room()
    near, far = room.like("near", norms), room.like("far", norms)
    torch.mul(norms, 0.25 / margin, out=near).clamp_(min=torch.finfo(near.dtype).tiny)
    far[0], far[1] = near[1], near[0]
    first, second = margin_factors(near, far, steps, room)  # of y = 1, and of y = -1
    first.reciprocal_()
    second.reciprocal_()
    cost = torch.sub(first, 1, out=room.like("cost", near)).square_().mul_(near)
    cost.addcmul_(torch.sub(second, 1, out=near).square_(), far)  # squared distances in units of 2 margin
    up = torch.sub(cost[1], cost[0], out=room.like("up", y)).mul_(margin).add_(y, alpha=2)  # half what y = 1 saves
    if not exact:
        same = torch.sub(norms[0], norms[1], out=far[0]).mul_(y).gt_(0)
        up.addcmul_(same, y, value=1e30)
    up.gt_(0)
    torch.lerp(second[1], first[0], up, out=cost[0])
    torch.lerp(first[1], second[0], up, out=cost[1])
    return cost, up.mul_(2).sub_(1)


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
    both = torch.stack([w + x, w - x])
    factors, sign = neuron_factors(both.square().sum(-1), y, math.sqrt(w.shape[-1] / sigma), exact)
    plus, minus = both * factors[..., None]
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


def rrr(
    project_a: Callable[[Tensor], Tensor],
    project_b: Callable[[Tensor], Tensor],
    z: Tensor,
    *,
    beta: float = 0.5,
    steps: int = 1000,
    stop: float = 1e-6,
) -> tuple[Tensor, int, float]:
    """Reflect-reflect-relax for any two projections: z <- z + beta (P_B(2 P_A(z) - z) - P_A(z)).

    Args:
        project_a, project_b: the point of A (of B) nearest to z.
        z: where to start.
        beta: in (0, 2); 1 is the Douglas-Rachford iteration.
        stop: |P_B - P_A| at which a common point is found.

    Returns:
        The last P_A(z), the number of iterations, and the last gap.
    """
    found, gap = project_a(z), math.inf
    for step in range(1, steps + 1):
        other = project_b(2 * found - z)
        gap = float(torch.linalg.vector_norm(other - found))
        if gap <= stop:
            return found, step, gap
        z = z + beta * (other - found)
        found = project_a(z)
    return found, steps, gap
