"""The local integral on a disc of the paper's networks (arXiv 2506.10973; layer of arXiv 2402.16845)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape

from .local_convs import fourier_correlation, large_kernel, pad, per_axis


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
            axes = [axis[1:-1] if len(axis) > 2 else axis for axis in axes]  # all hats vanish at the radius
        else:
            steps = [length / n for length, n in zip(self.domain_length, grid, strict=True)]
            reach = [max(0, math.ceil(self.radius / h - 1e-6) - 1) for h in steps]  # all hats vanish at the radius
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
        if self.padding_mode == "circular" and large_kernel(kernel, x.shape[2:], self.groups, (1, 1)):
            y = fourier_correlation(x, kernel, [-n for n in reach])
            return y if self.bias is None else y + self.bias[:, None, None]
        return F.conv2d(pad(x, reach, reach, self.padding_mode), kernel, self.bias, groups=self.groups)
