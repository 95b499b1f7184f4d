"""Convolutions with a local kernel, turned into maps between functions (arXiv 2506.10973; layers of arXiv 2402.16845).

A pixel kernel becomes a pointwise map when the grid is refined. Three ways out, all knowing the grid's spacing h:

* local integral:  y(x) = sum_l theta_l  int psi_l(r) f(x + r) dr    hats psi_l at fixed physical places (this file)
* differential:    y_i = (1/h) sum_k W_k (f_{i+k} - f_i)             tends to (sum_k k W_k) . grad f
* interpolation:   the trained pixel kernel resized to the grid at hand

A grid has N cells of width h = domain_length / N an axis (end point excluded).
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
PADDING = {"circular": "circular", "zeros": "constant", "reflect": "reflect", "replicate": "replicate"}


def per_axis(value: float | Sequence[float], ndim: int, name: str) -> tuple[float, ...]:
    """One number for every axis."""
    values = tuple(value) if isinstance(value, Sequence) else (value,) * ndim
    if len(values) != ndim:
        raise ValueError(f"{name}: expected one number or {ndim}, given {values}")
    return values


def hat_basis(
    nodes: Sequence[float],
    spacing: float,
    h: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> tuple[Float[Tensor, "nodes taps"], int]:
    """Hats max(0, 1 - |r - node| / spacing) at the grid offsets r = j h, each divided by its sum over them.

    So every hat integrates to 1 on the grid at hand. A hat without a grid point inside is left at zero.

    Returns:
        The hats at j = first, first + 1, ..., and `first`.
    """
    first = math.floor((min(nodes) - spacing) / h + 1e-6) + 1
    last = math.ceil((max(nodes) + spacing) / h - 1e-6) - 1
    r = torch.arange(first, last + 1, dtype=torch.float64, device=device) * h
    centres = torch.tensor(nodes, dtype=torch.float64, device=device)[:, None]
    hats = (1 - (r - centres).abs() / spacing).clamp_min(0)
    hats = torch.where(hats > 1e-9, hats, 0.0)  # rounding must not decide whether a hat has a point
    total = hats.sum(1, keepdim=True)
    return (hats / torch.where(total > 0, total, 1.0)).to(dtype), first


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], mode: str) -> Tensor:
    """Pad the trailing axes; negative numbers crop."""
    amounts = [n for pair in zip(reversed(before), reversed(after), strict=True) for n in pair]
    if not any(amounts):
        return x
    return F.pad(x, amounts, mode=PADDING[mode])


class LocalIntegralConv(nn.Module):
    """A convolution whose kernel lives on physical nodes, so that it is the same integral on every grid.

    On a grid of spacing h = `spacing` it is `nn.Conv` with the same weight, exactly.

    Args:
        kernel_size: nodes an axis.
        spacing: physical distance of nodes, one for all axes or one each.
        ndim: axes of the domain.
        stride: the output grid has this many times fewer points, on every grid.
        padding_mode: circular, zeros, reflect or replicate.
        domain_length: physical length of the domain, one for all axes or one each.
        origin: which node lies at the output point (a convolution's `padding`); default the middle one.
        dilation: nodes are this many `spacing` apart; hats reach one `spacing`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        spacing: float | Sequence[float],
        *,
        ndim: int = 2,
        stride: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "circular",
        domain_length: float | Sequence[float] = 1.0,
        origin: float | Sequence[float] | None = None,
        dilation: int | Sequence[int] = 1,
    ):
        super().__init__()
        if ndim not in CONV:
            raise ValueError(f"ndim: 1, 2 or 3, given {ndim}")
        if padding_mode not in PADDING:
            raise ValueError(f"padding_mode {padding_mode!r}: one of {', '.join(PADDING)}")
        self.in_channels, self.ndim, self.groups, self.padding_mode = in_channels, ndim, groups, padding_mode
        self.kernel_size = tuple(int(n) for n in per_axis(kernel_size, ndim, "kernel_size"))
        self.stride = tuple(int(n) for n in per_axis(stride, ndim, "stride"))
        self.spacing = per_axis(spacing, ndim, "spacing")
        self.domain_length = per_axis(domain_length, ndim, "domain_length")
        middle = [(n - 1) / 2 if n % 2 else n / 2 for n in self.kernel_size]
        self.origin = per_axis(middle if origin is None else origin, ndim, "origin")
        self.dilation = per_axis(dilation, ndim, "dilation")
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(self.weight[0].numel())  # what nn.Conv starts from
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def kernel(self, grid: Sequence[int]) -> tuple[Tensor, list[int], list[int]]:
        """The convolution's kernel on a grid of so many points an axis, and its first and last offset an axis."""
        kernel: Tensor = self.weight
        first: list[int] = []
        last: list[int] = []
        place = 2
        for axis, points in enumerate(grid):
            d, n, h = self.spacing[axis], self.kernel_size[axis], self.domain_length[axis] / points
            if self._on_nodes(axis, points):
                first.append(-int(self.origin[axis]))  # the grid's points are the nodes
                last.append(first[-1] + n - 1)
                place += 1
                continue
            nodes = [(index - self.origin[axis]) * self.dilation[axis] * d for index in range(n)]
            basis, start = hat_basis(nodes, d, h, dtype=self.weight.dtype, device=self.weight.device)
            kernel = kernel.movedim(place, -1) @ basis  # the axis moves to the end
            first.append(start)
            last.append(start + basis.shape[1] - 1)
        return self._in_order(kernel, grid), first, last

    def _in_order(self, kernel: Tensor, grid: Sequence[int]) -> Tensor:
        """Axes that were resampled have moved behind those that were not; put them back."""
        moved = [a for a in range(self.ndim) if not self._on_nodes(a, grid[a])]
        order = [a for a in range(self.ndim) if a not in moved] + moved
        return kernel.permute(0, 1, *[2 + order.index(axis) for axis in range(self.ndim)])

    def _on_nodes(self, axis: int, points: int) -> bool:
        h = self.domain_length[axis] / points
        fits = self.dilation[axis] == 1 and self.origin[axis] == int(self.origin[axis])
        return fits and abs(h / self.spacing[axis] - 1) < 1e-6

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *out_grid"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid / stride), for any grid."""
        check_shape("x", x, ("batch", self.in_channels, *[f"n{axis + 1}" for axis in range(self.ndim)]))
        grid = x.shape[2:]
        kernel, first, last = self.kernel(grid)
        if self.padding_mode == "circular" and large_kernel(kernel, grid, self.groups, self.stride):
            y = fourier_correlation(x, kernel, first)[(..., *[slice(None, None, s) for s in self.stride])]
            return y if self.bias is None else y + self.bias.reshape(-1, *[1] * self.ndim)
        x = pad(x, [-n for n in first], list(last), self.padding_mode)
        if large_kernel(kernel, x.shape[2:], self.groups, self.stride, worth=15):
            y = fourier_correlation(x, kernel, [0] * self.ndim)  # where it wraps around, it is cut off
            y = y[
                (..., *[slice(points - taps + 1) for points, taps in zip(x.shape[2:], kernel.shape[2:], strict=True)])
            ]
            return y if self.bias is None else y + self.bias.reshape(-1, *[1] * self.ndim)
        return CONV[self.ndim](x, kernel, self.bias, self.stride, groups=self.groups)


