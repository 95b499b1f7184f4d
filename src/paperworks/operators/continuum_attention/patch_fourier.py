"""Fourier transforms of patches that keep few modes, as products with narrow matrices in real arithmetic.

Patches are (height, width, batch, patches, channels): space first, so that a transform is one product with a long
matrix, its result lies mode by mode as the mixing needs it, and channels are last for what works point by point.
Coefficients are (modes, 2, batch * patches, channels), real and imaginary part.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape
from paperworks.operators.fno import fourier_matrix, kept_frequencies

WHOLE = 256  # up to so many pixels, one product over both axes beats two and the sums between them


class PatchModes:
    """The modes kept of a patch of height x width: rows 0 .. m1 - 1 and -m1 .. -1, columns 0 .. m2 - 1.

    Those that the patch cannot carry are left out (rows beyond +-height / 2, columns beyond width / 2).
    """

    def __init__(self, height: int, width: int, modes: tuple[int, int], device: torch.device | None = None):
        self.height, self.width, self.modes = height, width, modes
        self.rows = kept_frequencies(height, modes[0], real=False, device=device)
        self.columns = kept_frequencies(width, modes[1], real=True, device=device)

    def transform(self, x: Tensor) -> Tensor:
        """rfft2 of (height, width, batch, patches, channels), at the kept modes."""
        height, width, batch, patches, channels = x.shape
        if height * width <= WHOLE:
            cos, sin = self._plane_waves(x.dtype)
            z = torch.stack([cos, -sin], 1).flatten(0, 1) @ x.reshape(height * width, -1)
            return z.view(-1, 2, batch * patches, channels)
        cos, sin = fourier_matrix(width, self.columns, x.dtype)
        z = torch.cat([cos, -sin]) @ x.reshape(height, width, -1)  # (height, 2 columns, ...)
        cos, sin = fourier_matrix(height, self.rows, x.dtype)
        shape = (2, len(self.rows), 2, len(self.columns), batch * patches, channels)
        z = (torch.cat([cos, sin]) @ z.reshape(height, -1)).view(shape)
        # (cos - i sin)(a + i b)
        real, imaginary = z[0, :, 0] + z[1, :, 1], z[0, :, 1] - z[1, :, 0]
        return torch.stack([real, imaginary], dim=2).flatten(0, 1)

    def inverse(self, z: Tensor, batch: int) -> Tensor:
        """irfft2: coefficients to (height, width, batch, patches, channels); all other modes are zero."""
        rows, columns = len(self.rows), len(self.columns)
        _, _, both, channels = z.shape
        shape = (self.height, self.width, batch, both // batch, channels)
        share = self.multiplicity(z) / (self.height * self.width)
        if self.height * self.width <= WHOLE:
            cos, sin = self._plane_waves(z.dtype)
            share = share.repeat(rows)[:, None]
            back = torch.stack([cos * share, -sin * share], 1).flatten(0, 1).mT
            return (back @ z.reshape(2 * rows * columns, -1)).view(shape)
        cos, sin = fourier_matrix(self.height, self.rows, z.dtype)
        g = torch.cat([cos.mT, sin.mT]) @ z.reshape(rows, -1)
        g = g.view(2, self.height, columns, 2, both, channels)
        # (cos + i sin)(a + i b)
        real, imaginary = g[0, :, :, 0] - g[1, :, :, 1], g[0, :, :, 1] + g[1, :, :, 0]
        cos, sin = fourier_matrix(self.width, self.columns, z.dtype)
        back = torch.cat([cos * share[:, None], -sin * share[:, None]]).mT
        return (back @ torch.cat([real, imaginary], dim=1).flatten(2)).view(shape)

    def _plane_waves(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin of every kept mode at every pixel, (modes, pixels)."""
        down, right = fourier_matrix(self.height, self.rows, dtype), fourier_matrix(self.width, self.columns, dtype)
        (c1, s1), (c2, s2) = ((m[:, None, :, None] for m in down), (m[None, :, None, :] for m in right))
        return (c1 * c2 - s1 * s2).flatten(0, 1).flatten(1), (s1 * c2 + c1 * s2).flatten(0, 1).flatten(1)

    def multiplicity(self, like: Tensor) -> Tensor:
        """How often each column stands in the full spectrum: 2, but 1 for the constant and for an even width's end."""
        alone = (self.columns == 0) | (2 * self.columns == self.width)
        return torch.where(alone, 1.0, 2.0).to(like)

    def of_weight(self, weight: Tensor) -> Tensor:
        """The part (rows, columns, ...) of (2 m1, m2, ...) that acts on the kept modes."""
        if len(self.rows) < weight.shape[0]:
            weight = weight.index_select(0, self.rows % (2 * self.modes[0]))
        return weight[:, : len(self.columns)]

    def paired(self, weight: Tensor) -> Tensor:
        """Weights K' of (rows, columns, 2, ...) with sum_x Kx . Qx = sum_kept Re(conj(K' x) . Q x) / (height width).

        Parseval over half a spectrum: a column that has a mirror image counts twice. One without must be Hermitian
        along the rows to belong to a real function; of any other, the inverse transform sees the Hermitian part. Since
        x is real, that part can be taken of the weights.
        """
        conjugate = torch.tensor([1.0, -1.0]).to(weight).view(2, *[1] * (weight.ndim - 3))
        mirrored = ((self.rows[:, None] + self.rows) % self.height == 0).to(weight)  # none for a row without its image

        def hermitian(column: Tensor) -> Tensor:
            image = (mirrored @ column.flatten(1)).view(column.shape)
            return 0.5 * (column + conjugate * image)

        parts = [hermitian(weight[:, :1])]
        end = len(self.columns) - int(2 * (len(self.columns) - 1) == self.width)
        parts.append(2 * weight[:, 1:end])
        if end < len(self.columns) and end > 0:
            parts.append(hermitian(weight[:, end:]))
        return torch.cat(parts, dim=1)


