"""The paper's transformers: OFormer with linear attention as an integral, and a ViT with resampled positions.

arXiv 2506.10973; authors' code neuraloperator/NNs-to-NOs, models/oformer.py (after arXiv 2205.13671) and models/vit.py.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.nn.vit import Block, FeedForward, PatchEmbed, initialise_vit, resize_position_embedding
from paperworks.operators.fno import SpectralConv

from .function_layers import QuadratureAttention, grid_coordinates
from .model import TAGS, spectral_weight

OFORMER_NAMES = {
    "lifting": "lifting",
    "to_out": "project",
    "attention_norms": "attention_norms",
    "attention_layers": "attentions",
    "conv_norms": "spectral_norms",
    "mlp_norms": "mlp_norms",
    "mlp_layers": "mlps",
}

HUGGING_FACE = {  # names of transformers 4 (the authors' time) and 5
    4: {
        "layer": "vit.encoder.layer",
        "qkv": "attention.attention.{}",
        "of": "query key value",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    },
    5: {
        "layer": "vit.layers",
        "qkv": "attention.{}_proj",
        "of": "q k v",
        "attn.proj": "attention.o_proj",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    },
}


class OFormer(nn.Module, Pretrained, tags=TAGS):
    """Attention as an integral operator beside a spectral convolution, on 2D grids of any size.

    Layer: u = (u + attention(LN u) + spectral(LN u)) / sqrt 3; u = u + MLP(LN u). Attention is linear, its queries and
    keys rotated by coordinates linspace(0, 1, n).

    Args:
        width: channels, and channels of each head; `heads`: their number.
        n_modes: Fourier modes an axis, both signs counted.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 220,
        heads: int = 16,
        n_layers: int = 4,
        n_modes: int = 16,
        mlp_ratio: float = 2.0,
    ):
        super().__init__()
        self.in_channels = in_channels
        self.lifting, self.project = nn.Linear(in_channels, width), nn.Linear(width, out_channels)
        self.attention_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_layers))
        self.spectral_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_layers))
        self.mlp_norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(n_layers))
        self.attentions = nn.ModuleList(
            QuadratureAttention(width, heads, "galerkin", head_dim=width, qkv_bias=False) for _ in range(n_layers)
        )
        self.spectral = nn.ModuleList(
            SpectralConv(width, width, (n_modes // 2, n_modes // 2 + 1)) for _ in range(n_layers)
        )
        self.spectral_bias = nn.ParameterList(torch.zeros(width) for _ in range(n_layers))
        self.mlps = nn.ModuleList(FeedForward(width, int(mlp_ratio * width)) for _ in range(n_layers))
        for layer in self.attentions:
            self._start(layer)
        for layer in self.spectral:
            nn.init.normal_(layer.weight, std=(2 * width) ** -0.5)  # type: ignore[arg-type]

    @staticmethod
    def _start(attention: nn.Module) -> None:
        """A small gain and a diagonal for each head (Table 8 of arXiv 2105.14995)."""
        for part in (attention.to_q, attention.to_k, attention.to_v):
            for rows in part.weight.data.split(attention.head_dim):  # type: ignore[union-attr, operator]
                nn.init.xavier_uniform_(rows, gain=rows.shape[0] ** -0.5)
                if rows.shape[0] == rows.shape[1]:
                    rows += rows.shape[0] ** -0.5 * torch.eye(rows.shape[0])

    def forward(
        self,
        u: Float[Tensor, "batch channels rows columns"],
        weights: Float[Tensor, " points"] | None = None,
    ) -> Float[Tensor, "batch out rows columns"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid); `weights` of the flattened grid."""
        check_shape("u", u, ("batch", self.in_channels, "rows", "columns"))
        grid = u.shape[2:]
        at = grid_coordinates(grid, endpoint=True, like=u).flatten(1).T
        u = self.lifting(u.flatten(2).transpose(1, 2))
        for i, attention in enumerate(self.attentions):
            modes = self.spectral_norms[i](u).transpose(1, 2).unflatten(2, grid)
            modes = self.spectral[i](modes).flatten(2).transpose(1, 2) + self.spectral_bias[i]
            u = (u + modes + attention(self.attention_norms[i](u), weights, coordinates=at)) / 3**0.5
            u = u + self.mlps[i](self.mlp_norms[i](u))
        return self.project(u).transpose(1, 2).unflatten(2, grid)

    def load_official(self, state: Mapping[str, Tensor]) -> "OFormer":
        """Load the state dict of the authors' `OFormer` (or its wrapper) without a decoder, strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        renamed: dict[str, Tensor] = {}
        try:
            for name, value in state.items():
                if name == "_metadata":
                    continue
                first, _, rest = name.removeprefix("model.").removeprefix("encoder.").partition(".")
                if first == "conv_layers":
                    index, _, what = rest.partition(".")
                    if what == "bias":
                        renamed[f"spectral_bias.{index}"] = value.flatten()
                    else:
                        renamed[f"spectral.{index}.weight"] = spectral_weight(value)
                    continue
                rest = rest.replace("fcs.0", "fc1").replace("fcs.1", "fc2")
                renamed[f"{OFORMER_NAMES[first]}.{rest}"] = value
            self.load_state_dict(renamed, strict=True)
        except (KeyError, RuntimeError, IndexError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two layers of two heads, without weights."""
        return Example(cls(2, 1, width=8, heads=2, n_layers=2, n_modes=4), (torch.randn(3, 2, 6, 6),))


class FieldViT(nn.Module, Pretrained, tags=TAGS):
    """A vision transformer from 2D fields to fields; learned positions are resampled on other grids (the fallback).

    Patch size in pixels is fixed, so its physical size shrinks on finer grids, and the pixel shuffle at the end has no
    limit: this is the paper's baseline and no operator.

    Args:
        base_resolution: side of the grid of training, which the table of positions belongs to.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        base_resolution: int = 128,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_hidden: int = 1900,
    ):
        super().__init__()
        self.in_channels, self.patch_size, self.base_resolution = in_channels, patch_size, base_resolution
        side = base_resolution // patch_size
        self.patch_embed = PatchEmbed(patch_size, in_channels, embed_dim)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, side * side + 1, embed_dim))
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads) for _ in range(depth))
        for block in self.blocks:
            block.mlp = FeedForward(embed_dim, mlp_hidden)
        self.norm = nn.LayerNorm(embed_dim)
        self.decoder = nn.Conv2d(embed_dim, patch_size**2 * out_channels, 1)
        initialise_vit(self)
        for layer in self.modules():
            if isinstance(layer, nn.LayerNorm):
                layer.eps = 1e-12

    def forward(self, u: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out rows columns"]:
        """(batch, in_channels, n, n) -> (batch, out_channels, n, n); the patch size must divide n."""
        n = u.shape[-1]
        check_shape("u", u, ("batch", self.in_channels, n, n))
        if n % self.patch_size:
            raise ValueError(f"u: expected a side that {self.patch_size} divides, given {n}")
        side = n // self.patch_size
        positions = self.pos_embed
        if n != self.base_resolution:
            positions = resize_position_embedding(positions, side)
        x = torch.cat([self.cls_token.expand(len(u), -1, -1), self.patch_embed(u)], 1) + positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)[:, 1:].transpose(1, 2).unflatten(2, (side, side))
        return F.pixel_shuffle(self.decoder(x), self.patch_size)

    def load_official(self, state: Mapping[str, Tensor]) -> "FieldViT":
        """Load the state dict of the authors' `ViT` (names of Hugging Face's `ViTModel`), strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        todo, renamed = dict(state), {}

        def take(ours: str, theirs: str) -> None:
            for kind in ("weight", "bias"):
                renamed[f"{ours}.{kind}"] = todo.pop(f"{theirs}.{kind}")

        try:
            renamed["cls_token"] = todo.pop("vit.embeddings.cls_token")
            renamed["pos_embed"] = todo.pop("vit.embeddings.position_embeddings")
            take("patch_embed.proj", "vit.embeddings.patch_embeddings.projection")
            names = HUGGING_FACE[5 if any(name.startswith("vit.layers.") for name in todo) else 4]
            for i in range(len(self.blocks)):
                layer, block = f"{names['layer']}.{i}", f"blocks.{i}"
                for kind in ("weight", "bias"):
                    parts = [todo.pop(f"{layer}.{names['qkv'].format(n)}.{kind}") for n in names["of"].split()]
                    renamed[f"{block}.attn.qkv.{kind}"] = torch.cat(parts)
                for ours in ("attn.proj", "mlp.fc1", "mlp.fc2"):
                    take(f"{block}.{ours}", f"{layer}.{names[ours]}")
                take(f"{block}.norm1", f"{layer}.layernorm_before")
                take(f"{block}.norm2", f"{layer}.layernorm_after")
            take("norm", "vit.layernorm")
            take("decoder", "decoder.0")
            self.load_state_dict(renamed | todo, strict=True)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two blocks on one and a half times the grid of the table."""
        made = cls(2, 1, base_resolution=8, patch_size=4, embed_dim=12, depth=2, num_heads=2, mlp_hidden=20)
        for parameter in (made.cls_token, made.pos_embed):
            parameter.data.mul_(20)
        return Example(made, (torch.randn(3, 2, 12, 12),))


@published_size(parameters=68_931_941)
def nn_to_no_oformer() -> OFormer:
    """The paper's OFormer (authors' oformer.yaml)."""
    return OFormer()


@published_size(parameters=63_884_560)
def nn_to_no_vit() -> FieldViT:
    """The paper's ViT (authors' vit.yaml)."""
    return FieldViT()
