"""Trained pixel kernels resized to the grid at hand, as the released code converts a U-Net (arXiv 2506.10973)."""

import math
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape

from .local_convs import CONV, CONV_TRANSPOSE, pad

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(size: int, padding: int, scale: float) -> tuple[int, int]:
    """Kernel size and padding of one axis on a grid of `scale` times the points, as the released code has them."""
    return int(scale * size - scale + 1), int(scale * padding)


def keeps_the_grid(size: int, scale: float) -> bool:
    """Whether a kernel of odd size, padded by half, still gives as many points as it is given once it is resized.

    It does not where it comes out even: size 5 at 3/4 of the grid has 4 taps and a padding of 1.
    """
    taps, padding = resized(size, size // 2, scale)
    return taps == 2 * padding + 1


def resized_conv(conv: Any, x: Tensor, scale: Sequence[float]) -> Tensor:
    """Apply a pixel convolution with its kernel resized by `scale` an axis: the released `InterpConv2d` (recipe 3c).

    Kernel size k becomes int(s k - s + 1), resampled linearly without aligned ends, divided by the ratio of the numbers
    of taps; padding becomes int(s padding). The kernel's sum is not kept. Nothing is changed at s = 1.
    """
    weight, padding, ndim = conv.weight, list(conv.padding), len(scale)
    if any(s != 1 for s in scale):
        both = [resized(k, p, s) for k, p, s in zip(weight.shape[2:], padding, scale, strict=True)]
        sizes, padding = [k for k, _ in both], [p for _, p in both]
        ratio = math.prod(sizes) / math.prod(weight.shape[2:])
        weight = F.interpolate(weight, size=sizes, mode=LINEAR[ndim]) / ratio
    if conv.padding_mode == "zeros":
        return CONV[ndim](x, weight, conv.bias, conv.stride, padding, groups=conv.groups)
    return CONV[ndim](pad(x, padding, padding, conv.padding_mode), weight, conv.bias, conv.stride, groups=conv.groups)


def resized_conv_transpose(conv: Any, x: Tensor, scale: Sequence[float]) -> Tensor:
    """Apply a transposed pixel convolution on its own grid: the released `InOutInterpolateConvTranspose2d`.

    Features are resampled by 1 / s (linear, half-pixel), transposed-convolved, zero-padded to `stride` times their
    size, resampled by s. Nothing but the convolution is done at s = 1.
    """
    ndim = len(scale)
    small = [int(points / s) for points, s in zip(x.shape[2:], scale, strict=True)]
    unscaled = all(s == 1 for s in scale)
    x = x if unscaled else F.interpolate(x, size=small, mode=LINEAR[ndim])
    y = CONV_TRANSPOSE[ndim](x, conv.weight, conv.bias, conv.stride, conv.padding, conv.output_padding, conv.groups)
    if unscaled:
        return y
    missing = [n * k - m for n, k, m in zip(small, conv.stride, y.shape[2:], strict=True)]
    y = pad(y, [m // 2 for m in missing], [m - m // 2 for m in missing], "zeros")
    return F.interpolate(y, size=[int(n * s) for n, s in zip(y.shape[2:], scale, strict=True)], mode=LINEAR[ndim])


class InterpolatedConv(nn.Module):
    """A pixel convolution (or a transposed one) whose kernel is resized to the grid at hand.

    Args:
        conv: the trained layer; its parameters are shared.
        base: points an axis of the grid that it was trained on.
    """

    def __init__(self, conv: Any, base: Sequence[int]):
        super().__init__()
        self.conv, self.base = conv, tuple(base)
        transposed = isinstance(conv, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        self.apply_resized = resized_conv_transpose if transposed else resized_conv

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *out_grid"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *about grid / stride)."""
        check_shape("x", x, ("batch", self.conv.in_channels, *[f"n{axis + 1}" for axis in range(len(self.base))]))
        return self.apply_resized(self.conv, x, [n / base for n, base in zip(x.shape[2:], self.base, strict=True)])
