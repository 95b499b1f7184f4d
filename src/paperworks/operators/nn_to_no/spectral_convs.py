"""Maps through Fourier space on periodic grids of any size (arXiv 2506.10973).

Resampling, a trained pixel kernel kept as its transfer function, and the interpolation baseline around a network that
knows one grid only.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape


def fourier_resample(x: Float[Tensor, "... "], size: Sequence[int]) -> Tensor:
    """Periodic fields (..., *grid) on `size` points an axis: exact for what both grids can carry.

    A Nyquist coefficient of an even grid, which has no phase on its own, goes half to each sign on a finer grid; on a
    coarser one, both signs are added: values at shared points stay.
    """
    for axis, points in zip(range(-len(size), 0), size, strict=True):
        n = x.shape[axis]
        if n == points:
            continue
        z = torch.fft.rfft(x, dim=axis, norm="forward")
        kept = min(n, points) // 2 + 1
        z = z.narrow(axis, 0, kept)
        if min(n, points) % 2 == 0:  # the smaller grid's Nyquist coefficient: half of it on the larger grid's two signs
            factor = torch.ones(kept, dtype=x.dtype, device=x.device)
            factor[-1] = 0.5 if points > n else 2.0
            z = z * factor.reshape(-1, *[1] * (-axis - 1))
        x = torch.fft.irfft(z, n=points, dim=axis, norm="forward")
    return x


class Resample(nn.Module):
    """Functions to a grid `ratio` times as fine, on every grid: the pooling and unpooling of function spaces.

    method: fourier (periodic, exact for band-limited functions) or linear (half-pixel cells).
    """

    def __init__(self, ratio: float, method: str = "fourier"):
        super().__init__()
        if method not in ("fourier", "linear"):
            raise ValueError(f"method {method!r}: fourier or linear")
        self.ratio, self.method = ratio, method

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch channels *out_grid"]:
        """(batch, channels, *grid) -> (batch, channels, *grid * ratio)."""
        return resized(x, [max(1, round(points * self.ratio)) for points in x.shape[2:]], self.method)


def resized(x: Tensor, size: Sequence[int], method: str) -> Tensor:
    """`x` (batch, channels, *grid) on `size` points."""
    if list(x.shape[2:]) == list(size):
        return x
    if method == "fourier":
        return fourier_resample(x, size)
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
    return F.interpolate(x, size=list(size), mode=mode)


class InterpolateInOut(nn.Module):
    """The baseline: resample the input to the network's own grid, run it, resample the output back.

    Trivially usable on every grid, and exact where data is band-limited to the network's grid; it can neither use nor
    produce anything finer.
    """

    def __init__(self, module: nn.Module, size: int | Sequence[int], method: str = "fourier"):
        super().__init__()
        if method not in ("fourier", "linear"):
            raise ValueError(f"method {method!r}: fourier or linear")
        self.module, self.size, self.method = module, size, method

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *grid"]:
        """(batch, channels, *grid) -> (batch, out_channels, *grid)."""
        grid = x.shape[2:]
        size = [self.size] * len(grid) if isinstance(self.size, int) else self.size
        return resized(self.module(resized(x, size, self.method)), grid, self.method)


class TransferConv(nn.Module):
    """A circular pixel convolution kept as its transfer function: the same multipliers of the same modes on every grid.

    The transfer function K(k) = sum_j W_j exp(2 pi i k j / base) is known for |k| < base / 2; finer modes, which the
    kernel has never seen, give nothing. Equal to the convolution on its own grid.
    """

    def __init__(self, conv: Any, base: Sequence[int]):
        super().__init__()
        self.base = tuple(base)
        self.weight: nn.Parameter = conv.weight
        self.bias: nn.Parameter | None = conv.bias
        self.groups: int = conv.groups
        self.origin = tuple(n // 2 for n in conv.weight.shape[2:])

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *grid"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid)."""
        weight = self.weight
        check_shape("x", x, ("batch", weight.shape[1] * self.groups, *[f"n{a}" for a in range(len(self.base))]))
        grid, ndim = x.shape[2:], len(self.base)
        z, kernel = torch.fft.rfftn(x, dim=list(range(-ndim, 0)), norm="forward"), weight.to(torch.complex64)
        if x.dtype == torch.float64:
            kernel = weight.to(torch.complex128)
        keep = []
        for axis, (points, base) in enumerate(zip(grid, self.base, strict=True)):
            low = (min(points, base) - 1) // 2
            k = torch.arange(low + 1, device=x.device)
            if axis < ndim - 1:
                k = torch.cat([k, torch.arange(-low, 0, device=x.device)])
            if points == base and points % 2 == 0:
                k = torch.cat([k[: low + 1], k.new_tensor([points // 2]), k[low + 1 :]])
            keep.append(k % points)
            taps = torch.arange(weight.shape[2 + axis], device=x.device) - self.origin[axis]
            phase = 2 * math.pi / base * ((k[:, None] * taps) % base).double()
            waves = torch.polar(torch.ones_like(phase), phase).to(kernel.dtype)
            kernel = kernel.movedim(2, -1) @ waves.mT
        small = z
        for axis, k in enumerate(keep):
            small = small.index_select(2 + axis, k)
        product = _per_mode(small, kernel, self.groups)
        for axis, k in reversed(list(enumerate(keep))):
            whole = list(product.shape)
            whole[2 + axis] = z.shape[2 + axis]
            product = product.new_zeros(whole).index_copy(2 + axis, k, product)
        y = torch.fft.irfftn(product, s=list(grid), dim=list(range(-ndim, 0)), norm="forward")
        return y if self.bias is None else y + self.bias.reshape(-1, *[1] * ndim)


def _per_mode(z: Tensor, kernel: Tensor, groups: int) -> Tensor:
    """One matrix a mode: z (batch, in, *modes), kernel (out, in / groups, *modes) -> (batch, out, *modes)."""
    modes = z.shape[2:]
    left = z.flatten(2).unflatten(1, (groups, -1)).permute(3, 1, 0, 2)  # (mode, group, batch, in)
    right = kernel.flatten(2).unflatten(0, (groups, -1)).permute(3, 0, 2, 1)  # (mode, group, in, out)
    return (left @ right).permute(2, 1, 3, 0).flatten(1, 2).unflatten(-1, modes)
