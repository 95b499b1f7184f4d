"""Shifted-window cosine attention with a continuous position bias: scOT's mixer, which DRIFT-Net replaces.

Swin Transformer V2: Liu et al., arXiv 2111.09883 (section 3); as scOT (arXiv 2405.19101) uses it.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape


def relative_offsets(window: int) -> Tensor:
    """((2 w - 1)^2, 2): sign(u) log2(1 + |u|) / 3 of u = 8 offset / (w - 1), for all offsets of rows and columns."""
    steps = torch.arange(-(window - 1), window, dtype=torch.float64) * 8 / max(window - 1, 1)
    logs = steps.sign() * (1 + steps.abs()).log2() / 3
    return torch.stack(torch.meshgrid(logs, logs, indexing="ij"), -1).flatten(0, 1)


def offset_index(window: int) -> Tensor:
    """(w^2, w^2): which row of `relative_offsets` lies between two places of a window."""
    row, column = torch.arange(window * window) // window, torch.arange(window * window) % window
    rows, columns = (place[:, None] - place + window - 1 for place in (row, column))
    return rows * (2 * window - 1) + columns


def seam_mask(size: int, window: int, shift: int) -> Tensor:
    """(windows, w^2, w^2): -100 between tokens of a shifted window that were not neighbours before the shift."""
    region = torch.zeros(size, dtype=torch.long)
    region[size - window : size - shift], region[size - shift :] = 1, 2
    regions = rearrange(3 * region[:, None] + region, "(i r) (j s) -> (i j) (r s)", r=window, s=window)
    return torch.where(regions[:, :, None] == regions[:, None, :], 0.0, -100.0)


class WindowAttention(nn.Module):
    """Attention inside windows of a square grid: (batch, size, size, dim) -> the same.

    score = cosine(q, k) exp(min(s, ln 100)) + 16 sigmoid(bias(offset)) + seam mask, s a number a head.

    Args:
        window: points an axis of a window; at most the grid, which it must divide.
        shift: the windows are moved by this much; nothing where one window is the whole grid.
        periodic: no mask at the seams: shifted windows reach around the edge, as the fields do.
    """

    bias_offsets: Tensor
    bias_index: Tensor
    mask: Tensor | None

    def __init__(self, dim: int, size: int, num_heads: int, window: int = 16, shift: int = 0, periodic: bool = False):
        super().__init__()
        window = min(window, size)
        if size % window:
            raise ValueError(f"window: must divide the grid of {size}, given {window}")
        if dim % num_heads:
            raise ValueError(f"num_heads: {num_heads} do not divide {dim} channels")
        self.dim, self.size, self.num_heads, self.window = dim, size, num_heads, window
        self.shift = 0 if window == size else shift
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False), nn.Linear(dim, dim)
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.bias_hidden, self.bias_out = nn.Linear(2, 512), nn.Linear(512, num_heads, bias=False)
        self.projection = nn.Linear(dim, dim)
        self.register_buffer("bias_offsets", relative_offsets(window).float(), persistent=False)
        self.register_buffer("bias_index", offset_index(window), persistent=False)
        masked = self.shift > 0 and not periodic
        mask = seam_mask(size, window, self.shift) if masked else None
        self.register_buffer("mask", mask, persistent=False)

    def position_bias(self) -> Float[Tensor, "heads tokens tokens"]:
        """16 sigmoid of the small net's value at every offset."""
        offsets = self.bias_offsets.to(self.bias_hidden.weight.dtype)
        each = 16 * self.bias_out(F.relu(self.bias_hidden(offsets))).sigmoid()
        tokens = self.window**2
        return each[self.bias_index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1)

    def forward(self, x: Float[Tensor, "batch h w channels"]) -> Float[Tensor, "batch h w channels"]:
        """Tokens to tokens."""
        check_shape("x", x, ("batch", self.size, self.size, self.dim))
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        side, count = self.window, self.size // self.window
        windows = rearrange(x, "b (i r) (j s) c -> b (i j) (r s) c", r=side, s=side)
        q, k, v = (
            rearrange(part(windows), "b n t (h d) -> b n h t d", h=self.num_heads)
            for part in (self.query, self.key, self.value)
        )
        scale = self.logit_scale.clamp(max=math.log(100)).exp()
        bias = self.position_bias()
        bias = bias[None] if self.mask is None else bias + self.mask[:, None].to(bias.dtype)
        bias = bias.expand(count * count, -1, -1, -1).flatten(0, 1)[None]
        q, k, v = (F.normalize(q, dim=-1) * scale).flatten(1, 2), F.normalize(k, dim=-1).flatten(1, 2), v.flatten(1, 2)
        out = F.scaled_dot_product_attention(q, k, v.to(q.dtype), attn_mask=bias.to(q.dtype), scale=1.0)
        out = rearrange(out, "b (n h) t d -> b n t (h d)", h=self.num_heads)
        out = rearrange(self.projection(out), "b (i j) (r s) c -> b (i r) (j s) c", i=count, r=side)
        return torch.roll(out, (self.shift, self.shift), (1, 2)) if self.shift else out
