"""Attention, positions and norms of functions on any points (arXiv 2506.10973, the recipes for transformers)."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape
from paperworks.operators.quadrature_attention import linear_attention, quadrature_attention


def grid_coordinates(
    grid: Sequence[int],
    domain_length: float | Sequence[float] = 1.0,
    *,
    endpoint: bool = False,
    like: Tensor | None = None,
) -> Float[Tensor, "dims *grid"]:
    """Physical coordinates of a regular grid: j / n of the length an axis, or j / (n - 1) with its end point."""
    lengths = [domain_length] * len(grid) if isinstance(domain_length, int | float) else list(domain_length)
    options = {} if like is None else {"dtype": like.dtype, "device": like.device}
    axes = [
        torch.linspace(0, length * (1 if endpoint else (n - 1) / n), n, **options)  # type: ignore[call-overload]
        for n, length in zip(grid, lengths, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


class CoordinateEmbedding(nn.Module):
    """A fixed function of the grid's coordinates appended to the channels: what replaces an index embedding.

    Args:
        ndim: axes of the domain.
        frequencies: pairs sin, cos of 2 pi 2^l x / length an axis, l = 0 .. frequencies - 1; 0: the coordinates
            themselves. The coarsest grid must carry the highest: 2^(frequencies - 1) < N / 2.
    """

    def __init__(self, ndim: int, frequencies: int = 0, domain_length: float | Sequence[float] = 1.0):
        super().__init__()
        self.ndim, self.frequencies, self.domain_length = ndim, frequencies, domain_length

    @property
    def extra_channels(self) -> int:
        """Channels that are appended."""
        return self.ndim * max(1, 2 * self.frequencies)

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch more_channels *grid"]:
        """(batch, channels, *grid) -> (batch, channels + extra_channels, *grid)."""
        check_shape("x", x, ("batch", "channels", *[f"n{a}" for a in range(self.ndim)]))
        grid = x.shape[2:]
        if self.frequencies and 2 ** (self.frequencies - 1) >= min(grid) / 2:
            raise ValueError(
                f"x: {min(grid)} points cannot carry the frequency 2^{self.frequencies - 1}; take fewer frequencies"
            )
        if not self.frequencies:
            return torch.cat(
                [x, grid_coordinates(grid, self.domain_length, like=x).expand(len(x), *[-1] * (self.ndim + 1))], 1
            )
        unit = grid_coordinates(grid, 1.0, like=x)
        phase = [2 * math.pi * 2**level * unit for level in range(self.frequencies)]
        waves = torch.cat([part for angle in phase for part in (angle.sin(), angle.cos())])
        return torch.cat([x, waves.expand(len(x), *[-1] * (self.ndim + 1))], 1)


def rotary(
    x: Float[Tensor, "batch heads points dim"],
    coordinates: Float[Tensor, "points dims"],
    min_frequency: float = 1 / 64,
    base: float = 10_000.0,
) -> Float[Tensor, "batch heads points dim"]:
    """Rotate channel pairs by angles that grow with physical coordinates, so that q . k depends on differences only.

    Channels are divided among the axes; channel c of an axis's part of size m is rotated, together with channel
    c + m / 2, by (coordinate / min_frequency) base^(-2 c / m).
    """
    dims = coordinates.shape[-1]
    size = x.shape[-1] // dims
    if x.shape[-1] % (2 * dims):
        raise ValueError(f"x: {x.shape[-1]} channels do not divide into pairs on {dims} axes")
    half = torch.arange(0, size, 2, dtype=torch.float32, device=x.device)
    rates = (1 / min_frequency) / base ** (half / size)
    turned = []
    for axis, part in enumerate(x.split(size, dim=-1)):
        angle = (coordinates[:, axis, None].float() * rates).to(x.dtype)
        cos, sin = angle.cos(), angle.sin()
        a, b = part.chunk(2, dim=-1)
        turned += [a * cos - b * sin, b * cos + a * sin]
    return torch.cat(turned, -1)


class QuadratureAttention(nn.Module):
    """Multi-head attention as an integral over points: self-attention, or values at other query functions.

    Args:
        dim, heads: channels and heads.
        kind: softmax, or galerkin (linear in the number of points: q (sum_j w_j k_j v_j^T), keys and values
            normalised over each head's channels).
        head_dim: channels a head; default dim / heads.
        qkv_bias, out_bias: biases of the projections.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        kind: str = "softmax",
        head_dim: int | None = None,
        qkv_bias: bool = True,
        out_dim: int | None = None,
    ):
        super().__init__()
        if kind not in ("softmax", "galerkin"):
            raise ValueError(f"kind {kind!r}: softmax or galerkin")
        if head_dim is None and dim % heads:
            raise ValueError(f"heads: {heads} do not divide {dim} channels")
        self.dim, self.heads, self.kind = dim, heads, kind
        self.head_dim = dim // heads if head_dim is None else head_dim
        inner = heads * self.head_dim
        self.to_q = nn.Linear(dim, inner, bias=qkv_bias)
        self.to_k = nn.Linear(dim, inner, bias=qkv_bias)
        self.to_v = nn.Linear(dim, inner, bias=qkv_bias)
        self.to_out = nn.Linear(inner, dim if out_dim is None else out_dim)
        self.weights: Tensor | None = None  # of the grid at hand; see `set_quadrature`

    def forward(
        self,
        x: Float[Tensor, "batch points channels"],
        weights: Float[Tensor, "... points"] | None = None,
        query: Float[Tensor, "batch queries channels"] | None = None,
        coordinates: Float[Tensor, "points dims"] | None = None,
        query_coordinates: Float[Tensor, "queries dims"] | None = None,
    ) -> Float[Tensor, "batch queries out_channels"]:
        """(batch, points, dim) -> (batch, queries, dim).

        Args:
            weights: quadrature weights of the points, (points,) or (batch, points); None: a uniform grid.
            query: a function at the points where values are asked for; default x.
            coordinates, query_coordinates: physical positions; where given, queries and keys are rotated by them.
        """
        check_shape("x", x, ("batch", "points", self.dim))
        asked = x if query is None else query
        check_shape("query", asked, (len(x), "queries", self.dim))
        weights = self.weights if weights is None else weights
        q, k, v = (layer(t).unflatten(-1, (self.heads, -1)) for layer, t in self._maps(asked, x))
        if self.kind == "galerkin":
            k, v = (nn.functional.layer_norm(t, (self.head_dim,)) for t in (k, v))
        q, k, v = (t.transpose(1, 2).contiguous() for t in (q, k, v))
        if coordinates is not None:
            k = rotary(k, coordinates)
            q = rotary(q, coordinates if query is None or query_coordinates is None else query_coordinates)
        attend = quadrature_attention if self.kind == "softmax" else linear_attention
        return self.to_out(attend(q, k, v, weights).transpose(1, 2).flatten(2))

    def _maps(self, asked: Tensor, x: Tensor) -> list[tuple[nn.Linear, Tensor]]:
        return [(self.to_q, asked), (self.to_k, x), (self.to_v, x)]


