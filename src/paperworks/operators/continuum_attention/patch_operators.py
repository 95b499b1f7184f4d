"""Operators whose tokens are functions on patches: the ViT and the Fourier attention neural operator.

Calvello, Kovachki, Levine, Stuart, arXiv 2406.06486 (sections 4.2 and 4.3); authors' code
EdoardoCalvello/TransformerNeuralOperators. The domain is cut into a fixed number of patches, so a finer grid means
more pixels in each and not more tokens. The score of patches P and R is the L2 inner product of two functions,

    s_PR = int_patch <(Q v_P)(x), (K v_R)(x)> dx = sum_x <..., ...> / (pixels of the whole image),

and (A v)_P(x) = sum_R softmax_R(s_PR) (V v_R)(x). In the ViT operator Q, K, V are pointwise; in the Fourier attention
operator they are spectral convolutions. There everything up to the output map stays in Fourier space, exactly: scores
by Parseval's identity, and what is linear after them commutes with the transform.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.operators.fno import SpectralConv

from .encoder import EncoderLayer, attention_maps, check_heads
from .patch_fourier import PatchModes, PatchSpectralConv, mix, official_spectral, scale_of_scores, spectral_weight


def patchify(
    field: Float[Tensor, "batch channels height width"], patches: int
) -> Float[Tensor, "rows columns batch patches channels"]:
    """A field cut into patches x patches pieces, in raster order; space first, channels last."""
    height, width = field.shape[-2:]
    if height % patches or width % patches:
        raise ValueError(
            f"field: expected shape (batch, channels, a multiple of {patches}, a multiple of {patches}), "
            f"given {tuple(field.shape)}"
        )
    cut = field.unflatten(-1, (patches, -1)).unflatten(2, (patches, -1))  # b c P p Q q
    return cut.permute(3, 5, 0, 2, 4, 1).flatten(3, 4)


def unpatchify(
    x: Float[Tensor, "rows columns batch patches channels"], patches: int
) -> Float[Tensor, "batch channels height width"]:
    """The inverse of `patchify`."""
    return x.unflatten(3, (patches, patches)).permute(2, 5, 3, 0, 4, 1).flatten(4, 5).flatten(2, 3)


def with_coordinates(u: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch more height width"]:
    """u, then the coordinate along the last axis, then along the first, each from 0 to 1 over the whole domain."""
    height, width = u.shape[-2:]
    down = torch.linspace(0, 1, height, dtype=u.dtype, device=u.device)[:, None].expand(height, width)
    right = torch.linspace(0, 1, width, dtype=u.dtype, device=u.device).expand(height, width)
    return torch.cat([u, torch.stack([right, down]).expand(len(u), 2, height, width)], dim=1)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float) -> Tensor:
    """softmax(scale q k^T) v over patches; all are (batch, heads, features, patches), as they come out of `mix`."""
    shares = torch.softmax(scale * (q.mT @ k), dim=-1)
    return v @ (F.dropout(shares, dropout) if dropout else shares).mT


class PatchAttention(nn.Module):
    """Attention between functions on patches, with pointwise queries, keys and values.

    Args:
        dropout: of attention weights, while training.
    """

    def __init__(self, d_model: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value, self.output = attention_maps(d_model, heads)

    def forward(
        self, x: Float[Tensor, "height width batch patches d_model"]
    ) -> Float[Tensor, "height width batch patches d_model"]:
        """Patches of any size; the measure is that of the whole image, read off x."""
        height, width, batch, patches, d_model = x.shape
        # batch first and channels before space: then heads and patches are where `attend` wants them, without a copy
        rows = x.permute(2, 0, 1, 3, 4).reshape(batch, -1, d_model)
        maps = self.query_key_value.weight.unflatten(0, (3, 1, -1)).expand(3, batch, d_model, d_model)
        biases = self.query_key_value.bias.view(3, -1, 1)
        q, k, v = (
            torch.baddbmm(bias, weight, rows.mT).view(batch, self.heads, -1, patches)
            for weight, bias in zip(maps, biases, strict=True)
        )
        dropout = self.dropout if self.training else 0.0
        mixed = attend(q, k, v, scale_of_scores(height, width, patches), dropout).view(batch, d_model, -1)
        back = torch.baddbmm(self.output.bias, mixed.mT, self.output.weight.mT.expand(batch, -1, -1))
        return back.view(batch, height, width, patches, d_model).permute(1, 2, 0, 3, 4)


class FourierAttention(nn.Module):
    """Attention between functions on patches, with spectral convolutions as queries, keys and values.

    Args:
        modes: m1 and m2: rows 0 .. m1 - 1 and -m1 .. -1 and columns 0 .. m2 - 1 of a patch's spectrum are kept.
        dropout: of attention weights, and after the output map, while training.
    """

    def __init__(self, d_model: int, heads: int, modes: tuple[int, int], dropout: float = 0.0):
        super().__init__()
        check_heads(d_model, heads)
        self.heads, self.modes, self.dropout = heads, modes, dropout
        d_k = d_model // heads
        # (2 m1, m2, real and imaginary, in, query key value, out)
        self.query_key_value = spectral_weight(modes, d_model, 3, d_model, scale=1 / (d_model * d_k))
        self.output = nn.Linear(d_model, d_model)

    def forward(
        self, x: Float[Tensor, "height width batch patches d_model"]
    ) -> Float[Tensor, "height width batch patches d_model"]:
        """Patches of any size; the measure is that of the whole image, read off x."""
        height, width, batch, patches, d_model = x.shape
        dropout = self.dropout if self.training else 0.0
        with torch.autocast(x.device.type, enabled=False):
            x = x if x.dtype in (torch.float32, torch.float64) else x.float()
            kept = PatchModes(height, width, self.modes, x.device)
            q, k, v = kept.of_weight(self.query_key_value).unbind(4)
            z = mix(kept.transform(x), torch.cat([q, kept.paired(k), v], -1))
            modes = z.shape[0]
            # (modes, 2, 3 heads d_k, batch patches) -> (3, batch, heads, modes 2 d_k, patches)
            z = z.view(modes, 2, 3, self.heads, -1, batch, patches).permute(2, 5, 3, 0, 1, 4, 6)
            q, k, v = z.reshape(3, batch, self.heads, -1, patches)
            scale = scale_of_scores(height, width, patches) / (height * width)
            mixed = attend(q, k, v, scale, dropout).view(batch, self.heads, modes, 2, -1, patches)
            mixed = mixed.permute(2, 3, 1, 4, 0, 5).reshape(modes, 2, d_model, batch * patches)
            out = kept.inverse(mixed.mT @ self.output.weight.mT, batch) + self.output.bias
        return F.dropout(out, dropout) if dropout else out


class ViTNeuralOperator(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2406.06486"]):
    """Fields on a square grid to fields on the same grid: (batch, in_channels, H, W) -> (batch, out_channels, H, W).

    H and W may be any multiples of `patches`, others than in training.

    Args:
        patches: along each axis.
        modes: of the spectral convolution inside each patch that lifts the input.
        smoothing: modes of a last spectral convolution on the whole image, added to the output to take jumps at the
            patches' edges away; 0: none.
        d_model, heads, layers, ff: width, attention heads, encoder layers, hidden channels of the feed-forward part.
        dropout: the authors' runs use 1e-4.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        patches: int = 13,
        modes: Sequence[int] = (9, 9),
        smoothing: int = 64,
        d_model: int = 32,
        heads: int = 8,
        layers: int = 6,
        ff: int = 128,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.in_channels, self.patches = in_channels, patches
        self.lift = PatchSpectralConv(in_channels + 2, d_model, (modes[0], modes[1]))
        self.layers = nn.ModuleList(
            EncoderLayer(PatchAttention(d_model, heads, dropout), d_model, ff, dropout) for _ in range(layers)
        )
        self.project = nn.Linear(d_model, out_channels)
        self.smooth = SpectralConv(out_channels, out_channels, (smoothing, smoothing)) if smoothing else None

    def forward(self, u: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:
        """The output field on the input's grid."""
        return _run(self, u)

    def load_official(self, state: Mapping[str, Tensor]) -> "ViTNeuralOperator":
        """Load the state dict of the authors' ViTNO, strictly; their heads are the fastest axis of the channels.

        Raises:
            ValueError: names or shapes are others.
        """
        todo, renamed = _without_scales(state), {}
        try:
            renamed["lift.weight"] = official_spectral(todo, "linear_in")
            for i, layer in enumerate(self.layers):
                attention, ours = f"encoder.layers.{i}.self_attn.", f"layers.{i}.attention."
                heads: int = layer.attention.heads  # type: ignore[union-attr,assignment]
                for kind in ("weight", "bias"):
                    parts = [_heads_first(todo.pop(f"{attention}W_{name}.{kind}"), heads, 0) for name in "qkv"]
                    renamed[f"{ours}query_key_value.{kind}"] = torch.cat(parts)
                renamed[f"{ours}output.weight"] = _heads_first(todo.pop(f"{attention}W_o.weight"), heads, 1)
                renamed[f"{ours}output.bias"] = todo.pop(f"{attention}W_o.bias")
            _finish_loading(self, todo, renamed)
        except (KeyError, RuntimeError, IndexError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two channels to three, 2 x 2 patches of 4 x 6 pixels."""
        made = cls(2, 3, 2, (2, 2), smoothing=3, d_model=16, heads=2, layers=2, ff=12)
        return Example(_livelier(made), (torch.randn(3, 2, 8, 12),))


class FourierAttentionNeuralOperator(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2406.06486"]):
    """Fields on a square grid to fields on the same grid: (batch, in_channels, H, W) -> (batch, out_channels, H, W).

    H and W may be any multiples of `patches`, others than in training. A patch must carry the modes, 2 m1 <= H /
    patches, if the model is to be the same on that grid; on a coarser one the highest are left out.

    Args:
        patches: along each axis.
        modes: of queries, keys and values inside each patch.
        smoothing: modes of a last spectral convolution on the whole image, added to the output; 0: none.
        d_model, heads, layers, ff: width, attention heads, encoder layers, hidden channels of the feed-forward part.
        dropout: the authors' runs use 1e-4.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        patches: int = 13,
        modes: Sequence[int] = (9, 9),
        smoothing: int = 0,
        d_model: int = 32,
        heads: int = 8,
        layers: int = 6,
        ff: int = 128,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.in_channels, self.patches = in_channels, patches
        self.lift = nn.Linear(in_channels + 2, d_model)
        self.layers = nn.ModuleList(
            EncoderLayer(FourierAttention(d_model, heads, (modes[0], modes[1]), dropout), d_model, ff, dropout)
            for _ in range(layers)
        )
        self.project = nn.Linear(d_model, out_channels)
        self.smooth = SpectralConv(out_channels, out_channels, (smoothing, smoothing)) if smoothing else None

    def forward(self, u: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:
        """The output field on the input's grid."""
        return _run(self, u)

    def load_official(self, state: Mapping[str, Tensor]) -> "FourierAttentionNeuralOperator":
        """Load the state dict of the authors' FANO, strictly; their heads are the fastest axis of the channels.

        Raises:
            ValueError: names or shapes are others.
        """
        todo, renamed = _without_scales(state), {}
        try:
            for kind in ("weight", "bias"):
                renamed[f"lift.{kind}"] = todo.pop(f"linear_in.{kind}")
            for i, layer in enumerate(self.layers):
                attention, ours = f"encoder.layers.{i}.self_attn.", f"layers.{i}.attention."
                heads: int = layer.attention.heads  # type: ignore[union-attr,assignment]
                parts = [official_spectral(todo, f"{attention}{name}_operator") for name in ("query", "key", "value")]
                # (2 m1, m2, 2, in, d_k, heads) each
                renamed[f"{ours}query_key_value"] = torch.stack([p.mT.flatten(-2) for p in parts], dim=4)
                renamed[f"{ours}output.weight"] = _heads_first(todo.pop(f"{attention}out_linear.weight"), heads, 1)
                renamed[f"{ours}output.bias"] = todo.pop(f"{attention}out_linear.bias")
            _finish_loading(self, todo, renamed)
        except (KeyError, RuntimeError, IndexError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two channels to three, 2 x 2 patches of 4 x 6 pixels."""
        made = cls(2, 3, 2, (2, 2), smoothing=3, d_model=16, heads=2, layers=2, ff=12)
        return Example(_livelier(made), (torch.randn(3, 2, 8, 12),))


def _run(model: ViTNeuralOperator | FourierAttentionNeuralOperator, u: Tensor) -> Tensor:
    """Coordinates, patches, lift, layers, projection, whole image, smoothing."""
    check_shape("u", u, ("batch", model.in_channels, "height", "width"))
    x = model.lift(patchify(with_coordinates(u), model.patches))
    for layer in model.layers:
        x = layer(x)
    out = unpatchify(model.project(x), model.patches)
    return out if model.smooth is None else out + model.smooth(out)


def _livelier(model: nn.Module) -> nn.Module:
    """Larger spectral weights and scores: as drawn, the softmax over patches is uniform to three digits."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query_key_value" in name or name in ("lift.weight", "smooth.weight"):
                parameter.mul_(3)
    return model


def _heads_first(tensor: Tensor, heads: int, axis: int) -> Tensor:
    """Channels c * heads + h along `axis` to h * d_k + c."""
    return tensor.unflatten(axis, (-1, heads)).transpose(axis, axis + 1).flatten(axis, axis + 1)


def _without_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the number of pixels, which each layer of the authors' keeps: here it follows from the input."""
    return {name: tensor for name, tensor in state.items() if not name.endswith("scaled_dot_product_attention.scale")}


def _finish_loading(model: nn.Module, todo: dict[str, Tensor], renamed: dict[str, Tensor]) -> None:
    """What both operators name alike, and the strict load."""
    for kind in ("weight", "bias"):
        for i in range(len(model.layers)):  # type: ignore[arg-type]
            for ours, theirs in (
                ("hidden", "linear1"),
                ("back", "linear2"),
                ("norm_attention", "norm1"),
                ("norm_feed_forward", "norm2"),
            ):
                renamed[f"layers.{i}.{ours}.{kind}"] = todo.pop(f"encoder.layers.{i}.{theirs}.{kind}")
        renamed[f"project.{kind}"] = todo.pop(f"linear_out.{kind}")
    if model.smooth is not None:
        # (2 m1, m2, 2, 1, 1) -> (2 m1, m2, 1, 1, 2)
        renamed["smooth.weight"] = official_spectral(todo, "smoothing").movedim(2, -1).contiguous()
    model.load_state_dict(renamed | todo, strict=True)


@published_size(parameters=123_745)
def vitno_32() -> ViTNeuralOperator:
    """Width 32 (authors' script 2d_experiments_ViTNO); complex weights count as two."""
    return ViTNeuralOperator(d_model=32)


@published_size(parameters=279_489)
def vitno_64() -> ViTNeuralOperator:
    """Width 64 (authors' script 2d_experiments_ViTNO); complex weights count as two."""
    return ViTNeuralOperator(d_model=64)


@published_size(parameters=484_385)
def vitno_96() -> ViTNeuralOperator:
    """Width 96 (authors' script 2d_experiments_ViTNO); complex weights count as two."""
    return ViTNeuralOperator(d_model=96)


@published_size(parameters=6_029_345)
def fano_32() -> FourierAttentionNeuralOperator:
    """Width 32 (authors' script 2d_experiments_FANO); complex weights count as two."""
    return FourierAttentionNeuralOperator(d_model=32)


@published_size(parameters=24_014_145)
def fano_64() -> FourierAttentionNeuralOperator:
    """Width 64 (authors' script 2d_experiments_FANO); complex weights count as two."""
    return FourierAttentionNeuralOperator(d_model=64)


@published_size(parameters=53_955_169)
def fano_96() -> FourierAttentionNeuralOperator:
    """Width 96 (authors' script 2d_experiments_FANO); complex weights count as two."""
    return FourierAttentionNeuralOperator(d_model=96)
