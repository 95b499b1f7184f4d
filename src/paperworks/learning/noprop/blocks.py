"""NoProp's blocks: layers that hold T copies side by side, and the block of Fig. 6 (arXiv 2503.24322) made of them.

The T blocks of NoProp-DT see inputs that do not depend on each other, so one batched product runs them all. Values of
`copies` blocks have shape (copies, batch, features); `index` picks one block, whose values have shape (1, batch, ...).
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def _pick(tensor: Tensor, index: int | None) -> Tensor:
    return tensor if index is None else tensor[index : index + 1]


def _uniform(*shape: int, fan_in: int) -> nn.Parameter:
    bound = 1 / math.sqrt(fan_in)
    return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))


class BlockLinear(nn.Module):
    """T linear layers: (T, batch, in) -> (T, batch, out), each initialised like `nn.Linear`."""

    def __init__(self, copies: int, in_features: int, out_features: int):
        super().__init__()
        self.weight = _uniform(copies, in_features, out_features, fan_in=in_features)
        self.bias = _uniform(copies, 1, out_features, fan_in=in_features)

    def forward(self, x: Float[Tensor, "#copies batch features"], index: int | None = None) -> Tensor:
        """Apply all layers, or the one at `index`; an input with one copy is shared by all."""
        weight, bias = _pick(self.weight, index), _pick(self.bias, index)
        if len(x) < len(weight):  # one product with all weights side by side
            wide = weight.transpose(0, 1).flatten(1)
            return (x[0] @ wide).unflatten(1, (len(weight), -1)).transpose(0, 1) + bias
        return torch.baddbmm(bias, x, weight)


class BlockBatchNorm(nn.Module):
    """T batch norms: statistics over the batch (and space), each of the T * features channels by itself."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, copies: int, features: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(copies, features))
        self.bias = nn.Parameter(torch.zeros(copies, features))
        self.register_buffer("running_mean", torch.zeros(copies, features))
        self.register_buffer("running_var", torch.ones(copies, features))

    def forward(self, x: Float[Tensor, "copies batch features"], index: int | None = None) -> Tensor:
        """Normalise; running statistics are updated in training mode."""
        copies, batch, features = x.shape
        mean, var, weight, bias = (
            _pick(tensor, index).reshape(-1) for tensor in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        flat = x.transpose(0, 1).reshape(batch, copies * features)
        flat = F.batch_norm(flat, mean, var, weight, bias, self.training, self.momentum, self.eps)
        return flat.unflatten(1, (copies, features)).transpose(0, 1)


class BlockConv2d(nn.Module):
    """T 3x3 convolutions with padding 1: (T, batch, in, height, width) -> (T, batch, out, height, width).

    `grouped` runs them as one grouped convolution; otherwise as T convolutions (the default). Blocks that
    share their input (one copy) always run as one plain convolution with all filters side by side.
    """

    def __init__(self, copies: int, in_channels: int, out_channels: int, grouped: bool = False):
        super().__init__()
        self.grouped = grouped
        self.weight = _uniform(copies, out_channels, in_channels, 3, 3, fan_in=9 * in_channels)
        self.bias = _uniform(copies, out_channels, fan_in=9 * in_channels)

    def forward(self, x: Float[Tensor, "#copies batch channels height width"], index: int | None = None) -> Tensor:
        """Apply all convolutions, or the one at `index`."""
        weight, bias = _pick(self.weight, index), _pick(self.bias, index)
        copies = len(weight)
        if len(x) == 1:
            out = F.conv2d(x[0], weight.flatten(0, 1), bias.flatten(), padding=1)
        elif self.grouped:
            out = F.conv2d(
                x.transpose(0, 1).flatten(1, 2), weight.flatten(0, 1), bias.flatten(), padding=1, groups=copies
            )
        else:
            each = zip(x.unbind(), weight.unbind(), bias.unbind(), strict=True)
            return torch.stack([F.conv2d(one, w, b, padding=1) for one, w, b in each])
        return out.unflatten(1, (copies, -1)).transpose(0, 1)


class ImageStack(nn.Module):
    """conv(32) ReLU pool, conv(64) ReLU, conv(128) ReLU pool, each with dropout .2; linear to `features`."""

    def __init__(
        self,
        copies: int,
        image_size: Sequence[int],
        features: int,
        channels: Sequence[int] = (32, 64, 128),
        grouped: bool = False,
        dropout: float = 0.2,
        norm: bool = True,
    ):
        super().__init__()
        depth, height, width = image_size
        if height < 4 or width < 4:
            raise ValueError(f"in_shape: images of at least 4 x 4 pixels expected, given {height} x {width}")
        sizes = (depth, *channels)
        self.dropout = dropout
        self.convolutions = nn.ModuleList(BlockConv2d(copies, i, o, grouped) for i, o in pairwise(sizes))
        self.pooled = {0, len(channels) - 1}
        self.linear = BlockLinear(copies, channels[-1] * (height // 4) * (width // 4), features)
        self.norm = BlockBatchNorm(copies, features) if norm else None

    def forward(self, x: Float[Tensor, "#copies batch channels height width"], index: int | None = None) -> Tensor:
        """(copies or 1, batch, channels, height, width) -> (copies, batch, features)."""
        for place, convolution in enumerate(self.convolutions):
            x = convolution(x, index)
            if place in self.pooled:  # before the ReLU, which commutes with it and then has a quarter to do
                copies = len(x)
                x = F.max_pool2d(x.flatten(0, 1), 2).unflatten(0, (copies, -1))
            x = F.dropout(torch.relu(x), self.dropout, self.training)
        x = self.linear(x.flatten(2), index)
        return x if self.norm is None else self.norm(x, index)


class VectorStack(nn.Module):
    """Linear, batch norm, ReLU, linear, batch norm: what vectors get in place of the convolutions."""

    def __init__(self, copies: int, in_features: int, features: int, norm: bool = True):
        super().__init__()
        self.first, self.second = BlockLinear(copies, in_features, features), BlockLinear(copies, features, features)
        self.first_norm = BlockBatchNorm(copies, features) if norm else None
        self.second_norm = BlockBatchNorm(copies, features) if norm else None

    def forward(self, x: Float[Tensor, "#copies batch features"], index: int | None = None) -> Tensor:
        """(copies or 1, batch, in) -> (copies, batch, features)."""
        x = self.first(x, index)
        x = torch.relu(x if self.first_norm is None else self.first_norm(x, index))
        x = self.second(x, index)
        return x if self.second_norm is None else self.second_norm(x, index)


class LabelStack(nn.Module):
    """The path of the noised label: three linear layers with batch norm and a skip over the last two."""

    def __init__(self, copies: int, in_features: int, features: int):
        super().__init__()
        sizes = (in_features, features, features, features)
        self.linears = nn.ModuleList(BlockLinear(copies, i, o) for i, o in pairwise(sizes))
        self.norms = nn.ModuleList(BlockBatchNorm(copies, features) for _ in range(3))

    def forward(self, z: Float[Tensor, "copies batch features"], index: int | None = None) -> Tensor:
        """(copies, batch, d) -> (copies, batch, features)."""
        h = torch.relu(self.norms[0](self.linears[0](z, index), index))
        inner = torch.relu(self.norms[1](self.linears[1](h, index), index))
        return h + self.norms[2](self.linears[2](inner, index), index)


def input_stack(
    copies: int, in_shape: Sequence[int], width: int, channels: Sequence[int], grouped: bool, norm: bool = True
) -> ImageStack | VectorStack:
    """The path of x: convolutions for images (C, H, W), linear layers for vectors (F,)."""
    if len(in_shape) == 3:
        return ImageStack(copies, in_shape, width, channels, grouped, norm=norm)
    if len(in_shape) == 1:
        return VectorStack(copies, in_shape[0], width, norm)
    raise ValueError(f"in_shape: (features,) or (channels, height, width) expected, given {tuple(in_shape)}")


class DenoisingBlock(nn.Module):
    """T copies of the block of Fig. 6 (left): x and the noised label z in, class logits out.

    Args:
        in_shape: (features,) or (channels, height, width) of x.
        embed_dim: size d of z.
        num_classes: logits.
        width: of the two paths (the paper's 256); the layer before the last has half of it.
        copies: T.
        label_image: z is an image of `in_shape` (prototype embeddings) and gets a stack like that of x.
        channels: of the convolutions.
        grouped: run the T convolutions as one grouped convolution.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        embed_dim: int,
        num_classes: int,
        width: int = 256,
        copies: int = 1,
        label_image: bool = False,
        channels: Sequence[int] = (32, 64, 128),
        grouped: bool = False,
    ):
        super().__init__()
        self.in_shape, self.copies, self.label_image = tuple(in_shape), copies, label_image
        self.input_path = input_stack(copies, in_shape, width, channels, grouped)
        self.label_path = (
            input_stack(copies, in_shape, width, channels, grouped)
            if label_image
            else LabelStack(copies, embed_dim, width)
        )
        self.first, self.first_norm = BlockLinear(copies, 2 * width, width), BlockBatchNorm(copies, width)
        self.second, self.second_norm = BlockLinear(copies, width, width // 2), BlockBatchNorm(copies, width // 2)
        self.last = BlockLinear(copies, width // 2, num_classes)

    def forward(
        self, z: Float[Tensor, "copies batch dim"], x: Float[Tensor, "batch *in_shape"], index: int | None = None
    ) -> Float[Tensor, "copies batch classes"]:
        """Logits of every copy, or of the one at `index` (z then has one copy)."""
        return self.logits(z, self.encode(x, index), index)

    def encode(
        self, x: Float[Tensor, "batch *in_shape"], index: int | None = None
    ) -> Float[Tensor, "copies batch width"]:
        """What every copy, or the one at `index`, makes of x before it sees z."""
        return self.input_path(x[None], index)

    def logits(
        self, z: Float[Tensor, "copies batch dim"], seen: Float[Tensor, "copies batch width"], index: int | None = None
    ) -> Float[Tensor, "copies batch classes"]:
        """Logits from z and from what `encode` made of x."""
        if self.label_image:
            z = z.unflatten(2, self.in_shape)
        h = torch.cat([seen, self.label_path(z, index)], dim=-1)
        h = torch.relu(self.first_norm(self.first(h, index), index))
        h = torch.relu(self.second_norm(self.second(h, index), index))
        return self.last(h, index)


def sinusoidal_embedding(t: Float[Tensor, " batch"], features: int = 64) -> Float[Tensor, "batch features"]:
    """Sines and cosines of 1000 t at `features / 2` frequencies from 1 to 1/10000."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(features // 2, device=t.device) / (features // 2 - 1))
    angles = 1000 * t[:, None] * frequencies.to(t.dtype)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeConditionedBlock(nn.Module):
    """The block of Fig. 6 (right), for continuous time: x, z and t in, class logits out; no batch norm."""

    def __init__(
        self,
        in_shape: Sequence[int],
        embed_dim: int,
        num_classes: int,
        width: int = 256,
        label_image: bool = False,
        channels: Sequence[int] = (32, 64, 128),
    ):
        super().__init__()
        self.in_shape, self.label_image = tuple(in_shape), label_image
        self.input_path = input_stack(1, in_shape, width, channels, False, norm=False)
        self.label_path = (
            input_stack(1, in_shape, width, channels, False, norm=False)
            if label_image
            else BlockLinear(1, embed_dim, width)
        )
        self.time_path = nn.Linear(64, width)
        self.fuse = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU(),
            nn.Linear(width // 2, num_classes),
        )  # fmt: skip

    def forward(
        self, z: Float[Tensor, "batch dim"], x: Float[Tensor, "batch *in_shape"], t: Float[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Logits."""
        if self.label_image:
            z = z.unflatten(1, self.in_shape)
        paths = [self.input_path(x[None])[0], self.label_path(z[None])[0], self.time_path(sinusoidal_embedding(t))]
        return self.fuse(torch.relu(torch.cat(paths, dim=-1)))
