"""U-Net-Mod: the wide residual U-Net of PDEArena (Gupta, Brandstetter, arXiv 2209.15616; code pdearena/pdearena, MIT).

Pre-activation residual blocks, strided convolutions down, transposed convolutions up, and a skip from every layer of
the way down, not one a level.
"""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape

from .periodic_padding import conv3x3, convolved


class ResidualBlock(nn.Module):
    """Twice group norm of one group, GELU, 3x3 convolution, plus the input (through a 1x1 convolution if it widens)."""

    def __init__(self, before: int, after: int, padding: str):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, before), nn.GroupNorm(1, after)
        self.conv1, self.conv2 = conv3x3(before, after, padding), conv3x3(after, after, padding)
        self.shortcut = nn.Conv2d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = convolved(self.conv1, F.gelu(self.norm1(x)))
        return convolved(self.conv2, F.gelu(self.norm2(y))).add_(self.shortcut(x))  # into an array of our own


class UNetMod(nn.Module, Pretrained, tags=["operator-learning", "baseline", "arxiv:2209.15616"]):
    """Fields to fields on a grid: (batch, in_channels, height, width) -> (batch, out_channels, height, width).

    Args:
        in_channels, out_channels: frames of history are laid into the channels.
        hidden: channels at full resolution.
        multipliers: each level's width over that of the level before; the grid is halved between levels.
        blocks: residual blocks a level on the way down; one more on the way up.
        padding: circular or zeros. The transposed convolutions know no circular padding and keep zeros.
        groups: of the last group norm.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        hidden: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4),
        blocks: int = 2,
        padding: str = "circular",
        groups: int = 8,
    ):
        super().__init__()
        if padding not in ("circular", "zeros"):
            raise ValueError(f"padding {padding!r}: one of circular, zeros")
        if hidden % groups:
            raise ValueError(f"groups: {groups} do not divide {hidden} channels")
        self.in_channels, self.halvings = in_channels, len(multipliers) - 1

        self.image_proj = conv3x3(in_channels, hidden, padding)
        width, kept = hidden, [hidden]  # channels of every skip
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, times in enumerate(multipliers):
            for _ in range(blocks):
                self.down.append(ResidualBlock(width, width * times, padding))
                width, times = width * times, 1
                kept.append(width)
            if level < self.halvings:
                self.down.append(conv3x3(width, width, padding, stride=2))
                kept.append(width)
        self.middle = nn.Sequential(*(ResidualBlock(width, width, padding) for _ in range(2)))
        for level, times in reversed(list(enumerate(multipliers))):
            for place in range(blocks + 1):
                after = width if place < blocks else width // times
                self.up.append(ResidualBlock(width + kept.pop(), after, padding))
                width = after
            if level:
                self.up.append(nn.ConvTranspose2d(width, width, 4, stride=2, padding=1))
        self.norm = nn.GroupNorm(groups, width)
        self.final = conv3x3(width, out_channels, padding)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch out height width"]:
        """Output fields on the input's grid."""
        check_shape("x", x, ("batch", self.in_channels, "height", "width"))
        block = 2**self.halvings
        if x.shape[2] % block or x.shape[3] % block:
            raise ValueError(f"x: expected height and width divisible by {block}, given {tuple(x.shape)}")
        y = convolved(self.image_proj, x)
        skips = [y]
        for layer in self.down:
            y = convolved(layer, y) if isinstance(layer, nn.Conv2d) else layer(y)
            skips.append(y)
        y = self.middle(y)
        for layer in self.up:
            y = layer(torch.cat([y, skips.pop()], dim=1) if isinstance(layer, ResidualBlock) else y)
        return convolved(self.final, F.gelu(self.norm(y)))

    def load_official(self, state: Mapping[str, Tensor]) -> "UNetMod":
        """Load a state dict of PDEArena's `Unet` (norm=True, no attention), strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        renamed = {}
        for name, tensor in state.items():
            name = re.sub(r"\.res\.", ".", name)
            name = re.sub(r"^((?:down|up)\.\d+)\.conv\.", r"\1.", name)
            renamed[re.sub(r"^middle\.res(\d)\.", lambda m: f"middle.{int(m[1]) - 1}.", name)] = tensor
        try:
            self.load_state_dict(renamed, strict=True)
        except RuntimeError as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two levels, two channels to three on an 8x12 grid."""
        return Example(cls(2, 3, hidden=4, multipliers=(1, 2), groups=2), (torch.randn(3, 2, 8, 12),))
