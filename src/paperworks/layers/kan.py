"""Kolmogorov-Arnold layers that the papers of this wing compare: B-splines, rectified bumps, radial and Chebyshev.

A KAN layer (arXiv 2404.19756) puts a learnt function on every edge: out_q = sum_p phi_qp(x_p), where each phi is a
combination of a few fixed functions. All layers here first expand their input into those functions and then take one
matrix product, which is the same function as the sum over edges and much faster.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.measure import add_operations
from paperworks.nn import Example, Pretrained, check_shape

BASES: dict[str, Callable[[Tensor], Tensor]] = {"silu": F.silu, "gelu": F.gelu, "relu": F.relu, "identity": lambda x: x}


def bspline_basis(
    x: Float[Tensor, "..."], grid_size: int, order: int, low: float = -1.0, high: float = 1.0
) -> Float[Tensor, "... functions"]:
    """The grid_size + order B-splines of a uniform grid on [low, high], its knots extended beyond both ends.

    On [low, high] they are not negative and sum to 1; beyond it they fade out over `order` intervals. A uniform
    B-spline is one function, shifted: M(t) = sum_i (-1)^i C(k+1, i) max(t - i, 0)^k / k!, folded at its middle so that
    no large powers cancel.
    """
    t = (x - low) * (grid_size / (high - low))
    middles = torch.arange(grid_size + order, device=x.device, dtype=x.dtype) - (order - 1) / 2
    away = (t[..., None] - middles).abs()  # from the middle of each function, whose support is (order + 1) / 2 wide
    half = (order + 1) / 2
    add_operations(away.numel() * (3 * (order // 2 + 1) + 2), "B-splines")
    if order == 0:
        return ((t[..., None] - middles >= -half) & (t[..., None] - middles < half)).to(x.dtype)
    value = (half - away).clamp_min(0) ** order
    for i in range(1, order // 2 + 1):
        value = value + (-1) ** i * math.comb(order + 1, i) * (half - i - away).clamp_min(0) ** order
    return value / math.factorial(order)


class BSplineKANLayer(nn.Module):
    """phi(x) = base_weight * silu(x) + sum_i c_i B_i(x) on every edge, without a bias.

    Args:
        in_features, out_features: of the layer.
        grid_size, order: intervals G and spline order k; G + k functions.
        low, high: the grid's range. Inputs beyond it are seen by the base function alone.
        base: silu, gelu, relu, identity, or none.
        scaler: a further factor a spline and edge, as efficient-kan has it.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        order: int = 3,
        low: float = -1.0,
        high: float = 1.0,
        base: str = "silu",
        scaler: bool = False,
    ):
        super().__init__()
        if base != "none" and base not in BASES:
            raise ValueError(f"base {base!r}: one of {', '.join(BASES)} or none")
        if grid_size < 1 or order < 0 or not low < high:
            raise ValueError(
                f"grid: from 1 interval, order from 0, low < high; given {grid_size}, {order}, {low}, {high}"
            )
        self.in_features, self.out_features, self.base = in_features, out_features, base
        self.grid_size, self.order, self.low, self.high = grid_size, order, low, high
        n = grid_size + order
        self.spline_weight = nn.Parameter(torch.empty(out_features, in_features, n))
        nn.init.normal_(self.spline_weight, std=0.1 / math.sqrt(in_features * n))
        if base != "none":
            self.base_weight = nn.Parameter(torch.empty(out_features, in_features))
            nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        if scaler:
            self.spline_scaler = nn.Parameter(torch.ones(out_features, in_features))
        self.scaler = scaler

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Expand, then one matrix product; the base function rides along as one more function."""
        check_shape("x", x, ("...", self.in_features))
        functions = bspline_basis(x, self.grid_size, self.order, self.low, self.high)
        weight = self.spline_weight * self.spline_scaler[..., None] if self.scaler else self.spline_weight
        out = functions.flatten(-2) @ weight.flatten(1).T
        return out if self.base == "none" else out + F.linear(BASES[self.base](x), self.base_weight)


class ReLUKANLayer(nn.Module):
    """ReLU-KAN: bumps (relu(x - low_ij) relu(high_ij - x) r)^2, r = 4 G^2 / (k + 1)^2, with trained ends.

    `norm` puts a LayerNorm on the input, as the copy in the authors' collection of AF-KAN does.
    """

    def __init__(self, in_features: int, out_features: int, grid_size: int = 5, order: int = 3, norm: bool = False):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        start = torch.arange(-order, grid_size) / grid_size
        self.low = nn.Parameter(start.expand(in_features, -1).clone())
        self.high = nn.Parameter(self.low.detach() + (order + 1) / grid_size)
        self.scale = 4 * grid_size**2 / (order + 1) ** 2
        self.norm = nn.LayerNorm(in_features) if norm else nn.Identity()
        self.linear = nn.Linear(in_features * (grid_size + order), out_features)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Bumps of every input, then a linear layer."""
        check_shape("x", x, ("...", self.in_features))
        x = self.norm(x)[..., None]
        bumps = (torch.relu(x - self.low) * torch.relu(self.high - x) * self.scale).square()
        add_operations(6 * bumps.numel(), "bumps")
        return self.linear(bumps.flatten(-2))


