"""Doubling a grid by bicubic interpolation, as two matrix products.

Bicubic interpolation by 2 (Keys' kernel with a = -0.75, pixel centres kept: torch's `bicubic`, `align_corners=False`)
is a fixed linear map of each axis: output 2i is a weighted mean of inputs i-2 ... i+1, output 2i+1 of i-1 ... i+2,
with the same four weights mirrored. Neighbours beyond the end are those of the other end on a periodic axis, which
equals padding circularly, interpolating and cropping, and the last point itself otherwise, as torch has it.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape

WEIGHTS = {-1: -0.10546875, 0: 0.87890625, 1: 0.26171875, 2: -0.03515625}  # of output 2i+1; mirrored for output 2i
LARGEST = 256  # points of an axis up to which a dense matrix product beats four taps a point


class Upsample2d(nn.Module):
    """Fields on twice the points an axis: (batch, channels, height, width) -> (batch, channels, 2 height, 2 width).

    Args:
        periodic: opposite ends are neighbours; then shifting the input by n points shifts the output by 2n exactly.
    """

    def __init__(self, periodic: bool = True):
        super().__init__()
        self.periodic = periodic
        self._matrices: dict[tuple[int, torch.device, torch.dtype], Tensor] = {}

    def forward(
        self, x: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height2 width2"]:
        """The interpolated fields."""
        check_shape("x", x, ("batch", "channels", "height", "width"))
        batch, channels, height, width = x.shape
        if max(height, width) > LARGEST:
            return interpolated(x, self.periodic)
        rows, columns = self.matrix(height, x), self.matrix(width, x)
        wide = (x.reshape(-1, width) @ columns.T).view(batch * channels, height, 2 * width)
        return torch.bmm(rows.expand(len(wide), -1, -1), wide).view(batch, channels, 2 * height, 2 * width)

    def matrix(self, n: int, like: Tensor) -> Tensor:
        """The map of one axis of n points, (2n, n)."""
        if torch.compiler.is_compiling() or type(like) not in (Tensor, nn.Parameter):  # a trace's must not outlive it
            return doubling_matrix(n, self.periodic, like)
        key = (n, like.device, like.dtype)
        if key not in self._matrices:
            with torch.inference_mode(False):  # else it could not serve training later on
                self._matrices[key] = doubling_matrix(n, self.periodic, like)
        return self._matrices[key]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_matrices": {}}


def doubling_matrix(n: int, periodic: bool, like: Tensor) -> Tensor:
    """The bicubic map from n to 2n points of one axis as a matrix (2n, n) of `like`'s type."""
    places = torch.arange(n, device="cpu")  # some devices know no float64
    matrix = torch.zeros(n, 2, n, device="cpu", dtype=torch.float64)
    for offset, weight in WEIGHTS.items():
        for half, moved in ((1, places + offset), (0, places - offset)):
            source = moved % n if periodic else moved.clamp(0, n - 1)
            matrix[:, half] += weight * F.one_hot(source, n)
    return matrix.reshape(2 * n, n).to(like.device, like.dtype)


def interpolated(x: Tensor, periodic: bool) -> Tensor:
    """The same by torch's interpolation: for axes so long that a dense matrix would do more work than it saves."""
    if not periodic:
        return F.interpolate(x, scale_factor=2, mode="bicubic")
    padded = F.pad(x, (2, 2, 2, 2), mode="circular")
    return F.interpolate(padded, scale_factor=2, mode="bicubic")[..., 4:-4, 4:-4]
