"""Fourier neural operator in one, two or three dimensions: the baseline of the wing.

Li, Kovachki, Azizzadenesheli et al., arXiv 2010.08895 (equations 4 and 5, figure 2); reference code
neuraloperator/neuraloperator. A layer computes u <- GELU(W u + K u), where W is a 1x1 convolution and K multiplies the
kept Fourier coefficients by complex matrices. Few coefficients are kept, so they are computed as products with narrow
matrices, which is exact and faster than whole transforms; where many are kept, by FFTs along one axis after the other.
"""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.measure import add_operations
from paperworks.nn import Example, Pretrained, check_shape, published_size

NARROW = 32  # up to so many modes an axis, a product with a narrow matrix beats the whole transform


def kept_frequencies(n: int, modes: int, real: bool, device: torch.device | None = None) -> Tensor:
    """Frequencies kept of `n` points: 0 .. modes - 1, and -modes .. -1 unless the axis is the one of a real transform.

    Those that the grid cannot carry are left out.
    """
    if real:
        return torch.arange(min(modes, n // 2 + 1), device=device)
    below = min(modes, n // 2)
    return torch.cat([torch.arange(min(modes, (n + 1) // 2), device=device), torch.arange(-below, 0, device=device)])


def fourier_matrix(n: int, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi k j / n, (frequencies, n); the phase is reduced in integers, so it is exact to rounding."""
    phase = (frequencies[:, None] * torch.arange(n, device=frequencies.device)) % n
    angle = phase.to(dtype) * (2 * math.pi / n)
    return angle.cos(), angle.sin()


def _along(z: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """`matrix` applied along one axis of `z`, counted from the end."""
    if axis == -1:
        return z @ matrix.mT
    after = z.shape[z.ndim + axis + 1 :]
    return (matrix @ z.flatten(axis + 1)).unflatten(-1, after)


class SpectralConv(nn.Module):
    """K: (batch, in_channels, *space) -> (batch, out_channels, *space) on a periodic grid of any size, no bias.

    Args:
        n_modes: frequencies kept along each axis, 0 .. m - 1 and their negatives -m .. -1 (the last axis needs none).
    """

    def __init__(self, in_channels: int, out_channels: int, n_modes: Sequence[int]):
        super().__init__()
        if not n_modes or min(n_modes) < 1:
            raise ValueError(f"n_modes: at least one mode an axis, given {tuple(n_modes)}")
        self.in_channels, self.out_channels, self.n_modes = in_channels, out_channels, tuple(n_modes)
        kept = [*(2 * m for m in n_modes[:-1]), n_modes[-1]]
        # real and imaginary parts, frequencies first: one batched product without moving the weights
        scale = 1 / (in_channels * out_channels)
        self.weight = nn.Parameter(scale * torch.rand(*kept, in_channels, out_channels, 2))

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch out *space"]:
        """The kept coefficients, each times its matrix; all others zero."""
        dims = len(self.n_modes)
        check_shape("x", x, ("batch", self.in_channels, *(f"n{i}" for i in range(dims))))
        sizes = x.shape[2:]
        with torch.autocast(x.device.type, enabled=False):  # a transform in half precision loses the small modes
            x = x if x.dtype in (torch.float32, torch.float64) else x.float()
            axes = range(-dims, 0)
            frequencies = [
                kept_frequencies(n, m, axis == -1, x.device)
                for n, m, axis in zip(sizes, self.n_modes, axes, strict=True)
            ]
            self._count(x, [len(k) for k in frequencies])
            if max(self.n_modes) <= NARROW:
                matrices = [fourier_matrix(n, k, x.dtype) for n, k in zip(sizes, frequencies, strict=True)]
                return self._inverse_narrow(self._mix(self._forward_narrow(x, matrices), frequencies), matrices)
            return self._inverse_fft(self._mix(self._forward_fft(x, frequencies), frequencies), sizes, frequencies)

    def _mix(self, z: Tensor, frequencies: list[Tensor]) -> Tensor:
        """(batch, in, *kept) -> (batch, out, *kept)."""
        weight = self.weight
        for i, (k, m) in enumerate(zip(frequencies, self.n_modes, strict=True)):
            if len(k) < weight.shape[i]:  # a coarse grid
                weight = weight.index_select(i, k % (2 * m))
        kept = z.shape[2:]
        stacked = z.flatten(2).permute(2, 0, 1)  # (kept, batch, in)
        matrices = torch.view_as_complex(weight.to(z.real.dtype).contiguous()).flatten(0, -3)
        return (stacked @ matrices).permute(1, 2, 0).unflatten(-1, kept)

    def _forward_narrow(self, x: Tensor, matrices: list[tuple[Tensor, Tensor]]) -> Tensor:
        cos, sin = matrices[-1]
        z = x @ torch.stack([cos, -sin], -1).permute(1, 0, 2).flatten(1)  # real: both parts in one product
        z = torch.view_as_complex(z.unflatten(-1, (len(cos), 2)))
        for axis in range(-2, -len(matrices) - 1, -1):
            cos, sin = matrices[axis]
            z = _along(z, torch.complex(cos, -sin), axis)
        return z

    def _inverse_narrow(self, z: Tensor, matrices: list[tuple[Tensor, Tensor]]) -> Tensor:
        for axis in range(-len(matrices), -1):
            cos, sin = matrices[axis]
            z = _along(z, torch.complex(cos, sin).mT / cos.shape[1], axis)
        cos, sin = matrices[-1]
        n = cos.shape[1]
        twice = torch.full((len(cos), 1), 2 / n, dtype=cos.dtype, device=cos.device)
        twice[0] = 1 / n  # the constant has no conjugate partner,
        if n % 2 == 0 and len(cos) == n // 2 + 1:
            twice[-1] = 1 / n  # nor has the highest frequency of an even grid
        back = torch.stack([cos * twice, -sin * twice], 1).flatten(0, 1)
        return torch.view_as_real(z.contiguous()).flatten(-2) @ back

    def _forward_fft(self, x: Tensor, frequencies: list[Tensor]) -> Tensor:
        z = torch.fft.rfft(x)[..., : len(frequencies[-1])]
        for axis in range(-2, -len(frequencies) - 1, -1):
            z = torch.fft.fft(z, dim=axis)
            z = z.index_select(z.ndim + axis, frequencies[axis] % x.shape[axis])
        return z

    def _inverse_fft(self, z: Tensor, sizes: torch.Size, frequencies: list[Tensor]) -> Tensor:
        for axis in range(-len(sizes), -1):
            whole = list(z.shape)
            whole[axis] = sizes[axis]
            z = z.new_zeros(whole).index_copy(z.ndim + axis, frequencies[axis] % sizes[axis], z)
            z = torch.fft.ifft(z, dim=axis)
        return torch.fft.irfft(z, n=sizes[-1])

    def _count(self, x: Tensor, kept: list[int]) -> None:
        """Operations beside those that torch's counter sees: FFTs, and complex products, counted there as real ones.

        A complex multiply-add is eight operations and not two; an FFT of n points is 5 n log2 n, half for real ones.
        """
        if torch.compiler.is_compiling():
            return
        sizes, batch = list(x.shape[2:]), len(x)
        extra = 6 * batch * self.in_channels * self.out_channels * math.prod(kept)
        for channels in (self.in_channels, self.out_channels):
            lines = batch * channels
            for place in range(len(sizes)):
                n = sizes[place]
                others = math.prod(sizes[:place]) * math.prod(kept[place + 1 :])
                if max(self.n_modes) > NARROW:
                    extra += lines * others * n * math.log2(max(n, 2)) * (2.5 if place == len(sizes) - 1 else 5)
                elif place < len(sizes) - 1:
                    extra += 6 * lines * others * n * kept[place]
        add_operations(extra, "Fourier transforms")


class Pointwise(nn.Module):
    """The same linear map at every point: (batch, in_channels, *space) -> (batch, out_channels, *space)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        bound = in_channels**-0.5
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch out *space"]:
        """W x + b."""
        return F.conv1d(x.flatten(2), self.weight[:, :, None], self.bias).unflatten(2, x.shape[2:])


class FNO(nn.Module, Pretrained, tags=["operator-learning", "baseline", "arxiv:2010.08895"]):
    """Functions on a regular grid to functions on the same grid: (batch, in_channels, *space) -> (batch, out, *space).

    Args:
        n_modes: frequencies kept along each axis, see `SpectralConv`; as many entries as space has axes (1, 2 or 3).
            neuraloperator counts both signs: its (24, 22) is (12, 12) here.
        projection: hidden channels of the last two pointwise maps.
        positions: append the coordinates, 0 to 1 along each axis, to the input's channels, as the authors do.
        padding: grow the grid at its far ends by this fraction, for functions that are not periodic.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        n_modes: Sequence[int] = (12, 12),
        n_layers: int = 4,
        projection: int = 128,
        positions: bool = True,
        padding: float = 0.0,
    ):
        super().__init__()
        if not 1 <= len(n_modes) <= 3:
            raise ValueError(f"n_modes: one entry an axis, for 1 to 3 axes, given {tuple(n_modes)}")
        if n_layers < 1 or padding < 0:
            raise ValueError(f"n_layers: at least 1, padding: at least 0, given {n_layers} and {padding}")
        self.in_channels, self.ndim = in_channels, len(n_modes)
        self.positions, self.padding = positions, padding
        self.lift = Pointwise(in_channels + self.ndim * positions, width)
        self.spectral = nn.ModuleList(SpectralConv(width, width, n_modes) for _ in range(n_layers))
        self.pointwise = nn.ModuleList(Pointwise(width, width) for _ in range(n_layers))
        self.project = nn.ModuleList([Pointwise(width, projection), Pointwise(projection, out_channels)])

    def forward(self, u: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch out *space"]:
        """Output functions on the input's grid, whatever its size."""
        check_shape("u", u, ("batch", self.in_channels, *(f"n{i}" for i in range(self.ndim))))
        sizes = u.shape[2:]
        if self.positions:
            u = torch.cat([u, self._positions(u)], dim=1)
        u = self.lift(u)
        if self.padding:
            ends = [round(self.padding * n) for n in sizes]
            u = F.pad(u, [amount for end in reversed(ends) for amount in (0, end)])
        last = len(self.spectral) - 1
        for i, (spectral, pointwise) in enumerate(zip(self.spectral, self.pointwise, strict=True)):
            u = spectral(u) + pointwise(u)
            u = F.gelu(u) if i < last else u
        for axis, n in enumerate(sizes):
            u = u.narrow(2 + axis, 0, n)
        return self.project[1](F.gelu(self.project[0](u)))

    def _positions(self, u: Tensor) -> Tensor:
        lines = [torch.linspace(0, 1, n, dtype=u.dtype, device=u.device) for n in u.shape[2:]]
        return torch.stack(torch.meshgrid(*lines, indexing="ij")).expand(len(u), -1, *u.shape[2:])

    def load_official(self, state: Mapping[str, Tensor]) -> "FNO":
        """Load the state dict of the authors' first release (names fc0, conv0, w0, ..., fc1, fc2), strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        todo, renamed = dict(state), {}
        try:
            for i in range(len(self.spectral)):
                corners = [todo.pop(f"conv{i}.weights{c + 1}") for c in range(2 ** (self.ndim - 1))]
                renamed[f"spectral.{i}.weight"] = _official_spectral(corners)
                renamed[f"pointwise.{i}.weight"] = todo.pop(f"w{i}.weight").flatten(1)
                renamed[f"pointwise.{i}.bias"] = todo.pop(f"w{i}.bias")
            for ours, theirs in (("lift", "fc0"), ("project.0", "fc1"), ("project.1", "fc2")):
                renamed[f"{ours}.weight"] = todo.pop(f"{theirs}.weight").flatten(1)
                renamed[f"{ours}.bias"] = todo.pop(f"{theirs}.bias")
            self.load_state_dict(renamed | todo, strict=True)
        except (KeyError, RuntimeError, IndexError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two channels to three on a 9x8 grid."""
        made = cls(2, 3, width=6, n_modes=(3, 3), n_layers=2, projection=8, padding=0.25)
        for parameter in made.spectral.parameters():
            parameter.data.mul_(6)  # enough for the spectral part to show beside the pointwise one
        return Example(made, (torch.randn(3, 2, 9, 8),))


def _official_spectral(corners: list[Tensor]) -> Tensor:
    """Corners (in, out, *modes), complex, in the authors' order to (*kept, in, out, 2).

    Corner c holds the negative frequencies of axis a where bit a of c is set.
    """
    blocks = list(corners)
    for axis in range(corners[0].ndim - 4, -1, -1):  # the highest bit is the last of the doubled axes
        half = len(blocks) // 2
        blocks = [torch.cat(pair, dim=2 + axis) for pair in zip(blocks[:half], blocks[half:], strict=True)]
    return torch.view_as_real(blocks[0].permute(*range(2, blocks[0].ndim), 0, 1).contiguous())


@published_size(parameters=549_569)
def fno_burgers() -> FNO:
    """Burgers' equation in one dimension (authors' script fourier_1d)."""
    return FNO(1, 1, width=64, n_modes=(16,))


@published_size(parameters=2_368_001)
def fno_darcy(grid: int = 85) -> FNO:
    """Darcy flow (authors' script fourier_2d): 9 points of padding, here as the fraction of an 85x85 grid."""
    return FNO(1, 1, width=32, n_modes=(12, 12), padding=9 / grid)
