"""The paper's U-Net, as a pixel network and with kernels resized to the grid (arXiv 2506.10973).

Authors' code neuraloperator/NNs-to-NOs, models/unet.py (after PDEArena, arXiv 2209.15616) and unet_kernel_interp.py.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size

from .function_layers import grid_coordinates
from .resized_convs import keeps_the_grid, resized_conv, resized_conv_transpose


class ResidualBlock(nn.Module):
    """conv(GELU(norm(.))) twice, and a shortcut; names are those of the authors."""

    def __init__(self, before: int, after: int, kernel_size: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, before), nn.GroupNorm(1, after)
        self.conv1 = nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)
        self.conv2 = nn.Conv2d(after, after, kernel_size, padding=kernel_size // 2)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor, scale: Sequence[float]) -> Tensor:
        """(batch, before, *grid) -> (batch, after, *grid), kernels resized by `scale`."""
        y = resized_conv(self.conv1, F.gelu(self.norm1(x)), scale)
        y = resized_conv(self.conv2, F.gelu(self.norm2(y)), scale)
        return y + self.shortcut(x)


def _fitted(x: Tensor, size: Sequence[int]) -> Tensor:
    """Zero-padded or cropped, in the middle, to `size`."""
    missing = [n - m for n, m in zip(size, x.shape[2:], strict=True)]
    if not any(missing):
        return x
    return F.pad(x, [n for m in reversed(missing) for n in (m // 2, m - m // 2)])


class KernelUNet(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2506.10973"]):
    """A U-Net of wide residual blocks on 2D grids, with pixel kernels or kernels resized to the grid at hand.

    Args:
        width: channels of the first level; `multipliers`: factors from level to level, cumulative.
        interpolate: resize kernels to the input's grid (the paper's conversion); weights stay those of the pixel net.
            Grids on which a kernel would come out even, and shrink them at every block, are refused: with 5 points
            those of base_resolution times [m / 2 + 1 / 4, m / 2 + 1 / 2) for whole m, halves and multiples are taken.
        base_resolution: the grid on which kernels are as they are.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 19,
        multipliers: Sequence[int] = (1, 2, 2, 3),
        kernel_size: int = 9,
        n_blocks: int = 2,
        interpolate: bool = False,
        base_resolution: int = 128,
    ):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size: an odd number, given {kernel_size}")
        self.in_channels, self.interpolate, self.base_resolution = in_channels, interpolate, base_resolution
        self.kernel_size = kernel_size
        self.image_proj = nn.Conv2d(in_channels + 2, width, kernel_size, padding=kernel_size // 2)
        down: list[nn.Module] = []
        now, levels = width, len(multipliers)
        for level, factor in enumerate(multipliers):
            for _ in range(n_blocks):
                down.append(nn.ModuleDict({"res": ResidualBlock(now, now * factor, kernel_size)}))
                now, factor = now * factor, 1
            if level < levels - 1:
                down.append(nn.ModuleDict({"conv": nn.Conv2d(now, now, 3, 2, 1)}))
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleDict({n: ResidualBlock(now, now, kernel_size) for n in ("res1", "res2")})
        up: list[nn.Module] = []
        for level, factor in reversed(list(enumerate(multipliers))):
            for after in [now] * n_blocks + [now // factor]:
                up.append(nn.ModuleDict({"res": ResidualBlock(now + after, after, kernel_size)}))
            now //= factor
            if level:
                up.append(nn.ModuleDict({"conv": nn.ConvTranspose2d(now, now, 4, 2, 2)}))
        self.up = nn.ModuleList(up)
        self.norm = nn.GroupNorm(1, width)
        self.final = nn.Conv2d(now, out_channels, kernel_size, padding=kernel_size // 2)

    def forward(self, u: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out rows columns"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid)."""
        check_shape("u", u, ("batch", self.in_channels, "rows", "columns"))
        grid = u.shape[2:]
        scale = [n / self.base_resolution if self.interpolate else 1.0 for n in grid]
        if not all(keeps_the_grid(self.kernel_size, s) for s in scale):
            raise ValueError(
                f"u: expected rows and columns to which kernels of {self.kernel_size} points on {self.base_resolution} "
                f"resize to an odd number, such as {self.base_resolution // 2} or {2 * self.base_resolution}, "
                f"given {tuple(u.shape)}"
            )
        x = torch.cat([u, grid_coordinates(grid, like=u).expand(len(u), -1, -1, -1)], 1)
        x = resized_conv(self.image_proj, x, scale)
        skips = [x]
        for part in self.down:
            x = part["res"](x, scale) if "res" in part else resized_conv(part["conv"], x, scale)  # type: ignore[operator, index]
            skips.append(x)
        x = self.middle["res2"](self.middle["res1"](x, scale), scale)
        for part in self.up:
            if "res" in part:  # type: ignore[operator]
                skip = skips.pop()
                x = part["res"](torch.cat([skip, _fitted(x, skip.shape[2:])], 1), scale)  # type: ignore[operator, index]
            else:
                x = resized_conv_transpose(part["conv"], x, scale)  # type: ignore[index]
        return resized_conv(self.final, F.gelu(self.norm(x)), scale)

    def load_official(self, state: Mapping[str, Tensor]) -> "KernelUNet":
        """Load the state dict of the authors' `Unet` or `UNetWithScale`, strictly: names are the same.

        Raises:
            ValueError: names or shapes are others.
        """
        try:
            self.load_state_dict(dict(state), strict=True)
        except RuntimeError as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two levels on twice the base grid."""
        made = cls(2, 1, width=3, multipliers=(1, 2), kernel_size=3, n_blocks=1, interpolate=True, base_resolution=8)
        return Example(made, (torch.randn(3, 2, 16, 16),))


@published_size(parameters=65_502_463)
def nn_to_no_unet() -> KernelUNet:
    """The paper's U-Net (authors' unet.yaml)."""
    return KernelUNet()


@published_size(parameters=65_502_463)
def nn_to_no_unet_interpolated() -> KernelUNet:
    """The same with kernels resized from the grid of 128 (unet_kernel_interp.yaml)."""
    return KernelUNet(interpolate=True, base_resolution=128)
