"""What pooling and torch's own attention become in a converted network (arXiv 2506.10973)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.operators.quadrature_attention import quadrature_attention

from .function_layers import IntegralNorm, QuadratureAttention
from .local_convs import LocalIntegralConv


class LocalMean(nn.Module):
    """Average pooling over a window of fixed physical size; the output grid is `stride` times coarser."""

    def __init__(self, kernel_size: Sequence[int], spacing: Sequence[float], **options: Any):
        super().__init__()
        self.window = LocalIntegralConv(1, 1, kernel_size, spacing, bias=False, padding_mode="zeros", **options)
        self.window.weight.requires_grad_(False).fill_(1 / math.prod(self.window.kernel_size))

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch channels *out_grid"]:
        """Means over the window around each point of the coarser grid."""
        return self.window(x.flatten(0, 1)[:, None])[:, 0].unflatten(0, x.shape[:2])


class LocalMaximum(nn.Module):
    """Max pooling over a window of fixed physical size; the output grid is `stride` times coarser."""

    def __init__(self, kernel_size: Sequence[int], stride: Sequence[int], origin: Sequence[int], base: Sequence[int]):
        super().__init__()
        self.kernel_size, self.stride, self.origin = tuple(kernel_size), tuple(stride), tuple(origin)
        self.base = tuple(base)

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch channels *out_grid"]:
        """Maxima over the window around each point of the coarser grid."""
        first, last = [], []
        for axis, points in enumerate(x.shape[2:]):
            scale = points / self.base[axis]
            first.append(math.ceil(-self.origin[axis] * scale - 1e-6))
            last.append(math.floor((self.kernel_size[axis] - 1 - self.origin[axis]) * scale + 1e-6))
        lowest = float("-inf")
        amounts = [n for a, b in zip(reversed(first), reversed(last), strict=True) for n in (-a, b)]
        pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(first)]
        sizes = [b - a + 1 for a, b in zip(first, last, strict=True)]
        return pool(F.pad(x, amounts, value=lowest), sizes, self.stride)


class QuadratureMultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with quadrature weights of the keys' points (`set_quadrature`); its weights are shared.

    Equal to it where there are none, which is a uniform grid.
    """

    def __init__(self, given: nn.MultiheadAttention):
        nn.Module.__init__(self)
        self.__dict__.update({n: v for n, v in given.__dict__.items() if not n.startswith("_") or n == "_parameters"})
        self._modules, self._buffers = given._modules, given._buffers
        self._qkv_same_embed_dim = False  # keeps nn.TransformerEncoderLayer from its fused path, which knows no weights
        self.weights: Tensor | None = None

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """As `nn.MultiheadAttention`, without attention weights as a result; masks are those of no grid: refused."""
        if attn_mask is not None or is_causal:
            raise ValueError("attn_mask: a mask by index has no meaning on another grid; use quadrature weights of 0")
        if query.ndim == 2:
            query, key, value = query[None], key[None], value[None]
            return self.forward(query, key, value, key_padding_mask)[0][0], None
        if not self.batch_first:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        if self.in_proj_weight is not None:
            maps = self.in_proj_weight.chunk(3)
        else:
            maps = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        shifts = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(t, w, b).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for t, w, b in zip((query, key, value), maps, shifts, strict=True)
        )
        weights = self.weights
        if key_padding_mask is not None:
            there = 1 - key_padding_mask.to(q.dtype) if key_padding_mask.dtype == torch.bool else key_padding_mask.exp()
            weights = there if weights is None else there * weights
        out = quadrature_attention(q, k, v, weights, dropout=self.dropout if self.training else 0.0)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        return (out if self.batch_first else out.transpose(0, 1)), None


def set_quadrature(module: nn.Module, weights: Float[Tensor, "..."] | None) -> nn.Module:
    """Give the quadrature weights of the grid at hand to every attention and norm of `module`; None: a uniform grid."""
    for part in module.modules():
        if isinstance(part, QuadratureAttention | QuadratureMultiheadAttention):
            part.weights = None if weights is None else weights.flatten()
        elif isinstance(part, IntegralNorm):
            part.weights = weights
    return module
