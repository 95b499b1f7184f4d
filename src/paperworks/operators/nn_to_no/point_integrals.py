"""Integral operators on points anywhere: what dense layers and graph networks become (arXiv 2506.10973, 2003.03485).

(K f)(x) = sum over |y_j - x| <= R of k(x, y_j [, f_j]) [f_j] w_j with a network k. The neighbourhood is a ball of fixed
physical radius (not the k nearest), its sum a quadrature (not a plain sum), so refining the points leads to one limit.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from paperworks.nn import check_shape

TRANSFORMS = ("linear", "linear_kernelonly", "nonlinear", "nonlinear_kernelonly")


def ball_neighbours(
    points: Float[Tensor, "points dims"], queries: Float[Tensor, "queries dims"], radius: float, chunk: int = 4096
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Pairs (query, point) at most `radius` apart, sorted by query then point."""
    found = []
    for start in range(0, len(queries), chunk):
        near = torch.cdist(queries[start : start + chunk], points) <= radius
        query, point = near.nonzero(as_tuple=True)
        found.append((query + start, point))
    return torch.cat([q for q, _ in found]), torch.cat([p for _, p in found])


class KernelIntegral(nn.Module):
    """An integral over a ball with a network as its kernel.

    Args:
        channels: of f, and of the output (the kernel is diagonal), except for `kernelonly` transforms.
        dims: of the coordinates.
        radius: of the ball, physical.
        hidden: widths of the kernel's network, GELU between.
        transform: `linear` k(x, y) f, `linear_kernelonly` k(x, y), `nonlinear` k(x, y, f) f, `nonlinear_kernelonly`
            k(x, y, f).
        reduction: of a neighbourhood where no weights are given: mean or sum.
    """

    def __init__(
        self,
        channels: int,
        dims: int,
        radius: float,
        hidden: Sequence[int] = (64, 64),
        transform: str = "linear",
        reduction: str = "mean",
        out_channels: int | None = None,
    ):
        super().__init__()
        if transform not in TRANSFORMS:
            raise ValueError(f"transform {transform!r}: one of {', '.join(TRANSFORMS)}")
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction {reduction!r}: mean or sum")
        self.channels, self.dims, self.radius = channels, dims, radius
        self.transform, self.reduction = transform, reduction
        self.out_channels = channels if out_channels is None else out_channels
        if not transform.endswith("kernelonly") and self.out_channels != channels:
            raise ValueError(f"out_channels: the kernel is diagonal, so {channels}, given {out_channels}")
        sizes = [2 * dims + channels * transform.startswith("nonlinear"), *hidden, self.out_channels]
        self.kernel = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(
        self,
        f: Float[Tensor, "batch points channels"],
        points: Float[Tensor, "points dims"],
        queries: Float[Tensor, "queries dims"] | None = None,
        weights: Float[Tensor, " points"] | None = None,
        neighbours: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "batch queries out_channels"]:
        """Values at `queries` (default: the points) of the integral of functions given at `points`.

        Args:
            weights: quadrature weights; None: the mean over the ball (or the sum).
            neighbours: what `ball_neighbours` gave, where the same points are used again.
        """
        check_shape("points", points, ("points", self.dims))
        check_shape("f", f, ("batch", len(points), self.channels))
        at = points if queries is None else queries
        check_shape("queries", at, ("queries", self.dims))
        query, point = ball_neighbours(points, at, self.radius) if neighbours is None else neighbours
        inputs = torch.cat([points[point], at[query]], -1)
        there = f[:, point]
        if self.transform.startswith("nonlinear"):
            inputs = torch.cat([inputs.expand(len(f), -1, -1), there], -1)
        for index, layer in enumerate(self.kernel):
            inputs = layer(F.gelu(inputs) if index else inputs)
        values = inputs.expand(len(f), -1, -1) if inputs.ndim == 2 else inputs
        if self.transform != "nonlinear_kernelonly":
            values = values * there
        if self.transform == "linear_kernelonly":
            values = inputs.expand(len(f), -1, -1)
        if weights is not None:
            values = values * weights[point, None]
        total = values.new_zeros(len(f), len(at), self.out_channels).index_add(1, query, values)
        if weights is None and self.reduction == "mean":
            count = torch.bincount(query, minlength=len(at)).clamp_min(1)
            total = total / count[:, None]
        return total
