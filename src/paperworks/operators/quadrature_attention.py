"""Attention as an integral over sampled functions: softmax and linear, with the weights of the grid's quadrature.

A sum over tokens changes with the grid; an integral does not. With points x_j and quadrature weights w_j,

    softmax:  out(x) = sum_j exp(q(x).k_j / sqrt d) v_j w_j / sum_j exp(q(x).k_j / sqrt d) w_j
    linear:   out(x) = q(x) . sum_j w_j k_j v_j^T

tend to one operator as the grid is refined (arXiv 2506.10973, the recipe for attention; arXiv 2406.06486, equation of
continuum attention). Weights enter the softmax as log w_j added to the scores, so fused kernels stay usable.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def trapezoid_weights(
    coordinates: Float[Tensor, "*batch points"], period: float | None = None
) -> Float[Tensor, "*batch points"]:
    """Weights of the trapezoidal rule on sorted coordinates: half of both adjacent gaps.

    Args:
        coordinates: increasing along the last axis, at least two.
        period: the domain's length where it is a circle; the gap that closes it is then counted as well.

    Raises:
        ValueError: fewer than two points.
    """
    if coordinates.shape[-1] < 2:
        raise ValueError(f"coordinates: expected at least 2 points, given {tuple(coordinates.shape)}")
    gaps = coordinates.diff(dim=-1)
    if period is None:
        return 0.5 * (F.pad(gaps, (1, 0)) + F.pad(gaps, (0, 1)))
    closing = period - (coordinates[..., -1:] - coordinates[..., :1])
    return 0.5 * (torch.cat([closing, gaps], -1) + torch.cat([gaps, closing], -1))


def quadrature_attention(
    q: Float[Tensor, "*batch queries dim"],
    k: Float[Tensor, "*batch points dim"],
    v: Float[Tensor, "*batch points features"],
    weights: Float[Tensor, "... points"] | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Float[Tensor, "*batch queries features"]:
    """Softmax attention whose sums over points are integrals.

    Args:
        q, k, v: (batch..., heads, points, channels a head), as `scaled_dot_product_attention` takes them.
        weights: quadrature weights w_j >= 0 of the points that are attended to: (points,) for one grid, or (batch,
            points) for a grid a row of four-axis inputs. Their scale does not matter. None: a uniform grid, where they
            cancel. A weight of 0 takes a point out.
        dropout: of attention weights; for training only, the caller passes 0 in evaluation.
        scale: of the scores; default 1 / sqrt(dim).

    Raises:
        ValueError: as many weights as points are needed.
    """
    bias = None if weights is None else _per_key(weights, k).log().to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)


def linear_attention(
    q: Float[Tensor, "*batch queries dim"],
    k: Float[Tensor, "*batch points dim"],
    v: Float[Tensor, "*batch points features"],
    weights: Float[Tensor, "... points"] | None = None,
    scale: float = 1.0,
) -> Float[Tensor, "*batch queries features"]:
    """Attention without softmax (Galerkin type, arXiv 2105.14995), of cost O(points dim features).

    Args:
        q, k, v: (batch..., heads, points, channels a head).
        weights: quadrature weights, (points,) or (batch, points). None: 1 / points, a uniform grid on a domain of
            measure 1.
        scale: a factor on the result.
    """
    if weights is None:
        return q @ (k.mT @ v * (scale / k.shape[-2]))
    return q @ (k.mT @ (v * _per_key(weights, k).mT.to(v.dtype)) * scale)


def _per_key(weights: Tensor, k: Tensor) -> Tensor:
    """Weights as (1, points), or (batch, 1, 1, points) where every row has its own grid."""
    points = k.shape[-2]
    if weights.shape[-1] != points or weights.ndim > 2 or (weights.ndim == 2 and len(weights) != len(k)):
        raise ValueError(f"weights: expected shape ({points},) or ({len(k)}, {points}), given {tuple(weights.shape)}")
    if weights.ndim == 1:
        return weights[None]
    return weights.reshape(len(weights), *[1] * (k.ndim - 2), points)