class IntegralNorm(nn.Module):
    """Group (or instance) norm of functions: mean and variance are integrals, with quadrature weights where given.

    Equal to `nn.GroupNorm` on a uniform grid. groups = channels is instance norm, groups = 1 one norm over all.
    """

    def __init__(self, channels: int, groups: int = 1, eps: float = 1e-5, affine: bool = True):
        super().__init__()
        if channels % groups:
            raise ValueError(f"groups: {groups} do not divide {channels} channels")
        self.channels, self.groups, self.eps = channels, groups, eps
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.weights: Tensor | None = None  # of the grid at hand; see `set_quadrature`

    def forward(
        self, x: Float[Tensor, "batch channels *grid"], weights: Float[Tensor, "*grid"] | None = None
    ) -> Float[Tensor, "batch channels *grid"]:
        """Normalised over space and the group's channels. `weights` (*grid) >= 0; their scale does not matter."""
        check_shape("x", x, ("batch", self.channels, *[f"n{a}" for a in range(x.ndim - 2)]))
        weights = self.weights if weights is None else weights
        if weights is None:
            return nn.functional.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        share = (weights / weights.sum()).to(x.dtype)
        check_shape("weights", share, tuple(x.shape[2:]))
        grouped = x.unflatten(1, (self.groups, -1))
        axes = list(range(2, grouped.ndim))
        size = grouped.shape[2]
        mean = (grouped * share).sum(axes, keepdim=True) / size
        variance = ((grouped - mean).square() * share).sum(axes, keepdim=True) / size
        y = ((grouped - mean) * (variance + self.eps).rsqrt()).flatten(1, 2)
        if self.weight is None or self.bias is None:
            return y
        shape = (-1, *[1] * (x.ndim - 2))
        return y * self.weight.reshape(shape) + self.bias.reshape(shape)
