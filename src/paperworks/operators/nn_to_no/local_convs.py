"""Convolutions with a local kernel, turned into maps between functions (arXiv 2506.10973; layers of arXiv 2402.16845).

A pixel kernel becomes a pointwise map when the grid is refined. Three ways out, all knowing the grid's spacing h:

* local integral:  y(x) = sum_l theta_l  int psi_l(r) f(x + r) dr    hats psi_l at fixed physical places
* differential:    y_i = (1/h) sum_k W_k (f_{i+k} - f_i)             tends to (sum_k k W_k) . grad f
* interpolation:   the trained pixel kernel resized to the grid at hand (the released code's `InterpConv2d`)

A grid has N cells of width h = domain_length / N an axis (end point excluded).
"""

import math
from collections.abc import Sequence
from typing import Any

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
        if self.padding_mode == "circular" and _large(kernel, grid, self.groups, self.stride):
            y = fourier_correlation(x, kernel, first)[(..., *[slice(None, None, s) for s in self.stride])]
            return y if self.bias is None else y + self.bias.reshape(-1, *[1] * self.ndim)
        x = pad(x, [-n for n in first], list(last), self.padding_mode)
        return CONV[self.ndim](x, kernel, self.bias, self.stride, groups=self.groups)


def _large(kernel: Tensor, grid: Sequence[int], groups: int, stride: Sequence[int]) -> bool:
    """Whether the kernel goes around the circle, or is so large that a product of Fourier modes costs less."""
    if any(taps > points for taps, points in zip(kernel.shape[2:], grid, strict=True)):
        return True
    taps, points = math.prod(kernel.shape[2:]), math.prod(grid)
    return groups == 1 and max(stride) == 1 and len(grid) > 1 and taps >= 24 * math.log2(points)


def fourier_correlation(x: Tensor, kernel: Tensor, first: Sequence[int]) -> Tensor:
    """Circular correlation sum_j kernel_j x_{i+j}, j from `first` on, by FFT; kernels longer than the grid wrap around.

    Kernel (out, in, *taps); groups are told by in < channels of x.
    """
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


LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized_conv(conv: Any, x: Tensor, scale: Sequence[float]) -> Tensor:
    """Apply a pixel convolution with its kernel resized by `scale` an axis: the released `InterpConv2d` (recipe 3c).

    Kernel size k becomes int(s k - s + 1), resampled linearly without aligned ends, divided by the ratio of the numbers
    of taps; padding becomes int(s padding). The kernel's sum is not kept. Nothing is changed at s = 1.
    """
    weight, padding, ndim = conv.weight, list(conv.padding), len(scale)
    if any(s != 1 for s in scale):
        sizes = [int(s * k - s + 1) for s, k in zip(scale, weight.shape[2:], strict=True)]
        padding = [int(s * p) for s, p in zip(scale, padding, strict=True)]
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


