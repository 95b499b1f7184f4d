"""A plain U-Net (Ronneberger, Fischer, Brox, arXiv 1505.04597) from grids to grids: the convolutional baseline.

Two 3x3 convolutions with group norm and GELU a level, pooling by 2 down, transposed convolutions of kernel 2 up (each
coarse point fills its own cells, so no boundary enters), skips concatenated.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
PADDING = ("zeros", "circular", "reflect", "replicate")


class UNet(nn.Module, Pretrained, tags=["operator-learning", "baseline", "arxiv:1505.04597"]):
    """Fields to fields on a grid of any size: (batch, in_channels, *space) -> (batch, out_channels, *space).

    Args:
        width: channels of the finest level, doubled a level.
        depth: number of poolings. Sizes that 2^depth does not divide are padded at the far ends and cropped.
        padding_mode: what lies beyond the boundary: zeros, circular (periodic), reflect or replicate.
        groups: of the group norm; 0: no norm.
        ndim: axes of space, 1 to 3.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        depth: int = 3,
        padding_mode: str = "zeros",
        groups: int = 1,
        ndim: int = 2,
    ):
        super().__init__()
        if padding_mode not in PADDING:
            raise ValueError(f"padding_mode {padding_mode!r}: one of {', '.join(PADDING)}")
        if ndim not in CONV or depth < 0:
            raise ValueError(f"ndim: 1, 2 or 3, depth: at least 0, given {ndim} and {depth}")
        if groups and width % groups:
            raise ValueError(f"groups: {groups} do not divide a width of {width}")
        self.in_channels, self.ndim, self.depth = in_channels, ndim, depth
        self.padding_mode = padding_mode
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList(
            _pair(before, after, ndim, padding_mode, groups)
            for before, after in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(TRANSPOSED[ndim](2 * w, w, kernel_size=2, stride=2) for w in reversed(widths[:-1]))
        self.merge = nn.ModuleList(_pair(2 * w, w, ndim, padding_mode, groups) for w in reversed(widths[:-1]))
        self.head = CONV[ndim](width, out_channels, kernel_size=1)

    def forward(self, u: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch out *space"]:
        """Output fields on the input's grid."""
        check_shape("u", u, ("batch", self.in_channels, *(f"n{i}" for i in range(self.ndim))))
        sizes, block = u.shape[2:], 2**self.depth
        ends = [-n % block for n in sizes]
        if self.padding_mode == "reflect" and min(sizes) <= block:
            raise ValueError(
                f"u: reflection at {self.depth} poolings needs more than {block} points an axis, given {tuple(u.shape)}"
            )
        if any(ends):
            u = self._grown(u, ends)
        skips = []
        for level, convolutions in enumerate(self.down):
            u = convolutions(u if level == 0 else POOL[self.ndim](u, 2))
            skips.append(u)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            u = merge(torch.cat([up(u), skips.pop()], dim=1))
        u = self.head(u)
        for axis, n in enumerate(sizes):
            u = u.narrow(2 + axis, 0, n)
        return u

    def _grown(self, u: Tensor, ends: list[int]) -> Tensor:
        amounts = [amount for end in reversed(ends) for amount in (0, end)]
        small = any(end >= n for end, n in zip(ends, u.shape[2:], strict=True))
        if self.padding_mode == "zeros" or small:
            return F.pad(u, amounts)
        return F.pad(u, amounts, mode=self.padding_mode)

    @classmethod
    def example(cls) -> Example:
        """Two channels to three on a 9x8 grid, periodic."""
        return Example(cls(2, 3, width=4, depth=2, padding_mode="circular"), (torch.randn(3, 2, 9, 8),))


def _pair(before: int, after: int, ndim: int, padding_mode: str, groups: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(CONV[ndim](channels, after, kernel_size=3, padding=1, padding_mode=padding_mode, bias=not groups))
        if groups:
            layers.append(nn.GroupNorm(groups, after))
        layers.append(nn.GELU())
    return nn.Sequential(*layers)
