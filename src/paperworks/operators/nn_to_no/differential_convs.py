"""Convolutions that are finite differences (arXiv 2506.10973; layer of arXiv 2402.16845)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape

from .local_convs import CONV, PADDING, pad, per_axis


class DifferentialConv(nn.Module):
    """A convolution that is a finite difference: zero on constants, divided by h^order.

    Args:
        kernel_size: odd; taps an axis.
        order: of the derivative. Order 1 takes the kernel's sum from its centre tap (as the released code does);
            higher orders project the kernel onto those without moments of lower degree.
        base_resolution: divide by base_resolution / N instead of h (the released networks' convention: 1 on the grid
            of training; the same limit up to a constant).
        keep_mean: add (sum of the kernel) * x, undivided: then a pixel kernel is reproduced on the base grid.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        ndim: int = 2,
        order: int = 1,
        groups: int = 1,
        padding_mode: str = "circular",
        domain_length: float | Sequence[float] = 1.0,
        base_resolution: int | Sequence[int] | None = None,
        keep_mean: bool = False,
        bias: bool = False,
    ):
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size <= order:
            raise ValueError(f"kernel_size: expected an odd number above the order {order}, given {kernel_size}")
        if padding_mode not in PADDING:
            raise ValueError(f"padding_mode {padding_mode!r}: one of {', '.join(PADDING)}")
        self.in_channels, self.ndim, self.groups, self.order = in_channels, ndim, groups, order
        self.kernel_size, self.padding_mode, self.keep_mean = kernel_size, padding_mode, keep_mean
        self.domain_length = per_axis(domain_length, ndim, "domain_length")
        self.base = None if base_resolution is None else per_axis(base_resolution, ndim, "base_resolution")
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *[kernel_size] * ndim))
        bound = 1 / math.sqrt(self.weight[0].numel())
        nn.init.uniform_(self.weight, -bound, bound)
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        taps = kernel_size**ndim
        if order > 1:
            offsets = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
            at = torch.cartesian_prod(*[offsets] * ndim).reshape(taps, ndim)
            powers = [
                p for p in torch.cartesian_prod(*[torch.arange(order)] * ndim).reshape(-1, ndim) if p.sum() < order
            ]
            lower = torch.stack([(at ** p.double()).prod(1) for p in powers], 1)
            q = torch.linalg.qr(lower).Q
            projection = torch.eye(taps, dtype=torch.float64) - q @ q.T
        else:
            projection = torch.eye(taps, dtype=torch.float64)
            projection[:, taps // 2] -= 1
        self.projection: Tensor
        self.register_buffer("projection", projection.float(), persistent=False)

    def spacing(self, grid: Sequence[int]) -> list[float]:
        """What a difference is divided by on this grid, an axis."""
        lengths = self.domain_length if self.base is None else self.base
        return [length / points for length, points in zip(lengths, grid, strict=True)]

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *grid"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid), for any grid of cubic cells."""
        check_shape("x", x, ("batch", self.in_channels, *[f"n{axis + 1}" for axis in range(self.ndim)]))
        h = self.spacing(x.shape[2:])
        if max(h) > 1.001 * min(h):
            raise ValueError(f"x: expected cells as long as wide for one kernel, given spacings {h}")
        kernel = (self.weight.flatten(2) @ self.projection.to(self.weight.dtype)) / h[0] ** self.order
        kernel = kernel.unflatten(2, self.weight.shape[2:])
        if self.keep_mean:
            sums = self.weight.flatten(2).sum(2)
            middle = F.one_hot(torch.tensor(kernel[0, 0].numel() // 2), kernel[0, 0].numel()).to(kernel)
            kernel = kernel + (sums[..., None] * middle).unflatten(2, self.weight.shape[2:])
        reach = [self.kernel_size // 2] * self.ndim
        return CONV[self.ndim](pad(x, reach, reach, self.padding_mode), kernel, self.bias, groups=self.groups)