def mix(z: Tensor, weight: Tensor) -> Tensor:
    """Coefficients (modes, 2, n, in) each times its complex matrix (rows, columns, 2, in, out): (modes, 2, out, n)."""
    real, imaginary = weight.flatten(0, 1).unbind(1)
    a, b = z.mT.unbind(1)
    mixed = torch.bmm(torch.cat([real, imaginary], -1).mT, a)
    return torch.baddbmm(mixed, torch.cat([-imaginary, real], -1).mT, b).unflatten(1, (2, -1))


def spectral_weight(modes: tuple[int, int], *shape: int, scale: float) -> nn.Parameter:
    """(2 m1, m2, 2, *shape): real and imaginary parts uniform on [0, scale), as in the authors' code (not centred)."""
    if min(modes) < 1:
        raise ValueError(f"modes: at least one an axis, given {modes}")
    return nn.Parameter(scale * torch.rand(2 * modes[0], modes[1], 2, *shape))


class PatchSpectralConv(nn.Module):
    """A spectral convolution inside each patch, no bias: (height, width, batch, patches, in) -> (..., out)."""

    def __init__(self, in_channels: int, out_channels: int, modes: tuple[int, int]):
        super().__init__()
        self.modes, self.in_channels = modes, in_channels
        self.weight = spectral_weight(modes, in_channels, out_channels, scale=1 / (in_channels * out_channels))

    def forward(
        self, x: Float[Tensor, "height width batch patches channels"]
    ) -> Float[Tensor, "height width batch patches out"]:
        """Each patch by itself, taken as periodic."""
        check_shape("x", x, ("height", "width", "batch", "patches", self.in_channels))
        with torch.autocast(x.device.type, enabled=False):  # a transform in half precision loses the small modes
            x = x if x.dtype in (torch.float32, torch.float64) else x.float()
            kept = PatchModes(x.shape[0], x.shape[1], self.modes, x.device)
            return kept.inverse(mix(kept.transform(x), kept.of_weight(self.weight)).mT, x.shape[2])


def official_spectral(state: dict[str, Tensor], name: str) -> Tensor:
    """The authors' weights1 and weights2 (in, out, m1, m2, ...), complex, as (2 m1, m2, 2, in, out, ...)."""
    both = torch.cat([state.pop(f"{name}.weights1"), state.pop(f"{name}.weights2")], dim=2)
    if not both.is_complex():
        raise ValueError(f"state: {name} holds real weights; expected complex ones")
    return torch.view_as_real(both).movedim(-1, 0).movedim((3, 4), (0, 1)).contiguous()


def scale_of_scores(height: int, width: int, patches: int) -> float:
    """1 / pixels of the whole image: the cell of the integral over a patch, for an image of measure 1."""
    return 1.0 / math.prod((height, width, patches))