class PolarIntegralConv2d(nn.Module):
    """The local integral of the paper's networks: hats in radius and angle on a disc (DISCO; torch-harmonics 0.7).

    y(x) = sum_l theta_l sum_{|r| <= R} psi_l(r) f(x + r) h^2, each psi_l divided by its quadrature sum. For
    kernel_shape (a, b): rings at m dr (a odd, and one hat without angle at 0) or (m + 1/2) dr (a even), dr = 2R/(a+1);
    b angles -pi + 2 pi k / b; psi = (1 - |r - r_m| / dr)+ (1 - |angle distance| b / 2 pi)+; for even a each hat goes on
    through the centre. That is a // 2 * b + a % 2 hats; the released code allocates (a - 1) b + 1 weights.

    The kernel is built anew for the grid at hand; `base_resolution` freezes it at one grid's, as the released code
    does (its physical radius then shrinks with the grid), for comparison only. `released_layout` has that code's
    weights and swaps and flips the kernel's axes as it does, so that they can be loaded.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_shape: Sequence[int] = (2, 4),
        radius: float = 1 / 32,
        *,
        domain_length: float | Sequence[float] = 2.0,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "circular",
        released_layout: bool = False,
        base_resolution: int | Sequence[int] | None = None,
    ):
        super().__init__()
        rings, angles = kernel_shape
        self.in_channels, self.groups, self.radius, self.padding_mode = in_channels, groups, radius, padding_mode
        self.kernel_shape, self.released_layout = (int(rings), int(angles)), released_layout
        self.domain_length = per_axis(domain_length, 2, "domain_length")
        self.base = None if base_resolution is None else per_axis(base_resolution, 2, "base_resolution")
        self.n_hats = rings // 2 * angles + rings % 2
        self._kept: tuple[tuple, Tensor] | None = None  # the hats of the last grid
        allocated = (rings - 1) * angles + 1 if released_layout else self.n_hats
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels // groups, allocated) / math.sqrt(in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def hats(self, grid: Sequence[int]) -> Float[Tensor, "hats rows columns"]:
        """The hats on the grid's offsets within the radius, each summing to 1 (times 1 / h^2 is its density)."""
        key = (*grid, self.weight.dtype, self.weight.device)
        if self._kept is not None and self._kept[0] == key:
            return self._kept[1]
        made = self._make_hats(grid).to(self.weight)
        if not torch.compiler.is_compiling():  # what is traced is not kept
            self._kept = (key, made)
        return made

    def _make_hats(self, grid: Sequence[int]) -> Tensor:
        if self.base is not None:  # the released code's offsets span the radius, whatever the grid's are
            sizes = [math.floor(2 * self.radius * n / a) + 1 for n, a in zip(grid, self.domain_length, strict=True)]
            axes = [torch.linspace(-self.radius, self.radius, n, dtype=torch.float64) for n in sizes]
        else:
            steps = [length / n for length, n in zip(self.domain_length, grid, strict=True)]
            reach = [math.floor(self.radius / h + 1e-6) for h in steps]
            axes = [torch.arange(-k, k + 1, dtype=torch.float64) * h for k, h in zip(reach, steps, strict=True)]
        y, x = torch.meshgrid(*axes, indexing="ij")
        r, phi = torch.hypot(x, y), torch.atan2(x, y) + math.pi  # the released code's half turn
        n_rings, n_angles = self.kernel_shape
        odd = n_rings % 2
        dr, dphi = 2 * self.radius / (n_rings + 1), 2 * math.pi / n_angles
        ring, angle = torch.meshgrid(torch.arange(n_rings // 2), torch.arange(n_angles), indexing="ij")
        centre = ((ring + (1.0 if odd else 0.5)) * dr).reshape(-1, 1, 1).double()
        direction = (angle * dphi - math.pi).reshape(-1, 1, 1).double()

        def hat(r: Tensor, phi: Tensor) -> Tensor:
            away = (torch.remainder(phi - direction + math.pi, 2 * math.pi) - math.pi).abs()
            return (1 - (r - centre).abs() / dr).clamp_min(0) * (1 - away / dphi).clamp_min(0)

        if odd:  # and one without an angle in the middle
            values = torch.cat([(1 - r / dr).clamp_min(0)[None], hat(r, phi)])
        else:
            values = hat(r, phi) + hat(-r, phi + math.pi)
        values = torch.where(r <= self.radius * (1 + 1e-6), values, 0.0)
        total = values.sum((1, 2), keepdim=True)
        return values / torch.where(total > 0, total, 1.0)

    def forward(
        self, x: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch out_channels rows columns"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid), for any grid."""
        check_shape("x", x, ("batch", self.in_channels, "rows", "columns"))
        hats = self.hats(x.shape[2:] if self.base is None else [int(n) for n in self.base])
        if self.released_layout:
            hats = hats.mT.flip(-1, -2)
        kernel = torch.tensordot(self.weight[..., : self.n_hats], hats, dims=1)
        reach = [(n + 1) // 2 - 1 for n in kernel.shape[2:]]
        if self.padding_mode == "circular" and _large(kernel, x.shape[2:], self.groups, (1, 1)):
            y = fourier_correlation(x, kernel, [-n for n in reach])
            return y if self.bias is None else y + self.bias[:, None, None]
        return F.conv2d(pad(x, reach, reach, self.padding_mode), kernel, self.bias, groups=self.groups)