class RBFKANLayer(nn.Module):
    """FastKAN: Gaussians of a LayerNorm of the input on `grid_size` centres, and a linear layer on silu(x)."""

    def __init__(self, in_features: int, out_features: int, grid_size: int = 8, low: float = -2.0, high: float = 2.0):
        super().__init__()
        if grid_size < 2:
            raise ValueError(f"grid_size: from 2, given {grid_size}")
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("centres", torch.linspace(low, high, grid_size))
        self.width = (high - low) / (grid_size - 1)
        self.norm = nn.LayerNorm(in_features)
        self.spline = nn.Linear(in_features * grid_size, out_features, bias=False)
        nn.init.trunc_normal_(self.spline.weight, std=0.1)
        self.base = nn.Linear(in_features, out_features)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Gaussians of every input, then two linear layers."""
        check_shape("x", x, ("...", self.in_features))
        hills = torch.exp(-(((self.norm(x)[..., None] - self.centres) / self.width) ** 2))
        add_operations(4 * hills.numel(), "Gaussians")
        return self.spline(hills.flatten(-2)) + self.base(F.silu(x))


class ChebyKANLayer(nn.Module):
    """ChebyKAN: Chebyshev polynomials up to `degree` of tanh(x)."""

    def __init__(self, in_features: int, out_features: int, degree: int = 4):
        super().__init__()
        if degree < 1:
            raise ValueError(f"degree: from 1, given {degree}")
        self.in_features, self.out_features, self.degree = in_features, out_features, degree
        self.weight = nn.Parameter(torch.empty(out_features, in_features, degree + 1))
        nn.init.normal_(self.weight, std=1 / (in_features * (degree + 1)))

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """T_0 to T_degree by their recurrence, then one matrix product."""
        check_shape("x", x, ("...", self.in_features))
        u = torch.tanh(x)
        rows = [torch.ones_like(u), u]
        for _ in range(self.degree - 1):
            rows.append(2 * u * rows[-1] - rows[-2])
        add_operations(3 * self.degree * u.numel(), "Chebyshev polynomials")
        return torch.stack(rows, -1).flatten(-2) @ self.weight.flatten(1).T


class BSplineActivation(nn.Module):
    """A learnt spline a feature: out_p = sum_i c_pi B_i(x_p), started near silu."""

    def __init__(self, features: int, grid_size: int = 5, order: int = 3, low: float = -2.0, high: float = 2.0):
        super().__init__()
        self.features, self.grid_size, self.order, self.low, self.high = features, grid_size, order, low, high
        points = np.linspace(low, high, 8 * (grid_size + order))
        basis = bspline_basis(torch.from_numpy(points), grid_size, order, low, high).numpy()
        start = torch.tensor(np.linalg.lstsq(basis, points / (1 + np.exp(-points)), rcond=None)[0], dtype=torch.float32)
        self.coefficients = nn.Parameter(start.expand(features, -1).clone())

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch features"]:
        """Feature by feature."""
        check_shape("x", x, ("...", self.features))
        return (bspline_basis(x, self.grid_size, self.order, self.low, self.high) * self.coefficients).sum(-1)


KINDS: dict[str, Callable[..., nn.Module]] = {
    "bspline": BSplineKANLayer,
    "relu": ReLUKANLayer,
    "rbf": RBFKANLayer,
    "chebyshev": ChebyKANLayer,
}


class KAN(nn.Module, Pretrained, tags=["kan"]):
    """KAN layers one after another.

    Args:
        widths: features from input to output, for example (2, 5, 1).
        kind: bspline, relu, rbf or chebyshev.
        hidden_range: half the range of the B-spline grid of all layers but the first, whose inputs are not confined.
        options: further arguments of every layer, as plain values.
    """

    def __init__(
        self,
        widths: Sequence[int],
        kind: str = "bspline",
        hidden_range: float | None = None,
        options: dict[str, Any] | None = None,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind {kind!r}: one of {', '.join(KINDS)}")
        if len(widths) < 2:
            raise ValueError(f"widths: at least input and output, given {tuple(widths)}")
        if hidden_range is not None and kind != "bspline":
            raise ValueError("hidden_range: only B-splines have a range")
        self.in_features = widths[0]
        layers = []
        for place, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            own = dict(options or {})
            if place and hidden_range is not None:
                own |= {"low": -hidden_range, "high": hidden_range}
            layers.append(KINDS[kind](n_in, n_out, **own))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch out"]:
        """Layer after layer; nothing is in between."""
        check_shape("x", x, ("batch", self.in_features))
        return self.layers(x)

    @classmethod
    def example(cls) -> Example:
        """Two inputs, three hidden units, two outputs."""
        return Example(cls((2, 3, 2)), (torch.rand(4, 2) * 2 - 1,))
