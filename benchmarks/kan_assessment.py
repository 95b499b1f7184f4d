"""The assessment's KAN against efficient forms by Cox-de Boor's recursion, at the sizes that its formulas use."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from scipy.interpolate import BSpline
from torch import Tensor

from paperworks.layers.kan import bspline_basis
from timing import interleaved


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """Bases of 128 x 64 inputs, forward and backward; scipy's design matrix beside them."""
    x = torch.rand(128, 64) * 2 - 1
    flat = x.double().flatten().clamp(-0.999, 0.999).numpy()
    knots = (torch.arange(-3, 9, dtype=torch.float64) * 0.4 - 1).numpy()
    cases = [
        ("B-spline basis, 128 x 64, G=5, k=3, forward", lambda: bspline_basis(x, 5, 3), lambda: recursion(x, 5, 3)),
        ("B-spline basis, forward and backward", backward(bspline_basis, x), backward(recursion, x)),
    ]
    rows = interleaved(cases, rounds, peer="Cox-de Boor's recursion in torch", peer_version=version("torch"))
    cases = [
        (
            "B-spline basis, 8192 points",
            lambda: bspline_basis(x, 5, 3),
            lambda: BSpline.design_matrix(flat, knots, 3).toarray(),
        )
    ]
    return rows + interleaved(cases, rounds, peer="scipy", peer_version=version("scipy"))


def recursion(x: Tensor, grid_size: int, order: int) -> Tensor:
    """All bases by Cox-de Boor."""
    grid = torch.arange(-order, grid_size + order + 1) * (2 / grid_size) - 1
    wide = x[..., None]
    bases = ((wide >= grid[:-1]) & (wide < grid[1:])).to(x.dtype)
    for k in range(1, order + 1):
        left = (wide - grid[: -(k + 1)]) / (grid[k:-1] - grid[: -(k + 1)]) * bases[..., :-1]
        bases = left + (grid[k + 1 :] - wide) / (grid[k + 1 :] - grid[1:-k]) * bases[..., 1:]
    return bases


def backward(function: Callable[..., Tensor], x: Tensor) -> Callable[[], Any]:
    """A sum of squares and its gradient."""
    leaf = x.clone().requires_grad_()
    return lambda: torch.autograd.grad(function(leaf, 5, 3).square().sum(), leaf)
