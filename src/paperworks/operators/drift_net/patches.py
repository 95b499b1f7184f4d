"""From pixels to tokens and back: patch merging and un-merging, patch recovery, Fourier resampling.

Tokens are laid out (batch, rows, columns, channels). scOT: Herde et al., arXiv 2405.19101, code camlab-ethz/poseidon.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from .norms import layer_norm


def padded(x: Tensor, amount: int, padding: str) -> Tensor:
    """(batch, channels, height, width) grown by `amount` on every side; circular wraps as often as it must."""
    if padding == "zeros":
        return F.pad(x, (amount,) * 4)
    height, width = x.shape[-2:]
    rows = torch.arange(-amount, height + amount, device=x.device) % height
    columns = torch.arange(-amount, width + amount, device=x.device) % width
    return x[..., rows, :][..., columns]


def convolve(conv: nn.Conv2d, x: Tensor, padding: str, bias: Tensor | None = None) -> Tensor:
    """A convolution that keeps the grid, with zeros or the other side beyond its edge, and a bias of one's own."""
    amount, bias = conv.kernel_size[0] // 2, conv.bias if bias is None else bias
    if padding == "zeros":
        return F.conv2d(x, conv.weight, bias, padding=amount, groups=conv.groups)
    return F.conv2d(padded(x, amount, padding), conv.weight, bias, groups=conv.groups)


class PatchMerging(nn.Module):
    """2x2 neighbours in the order (0,0), (1,0), (0,1), (1,1) side by side, 4c -> 2c, normalised: half the grid."""

    def __init__(self, dim: int, time_conditioned: bool = True):
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = layer_norm(2 * dim, time_conditioned)

    def forward(
        self, x: Float[Tensor, "batch rows columns channels"], time: Float[Tensor, "batch 1"] | None
    ) -> Float[Tensor, "batch half_rows half_columns wider"]:
        """(batch, h, w, c) -> (batch, h/2, w/2, 2c)."""
        return self.norm(self.reduction(rearrange(x, "b (h r) (w s) c -> b h w (s r c)", r=2, s=2)), time)


class PatchUnmerging(nn.Module):
    """c -> 2c, spread over 2x2 pixels of c/2, normalised, mixed: twice the grid."""

    def __init__(self, dim: int, time_conditioned: bool = True):
        super().__init__()
        self.upsample = nn.Linear(dim, 2 * dim, bias=False)
        self.norm = layer_norm(dim // 2, time_conditioned)
        self.mixup = nn.Linear(dim // 2, dim // 2, bias=False)

    def forward(
        self, x: Float[Tensor, "batch rows columns channels"], time: Float[Tensor, "batch 1"] | None
    ) -> Float[Tensor, "batch twice_rows twice_columns narrower"]:
        """(batch, h, w, c) -> (batch, 2h, 2w, c/2)."""
        spread = rearrange(self.upsample(x), "b h w (r s c) -> b (h r) (w s) c", r=2, s=2)
        return self.mixup(self.norm(spread, time))


class PatchRecovery(nn.Module):
    """Every token becomes a patch of pixels, and a 5x5 convolution smooths the seams."""

    def __init__(self, dim: int, out_channels: int, patch_size: int, padding: str = "zeros"):
        super().__init__()
        self.padding = padding
        self.projection = nn.ConvTranspose2d(dim, out_channels, patch_size, stride=patch_size)
        self.mixup = nn.Conv2d(out_channels, out_channels, 5, bias=False)

    def forward(
        self, x: Float[Tensor, "batch rows columns channels"]
    ) -> Float[Tensor, "batch out_channels height width"]:
        """Tokens (batch, h, w, dim) -> pixels (batch, out_channels, h p, w p)."""
        return convolve(self.mixup, self.projection(x.permute(0, 3, 1, 2)), self.padding)


def fourier_resample(x: Float[Tensor, "*batch n n"], size: int) -> Float[Tensor, "*batch size size"]:
    """Periodic square fields on another even grid, keeping the frequencies -m/2 .. m/2 - 1 of the smaller size m.

    The highest frequency m/2 is kept on its negative side alone and the real part taken, as scOT does: up and down
    again is exact for all others and halves that one.
    """
    n = x.shape[-1]
    if n % 2 or size % 2 or x.shape[-2] != n:
        raise ValueError(f"x: resampling wants even square grids, given {tuple(x.shape[-2:])} and {size}")
    if n == size:
        return x
    kept = min(n, size)
    spectrum = torch.fft.fftshift(torch.fft.fft2(x, norm="forward"), dim=(-2, -1))
    if size < n:
        first = (n - size) // 2
        spectrum = spectrum[..., first : first + kept, first : first + kept]
    else:
        whole = spectrum.new_zeros((*x.shape[:-2], size, size))
        first = (size - n) // 2
        whole[..., first : first + kept, first : first + kept] = spectrum
        spectrum = whole
    return torch.fft.ifft2(torch.fft.ifftshift(spectrum, dim=(-2, -1)), norm="forward").real
