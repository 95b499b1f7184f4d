"""Vision-transformer blocks (Dosovitskiy et al., arXiv 2010.11929), named as timm names their parameters."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6  # of every layer norm


class DropPath(nn.Module):
    """Stochastic depth: in training, a row's residual branch is dropped with this probability, the rest scaled up."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x, or x with some rows zero."""
        if not self.training or self.rate == 0:
            return x
        kept = 1 - self.rate
        shape = (len(x),) + (1,) * (x.ndim - 1)
        return x * (torch.rand(shape, device=x.device) < kept).to(x) / kept


class SelfAttention(nn.Module):
    """Multi-head self-attention with one product for queries, keys and values."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, drop: float = 0.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads: {num_heads} does not divide the width {dim}")
        self.num_heads, self.drop = num_heads, drop
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=qkv_bias), nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Every token attends to all."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.num_heads, d // self.num_heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        return F.dropout(self.proj(x), self.drop, self.training)


class FeedForward(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int, drop: float = 0.0):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(dim, hidden), nn.Linear(hidden, dim), drop

    def forward(self, x: Tensor) -> Tensor:
        """Token by token."""
        x = F.dropout(F.gelu(self.fc1(x)), self.drop, self.training)
        return F.dropout(self.fc2(x), self.drop, self.training)


class Block(nn.Module):
    """Pre-norm block: x += attention(norm(x)); x += feed-forward(norm(x))."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        drop: float = 0.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, eps=EPSILON), nn.LayerNorm(dim, eps=EPSILON)
        self.attn = SelfAttention(dim, num_heads, qkv_bias, drop)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio), drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        """Tokens to tokens."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Images to patch tokens by one strided convolution, or by three with ReLU between (`multi_conv`)."""

    def __init__(self, patch_size: int, in_chans: int, embed_dim: int, multi_conv: bool = False):
        super().__init__()
        if multi_conv:
            strides = {12: ((3, 0), (1, 1)), 16: ((2, 1), (2, 1))}
            if patch_size not in strides:
                raise ValueError(f"patch_size: three convolutions are defined for 12 and 16, given {patch_size}")
            (s2, p2), (s3, p3) = strides[patch_size]
            self.proj: nn.Module = nn.Sequential(
                nn.Conv2d(in_chans, embed_dim // 4, 7, stride=4, padding=3),
                nn.ReLU(),
                nn.Conv2d(embed_dim // 4, embed_dim // 2, 3, stride=s2, padding=p2),
                nn.ReLU(),
                nn.Conv2d(embed_dim // 2, embed_dim, 3, stride=s3, padding=p3),
            )
        else:
            self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, stride=patch_size)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch tokens dim"]:
        """Tokens in row-major order of the patches."""
        return self.proj(x).flatten(2).transpose(1, 2)


@torch.no_grad()
def initialise_vit(module: nn.Module, gain: float | None = None) -> None:
    """Truncated normal weights of every linear layer, zero biases; convolutions keep torch's default.

    Args:
        gain: None is the published deviation 0.02; a number c gives c / sqrt(inputs), which small widths need.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02 if gain is None else gain / layer.in_features**0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def resize_position_embedding(embedding: Float[Tensor, "1 tokens dim"], side: int) -> Float[Tensor, "1 newtokens dim"]:
    """Position embeddings of a class token and a square grid, interpolated bicubically to a grid of `side`."""
    cls, grid = embedding[:, :1], embedding[:, 1:]
    old = round(grid.shape[1] ** 0.5)
    image = grid.transpose(1, 2).reshape(1, -1, old, old)
    resized = F.interpolate(image, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([cls, resized.flatten(2).transpose(1, 2)], dim=1)