def large_kernel(kernel: Tensor, grid: Sequence[int], groups: int, stride: Sequence[int], worth: float = 24) -> bool:
    """Whether the kernel goes around the circle, or is so large that a product of Fourier modes costs less.

    `worth`: products a point and mode that the transforms cost; less for padded fields, whose direct gradient is slow.
    """
    if any(taps > points for taps, points in zip(kernel.shape[2:], grid, strict=True)):
        return True
    taps, points = math.prod(kernel.shape[2:]), math.prod(grid)
    return groups == 1 and max(stride) == 1 and len(grid) > 1 and taps >= worth * math.log2(points)


def fourier_correlation(x: Tensor, kernel: Tensor, first: Sequence[int]) -> Tensor:
    """Circular correlation sum_j kernel_j x_{i+j}, j from `first` on, by FFT; kernels longer than the grid wrap around.

    Kernel (out, in, *taps); groups are told by in < channels of x.
    """
    x = x if x.dtype in (torch.float32, torch.float64) else x.float()  # of which alone there are transforms
    grid = x.shape[2:]
    for axis, points in enumerate(grid):
        taps = kernel.shape[2 + axis]
        index = (torch.arange(taps, device=x.device) + first[axis]) % points
        wide = torch.zeros(*kernel.shape[: 2 + axis], points, *kernel.shape[3 + axis :], dtype=x.dtype, device=x.device)
        kernel = wide.index_add(2 + axis, index, kernel.to(x.dtype))
    dims = list(range(-len(grid), 0))
    modes, transfer = torch.fft.rfftn(x, dim=dims), torch.fft.rfftn(kernel, dim=dims).conj()
    groups = x.shape[1] // kernel.shape[1]
    modes = modes.unflatten(1, (groups, -1)).flatten(3)
    transfer = transfer.unflatten(0, (groups, -1)).flatten(3)
    # one matrix product a mode
    product = torch.einsum("mgbi,mgio->mgbo", modes.permute(3, 1, 0, 2), transfer.permute(3, 0, 2, 1))
    product = product.permute(2, 1, 3, 0).flatten(1, 2)
    half = [*grid[:-1], grid[-1] // 2 + 1]
    return torch.fft.irfftn(product.unflatten(-1, half), s=list(grid), dim=dims)


class LocalIntegralConvTranspose(LocalIntegralConv):
    """The transposed convolution to a grid `stride` times finer, its kernel on physical nodes.

    `spacing` and `origin` are those of the fine grid; on a fine grid of spacing h = `spacing` it is
    `nn.ConvTranspose` with the same weight (in, out / groups, *kernel) and padding `origin`. Values outside of the
    domain are zero.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int | Sequence[int], spacing, **options):  # type: ignore[no-untyped-def]
        super().__init__(in_channels, out_channels, kernel_size, spacing, padding_mode="zeros", **options)
        self.weight = nn.Parameter(
            self.weight.detach().reshape(in_channels, out_channels // self.groups, *self.kernel_size)
        )

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *out_grid"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid * stride), for any grid."""
        check_shape("x", x, ("batch", self.in_channels, *[f"n{axis + 1}" for axis in range(self.ndim)]))
        fine = [points * s for points, s in zip(x.shape[2:], self.stride, strict=True)]
        kernel, first, _ = self.kernel(fine)
        y = CONV_TRANSPOSE[self.ndim](x, kernel, self.bias, self.stride, groups=self.groups)
        # y starts `first` before the domain; where it ends too early there is nothing but the bias
        after = [n - (whole + start) for n, whole, start in zip(fine, y.shape[2:], first, strict=True)]
        if any(start > 0 for start in first) or any(n > 0 for n in after):
            grown = pad(y - self._shift(), first, after, "zeros")
            return grown + self._shift()
        return pad(y, first, after, "zeros")

    def _shift(self) -> Tensor | float:
        return 0.0 if self.bias is None else self.bias.reshape(-1, *[1] * self.ndim)
