"""DRIFT-Net's spectral mixer (arXiv 2509.24868): low frequencies mixed by one complex matrix, gated by radial bands.

    out = irfft2(alpha W F inside the low block, (1 - alpha) F outside) + depthwise 3x3 (X) + linear (X)

F = rfft2(X) / (h w), and alpha depends on the sample, the channel and the radial band: a small net reads the mean of
|F| in every band. (The paper's feature is | |F_high| - |F_low| |; both have disjoint supports, so it is |F|.)

Two layouts of frequencies. `reference` is the authors' code: the row index stands for the frequency, so that rows of
negative frequency count as the highest, and the low block is one corner of the half spectrum. `centered` takes the
frequency for what it is, |k|; the low block then is symmetric, and so is the map.

A spectrum is held as two planes (batch, 2, rows, columns, channels), real and imaginary. On grids up to `DENSE` points
an axis both transforms are products with small dense matrices, which is exact and faster there than an FFT over the
innermost axes but one; the rows come out in an order that begins with the low block.
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.measure import add_operations
from paperworks.nn import check_shape

from .patches import convolve

CUTOFF = 1 / (1 + math.exp(-0.25))  # sigmoid of the authors' two never-trained parameters
DENSE = 32
LAYOUTS = ("centered", "reference")


def row_order(size: int, layout: str, cutoff: float = CUTOFF) -> Tensor:
    """Row indices of the spectrum, those of the low block first."""
    rows = torch.arange(size)
    if layout == "reference":
        return rows
    kept = low_block(size, layout, cutoff)[1]
    return torch.roll(rows, kept - 1) if kept else rows


def low_block(size: int, layout: str, cutoff: float = CUTOFF) -> tuple[int, int]:
    """Rows (in the order above) and columns of the low block of a grid of `size` points an axis."""
    columns = int(cutoff * (size // 2 + 1))
    if layout == "reference":
        return int(cutoff * size), columns
    return min(max(2 * columns - 1, 0), size), columns


def radial_bands(size: int, layout: str = "centered", num_bands: int = 6) -> Tensor:
    """The band of every entry of `rfft2` on a square grid, (size, size // 2 + 1), in the transform's own order."""
    row, column = torch.arange(size), torch.arange(size // 2 + 1)
    if layout == "centered":
        squares = torch.minimum(row, size - row)[:, None] ** 2 + column**2  # of integers: no band depends on rounding
        radius = (squares.double() / 2).sqrt() / max(size // 2, 1) + 1e-9
    else:  # in the authors' precision, which decides for entries on an edge
        radius = ((row[:, None] / max(size - 1, 1)) ** 2 + (column / max(size // 2, 1)) ** 2).sqrt()
        radius = radius / (radius.max() + 1e-8)
    return (num_bands * radius).floor().clamp(max=num_bands - 1).long()


def band_weights(size: int, layout: str = "centered", num_bands: int = 6) -> Tensor:
    """(num_bands, size, size // 2 + 1): a band's mean is the sum of these times the entries; empty bands give 0.

    `centered` counts a stored entry once or twice, as often as it stands in the whole spectrum; `reference` once.
    """
    bands = radial_bands(size, layout, num_bands)
    times = torch.ones(size // 2 + 1, dtype=torch.float64)
    if layout == "centered":
        times[1 : (size + 1) // 2] = 2
    member = F.one_hot(bands, num_bands).permute(2, 0, 1) * times
    return member / (member.sum((1, 2), keepdim=True).clamp_min(1) + (1e-6 if layout == "reference" else 0))


def transform_matrices(size: int, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Dense matrices of rfft2 (norm "forward") and of its inverse, each along columns and along rows, in float64.

    Along columns: (2 m, size) and (size, 2 m) for m = size // 2 + 1 stored frequencies, real parts first. Along rows:
    (2 n, 2 n) from (row, part) to (part, frequency) and back, frequencies in the order `rows`.
    """
    points = torch.arange(size)
    angle = ((points[: size // 2 + 1, None] * points) % size).double() * (2 * math.pi / size)
    along = torch.cat([angle.cos(), -angle.sin()])
    times = torch.full((size // 2 + 1, 1), 2.0, dtype=torch.float64)
    times[0] = 1
    if size % 2 == 0:
        times[-1] = 1
    back_along = torch.cat([angle.cos() * times, -angle.sin() * times]).T
    angle = ((rows[:, None] * points) % size).double() * (2 * math.pi / size)
    cos, sin = angle.cos(), angle.sin()
    # re' = cos re + sin im, im' = -sin re + cos im; points are interleaved with parts, frequencies are not
    across = torch.cat([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)]).flatten(1)
    return along / size, across / size, across.T.contiguous(), back_along.contiguous()


class RadialBandGate(nn.Module):
    """Band means to gates in (0, 1): one small net, the same for every channel."""

    def __init__(self, num_bands: int = 6, hidden: int = 128):
        super().__init__()
        self.num_bands = num_bands
        self.hidden, self.out = nn.Linear(num_bands, hidden), nn.Linear(hidden, num_bands)

    def forward(self, means: Float[Tensor, "batch bands channels"]) -> Float[Tensor, "batch bands channels"]:
        """Means of |F| in every band -> alpha of every band, channels innermost as they come."""
        hidden = _columns(self.hidden, means).relu_()
        return _columns(self.out, hidden).sigmoid_()


def _columns(layer: nn.Linear, x: Tensor) -> Tensor:
    """W x + b for x (batch, in, columns): a linear layer that finds its features on the axis before the last."""
    weight, bias = layer.weight.to(x.dtype), layer.bias.to(x.dtype)
    return torch.baddbmm(bias[:, None], weight.expand(len(x), -1, -1), x)


def _each(matrix: Tensor, x: Tensor) -> Tensor:
    """matrix @ x for every x (batch, in, columns)."""
    return torch.bmm(matrix.expand(len(x), -1, -1), x)


class SpectralMixer2d(nn.Module):
    """Tokens on a square grid to tokens on it: (batch, size, size, dim) -> the same.

    Args:
        dim: channels.
        size: points an axis; the matrix W serves every size, bands and low block are made for this one.
        layout: `centered` or `reference`, see the module.
        cutoff: share of the stored frequencies of an axis that are low.
        padding: of the depthwise convolution: zeros (the authors') or circular.
        init_std: of W, real and imaginary parts.
    """

    band_mean: Tensor
    band_one_hot: Tensor

    def __init__(
        self,
        dim: int,
        size: int,
        num_bands: int = 6,
        gate_hidden: int = 128,
        cutoff: float = CUTOFF,
        layout: str = "centered",
        padding: str = "zeros",
        init_std: float = 0.02,
    ):
        super().__init__()
        if layout not in LAYOUTS:
            raise ValueError(f"layout {layout!r}: one of {', '.join(LAYOUTS)}")
        if not 0 <= cutoff <= 1:
            raise ValueError(f"cutoff: a share from 0 to 1, given {cutoff}")
        self.dim, self.size, self.layout, self.padding = dim, size, layout, padding
        self.num_bands, self.cutoff = num_bands, cutoff
        self.weight = nn.Parameter(init_std * torch.randn(dim, dim, 2))  # out, in; real, imaginary
        self.gate = RadialBandGate(num_bands, gate_hidden)
        self.local = nn.Conv2d(dim, dim, 3, groups=dim, bias=False)
        self.linear = nn.Linear(dim, dim)
        self.low_rows, self.low_columns = low_block(size, layout, cutoff)
        for name, table in self._tables().items():
            self.register_buffer(name, table.float(), persistent=False)

    def _tables(self) -> dict[str, Tensor]:
        rows = row_order(self.size, self.layout, self.cutoff)
        bands = radial_bands(self.size, self.layout, self.num_bands)[rows].flatten()
        means = band_weights(self.size, self.layout, self.num_bands)[:, rows].flatten(1)
        tables = {"band_mean": means, "band_one_hot": F.one_hot(bands, self.num_bands)}
        if self.size <= DENSE:
            names = ("along", "across", "back_across", "back_along")
            tables |= dict(zip(names, transform_matrices(self.size, rows), strict=True))
        return tables

    def _table(self, name: str, like: Tensor) -> Tensor:
        """A table as it was rounded once, or made anew in another precision."""
        kept = getattr(self, name)
        if kept.dtype == like.dtype == torch.float32:
            return kept
        return self._tables()[name].to(like)

    def spectrum(self, x: Float[Tensor, "batch h w channels"]) -> Float[Tensor, "batch 2 h m channels"]:
        """rfft2, norm "forward", as planes, the rows in the order of `row_order`."""
        if self.size <= DENSE:
            batch, h, _, c = x.shape
            lines = _each(self._table("along", x), x.reshape(batch * h, h, c))  # (batch h, 2 m, c)
            planes = _each(self._table("across", x), lines.view(batch, 2 * h, -1))
            return planes.view(batch, 2, h, -1, c)
        z = torch.fft.rfft2(x, dim=(1, 2), norm="forward")
        z = torch.stack([z.real, z.imag], 1)
        return z if self.layout == "reference" else torch.roll(z, max(self.low_columns - 1, 0), 2)

    def field(self, z: Float[Tensor, "batch 2 h m channels"]) -> Float[Tensor, "batch h w channels"]:
        """The inverse of `spectrum`; of columns that are their own conjugates only the real part counts."""
        if self.size <= DENSE:
            batch, _, h, m, c = z.shape
            lines = _each(self._table("back_across", z), z.reshape(batch, 2 * h, m * c))
            return _each(self._table("back_along", z), lines.view(batch * h, 2 * m, c)).view(batch, h, h, c)
        if self.layout == "centered":
            z = torch.roll(z, min(1 - self.low_columns, 0), 2)
        return torch.fft.irfft2(torch.complex(z[:, 0], z[:, 1]), s=(self.size,) * 2, dim=(1, 2), norm="forward")

    def gates(self, z: Float[Tensor, "batch 2 h m channels"]) -> Float[Tensor, "batch bands channels"]:
        """alpha of every band from the amplitudes of a spectrum."""
        batch, _, _, _, c = z.shape
        real, imaginary = z.reshape(batch, 2, -1, c).unbind(1)
        tiny = z.new_full((), 1e-30)  # an amplitude of 0 has the gradient 0
        amplitude = torch.addcmul(torch.addcmul(tiny, real, real), imaginary, imaginary).sqrt_()
        return self.gate(_each(self._table("band_mean", z), amplitude))

    def mean_gate(self, z: Float[Tensor, "batch 2 h m channels"]) -> Float[Tensor, "batch channels"]:
        """alpha averaged over the stored frequencies."""
        share = self._table("band_one_hot", z).mean(0)
        return torch.einsum("k,bkc->bc", share, self.gates(z))

    def mixed(self, low: Float[Tensor, "batch 2 rows columns channels"]) -> Tensor:
        """W F of the low block, (batch, rows, columns, channels, 2)."""
        real, imaginary = low.unbind(1)
        weight = torch.view_as_complex(self.weight.to(low.dtype))
        return torch.view_as_real(torch.complex(real, imaginary) @ weight.T)

    def fused(self, z: Float[Tensor, "batch 2 h m channels"]) -> Float[Tensor, "batch 2 h m channels"]:
        """alpha W F inside the low block, (1 - alpha) F outside."""
        alpha = _each(self._table("band_one_hot", z), self.gates(z)).view(len(z), 1, *z.shape[2:])
        rows, columns = self.low_rows, self.low_columns
        out = torch.addcmul(z, alpha, z, value=-1)
        if rows and columns:
            low = self.mixed(z[:, :, :rows, :columns]).permute(0, 4, 1, 2, 3)
            out[:, :, :rows, :columns] = alpha[:, :, :rows, :columns] * low
        return out

    def forward(self, x: Float[Tensor, "batch h w channels"]) -> Float[Tensor, "batch h w channels"]:
        """Spectral, local and pointwise parts, summed; the block's norm follows outside."""
        check_shape("x", x, ("batch", self.size, self.size, self.dim))
        self._count(x)
        flat, weight = x.reshape(-1, self.dim), self.linear.weight.T
        # the linear layer's bias rides on the convolution, and the sum on the product
        local = convolve(self.local, x.permute(0, 3, 1, 2), self.padding, self.linear.bias).permute(0, 2, 3, 1)
        wide = x.dtype in (torch.float32, torch.float64)
        if wide and not torch.is_autocast_enabled(x.device.type):
            out = self.field(self.fused(self.spectrum(x))).add_(local)
            return out.reshape(-1, self.dim).addmm_(flat, weight).view(x.shape)
        with torch.autocast(x.device.type, enabled=False):  # a transform in half precision loses the small modes
            spectral = self.field(self.fused(self.spectrum(x if wide else x.float())))
        return torch.addmm((spectral + local).to(x.dtype).reshape(-1, self.dim), flat, weight).view(x.shape)

    def _count(self, x: Tensor) -> None:
        """Operations that torch's counter does not see: a complex multiply-add is 8 and not 2, and FFTs.

        An FFT and its inverse over n real points take 2.5 n log2 n each.
        """
        if torch.compiler.is_compiling():
            return
        add_operations(6 * len(x) * self.low_rows * self.low_columns * self.dim**2, "complex products")
        if self.size > DENSE:
            points = self.size**2
            add_operations(5 * len(x) * self.dim * points * math.log2(points), "Fourier transforms")


class LocalMixer2d(nn.Module):
    """The spectral mixer without its spectrum, depthwise 3x3 (X) + linear (X): what the rest of the block can do."""

    def __init__(self, dim: int, size: int, padding: str = "zeros"):
        super().__init__()
        self.dim, self.size, self.padding = dim, size, padding
        self.local = nn.Conv2d(dim, dim, 3, groups=dim, bias=False)
        self.linear = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch h w channels"]) -> Float[Tensor, "batch h w channels"]:
        """Tokens to tokens."""
        check_shape("x", x, ("batch", self.size, self.size, self.dim))
        return convolve(self.local, x.permute(0, 3, 1, 2), self.padding).permute(0, 2, 3, 1) + self.linear(x)
