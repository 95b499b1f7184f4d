"""SineNet: a sequence of small U-Nets ("waves"), each of which moves the state by a part of a time step.

Zhang, Helwig, Lin, Xie, Fu, Wojtowytsch, Ji, arXiv 2403.19507; authors' code divelab/AIRS, folder OpenPDE/SineNet.
In one U-Net the skips carry features of time t to a path whose features are already at t + dt, so what is advected is
misaligned. With K waves in sequence each skip spans a K-th of the displacement.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from paperworks.measure import count_parameters
from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.operators.periodic_padding import conv3x3, convolved
from paperworks.operators.unet_mod import UNetMod

from .upsampling import Upsample2d

PADDING = ("circular", "zeros")
MODES = ("add", "scale_shift")


class ConvBlock(nn.Module):
    """Twice a 3x3 convolution, group norm of one group, GELU: (batch, before, h, w) -> (batch, after, h, w).

    Args:
        before, after: channels.
        padding: circular or zeros.
        condition: features of the conditioning vector, 0 for none. A linear layer of it is added after the first
            activation (`mode="add"`), or scales and shifts there: x (1 + scale) + shift (`mode="scale_shift"`).
        mode: how the condition enters.
    """

    def __init__(self, before: int, after: int, padding: str = "circular", condition: int = 0, mode: str = "add"):
        super().__init__()
        self.conv1 = conv3x3(before, after, padding)
        self.norm1 = nn.GroupNorm(1, after)
        self.conv2 = conv3x3(after, after, padding)
        self.norm2 = nn.GroupNorm(1, after)
        self.scaled = mode == "scale_shift"
        self.condition = nn.Linear(condition, after * (2 if self.scaled else 1)) if condition else None

    def forward(
        self, x: Float[Tensor, "batch before height width"], condition: Float[Tensor, "batch features"] | None = None
    ) -> Float[Tensor, "batch after height width"]:
        """Features on the same grid."""
        x = F.gelu(self.norm1(convolved(self.conv1, x)))
        if self.condition is not None and condition is not None:
            own = self.condition(condition)[:, :, None, None]
            if self.scaled:
                scale, shift = own.chunk(2, dim=1)
                x = x * (1 + scale) + shift
            else:
                x = x + own
        return F.gelu(self.norm2(convolved(self.conv2, x)))


class Level(nn.Module):
    """The blocks of one resolution: y = ConvBlock(z) + Conv1x1(g), then y = ConvBlock(y) + y for each further one.

    Args:
        before: channels of z, all that comes in.
        direct: channels of g, the part of z that came along the path, before anything was concatenated.
        after: channels out.
        blocks: how many.
    """

    def __init__(self, before: int, direct: int, after: int, blocks: int, **block: Any):
        super().__init__()
        self.blocks = nn.ModuleList(ConvBlock(after if i else before, after, **block) for i in range(blocks))
        self.shortcut = nn.Conv2d(direct, after, 1)

    def forward(self, z: Tensor, g: Tensor, condition: Tensor | None) -> Tensor:
        y = self.blocks[0](z, condition) + self.shortcut(g)
        for block in list(self.blocks)[1:]:
            y = block(y, condition) + y
        return y


class Wave(nn.Module):
    """One U-Net from `widths[0]` channels to as many.

    Args:
        widths: channels of every level, the finest first.
        parallel: every level but the first is also given the wave's own input, pooled to its grid ("dual"
            multi-scale processing); else only what the level before made of it.
        residual: the wave's input is added to its output.
    """

    def __init__(self, widths: Sequence[int], *, parallel: bool, residual: bool, blocks: int, **block: Any):
        super().__init__()
        self.parallel, self.residual = parallel, residual
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (before, after) in enumerate(pairwise(widths)):
            beside = widths[0] if parallel and i else 0  # at the first level it is the same as what is pooled
            self.down.append(Level(before + beside, before, after, blocks, **block))
        for after, before in reversed(list(pairwise(widths))):
            self.up.append(Level(after + before, before, after, blocks, **block))
        self.upsample = Upsample2d(block["padding"] == "circular")

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        skips, y, beside = [x], x, x
        for i, level in enumerate(self.down):
            g = F.avg_pool2d(y, 2)
            if self.parallel and i < len(self.down):
                beside = g if i == 0 else F.avg_pool2d(beside, 2)
            y = level(torch.cat([g, beside], dim=1) if self.parallel and i else g, g, condition)
            skips.append(y)
        skips.pop()
        for level in self.up:
            u = self.upsample(y)
            y = level(torch.cat([skips.pop(), u], dim=1), u, condition)
        return x + y if self.residual else y


class SineNet(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2403.19507"]):
    """The next frame of fields on a grid: (batch, in_channels, height, width) -> (batch, out_channels, height, width).

    Several frames of history are laid into the channels, the oldest first. The network predicts the next state itself,
    not its change. Height and width must be divisible by 2^levels.

    Args:
        in_channels: channels of a frame times frames of history.
        out_channels: channels of a frame.
        hidden: channels at full resolution.
        waves: U-Nets in sequence.
        growth: level i has int(hidden * growth^i) channels; `match_growth` finds it for a number of parameters.
        levels: poolings by 2 of each wave.
        padding: circular (periodic data) or zeros.
        parallel: give every level the pooled input of its wave as well ("dual"; False is the paper's "tangled").
        blocks: convolution blocks a level and direction.
        wave_residual: add each wave's input to its output.
        conditions: numbers that describe a sample besides its fields (time step, buoyancy), each embedded by sines
            and cosines and a small MLP of its own; 0 for none.
        condition_mode: `add` or `scale_shift` (adaptive group norm).
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        hidden: int = 64,
        waves: int = 8,
        growth: float = 1.425,
        levels: int = 4,
        padding: str = "circular",
        parallel: bool = True,
        blocks: int = 1,
        wave_residual: bool = True,
        conditions: int = 0,
        condition_mode: str = "add",
    ):
        super().__init__()
        if padding not in PADDING:
            raise ValueError(f"padding {padding!r}: one of {', '.join(PADDING)}")
        if condition_mode not in MODES:
            raise ValueError(f"condition_mode {condition_mode!r}: one of {', '.join(MODES)}")
        if min(hidden, waves, levels, blocks) < 1 or growth <= 0:
            raise ValueError(
                "hidden, waves, levels and blocks: at least 1, growth: above 0, given "
                f"{hidden}, {waves}, {levels}, {blocks} and {growth}"
            )
        if conditions and hidden % 2:
            raise ValueError(f"hidden: an even number for sines and cosines of the conditions, given {hidden}")
        self.in_channels, self.hidden, self.levels, self.conditions = in_channels, hidden, levels, conditions
        self.widths = level_widths(hidden, growth, levels)
        if min(self.widths) < 1:
            raise ValueError(f"growth {growth}: leaves a level without channels, {self.widths}")
        self.grad_checkpointing = False
        features = 4 * hidden if conditions else 0
        self.condition_mlps = nn.ModuleList(
            nn.Sequential(nn.Linear(hidden, features), nn.GELU(), nn.Linear(features, features))
            for _ in range(conditions)
        )
        self.image_proj = conv3x3(in_channels, hidden, padding)
        self.waves = nn.ModuleList(
            Wave(
                self.widths,
                parallel=parallel,
                residual=wave_residual,
                blocks=blocks,
                padding=padding,
                condition=features,
                mode=condition_mode,
            )
            for _ in range(waves)
        )
        self.final = conv3x3(hidden, out_channels, padding)

    def forward(
        self,
        x: Float[Tensor, "batch channels height width"],
        conditions: Float[Tensor, "batch numbers"] | None = None,
    ) -> Float[Tensor, "batch out height width"]:
        """The next frame.

        Args:
            x: the last frames.
            conditions: (batch, conditions), for a model that has some: the time step in frames first.
        """
        check_shape("x", x, ("batch", self.in_channels, "height", "width"))
        block = 2**self.levels
        if x.shape[2] % block or x.shape[3] % block:
            raise ValueError(f"x: expected height and width divisible by {block}, given {tuple(x.shape)}")
        condition = self.condition(x, conditions)
        y = convolved(self.image_proj, x)
        for wave in self.waves:
            if self.grad_checkpointing and self.training:
                y = checkpoint(wave, y, condition, use_reentrant=False)
            else:
                y = wave(y, condition)
        return convolved(self.final, y)

    def condition(self, x: Tensor, conditions: Tensor | None) -> Tensor | None:
        """The conditioning vector (batch, 4 hidden): a sum over the conditions."""
        if not self.conditions:
            if conditions is not None:
                raise ValueError("conditions: this SineNet takes none; build it with conditions=...")
            return None
        if conditions is None:
            raise ValueError(f"conditions: expected shape ({len(x)}, {self.conditions}), given none")
        check_shape("conditions", conditions, (len(x), self.conditions))
        embedded = [
            mlp(fourier_embedding(conditions[:, i], self.hidden).to(x.dtype))
            for i, mlp in enumerate(self.condition_mlps)
        ]
        return torch.stack(embedded).sum(0)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every wave in the backward pass: activations of one wave are kept instead of all."""
        self.grad_checkpointing = enable

    def load_official(self, state: Mapping[str, Tensor]) -> "SineNet":
        """Load a state dict of the authors' `sinenet` (plain or conditioned), strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        renamed = {}
        for name, tensor in state.items():
            name = re.sub(r"^(down|up)\.(\d+)\.(\d+)\.", r"waves.\2.\1.\3.", name)
            name = re.sub(r"\.conv\.(\d+)\.", r".blocks.\1.", name).replace(".cond_emb.", ".condition.")
            name = re.sub(r"^time_embed\.", "condition_mlps.0.", name)
            renamed[re.sub(r"^pde_emb\.", "condition_mlps.1.", name)] = tensor
        try:
            self.load_state_dict(renamed, strict=True)
        except RuntimeError as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two waves of two levels on a periodic 8x12 grid, with a time step as condition."""
        made = cls(2, 3, hidden=4, waves=2, growth=1.5, levels=2, conditions=1)
        return Example(made, (torch.randn(3, 2, 8, 12), torch.rand(3, 1)))


def level_widths(hidden: int, growth: float, levels: int) -> list[int]:
    """Channels of every level: each power truncated by itself."""
    return [hidden, *(int(hidden * growth**i) for i in range(1, levels + 1))]


def fourier_embedding(t: Float[Tensor, "batch"], features: int) -> Float[Tensor, "batch features"]:
    """cos(t f_j), then sin(t f_j), with f_j = 10000^(-j / (features / 2))."""
    half = features // 2
    frequencies = 10000.0 ** (-torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def match_growth(parameters: int, waves: int, hidden: int, **settings: Any) -> float:
    """The growth (to four digits) that brings a `SineNet` of so many waves nearest to a number of parameters.

    Raises:
        ValueError: no growth between 0.5 and 4 comes within 5 % of it.
    """

    def size(growth: float) -> int:
        with torch.device("meta"):
            return count_parameters(SineNet(hidden=hidden, waves=waves, growth=growth, **settings))

    low, high = 5_000, 40_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle / 1e4) <= parameters else (low, middle)
    found = min((low / 1e4, high / 1e4), key=lambda growth: abs(size(growth) - parameters))
    if abs(size(found) - parameters) > 0.05 * parameters:
        raise ValueError(f"parameters: {waves} waves of {hidden} channels come to {size(found):,}, not {parameters:,}")
    return found


def _published(waves: int, growth: float, changes: dict[str, Any], **more: Any) -> SineNet:
    settings: dict[str, Any] = dict(in_channels=12, out_channels=3, waves=waves, growth=growth, padding="zeros")
    return SineNet(**settings | more | changes)


@published_size(parameters=33_788_099)
def sinenet_1(**changes: Any) -> SineNet:
    """One wave: the plain U-Net of the authors' code. 4 frames of 3 channels in, as all sizes below but two."""
    return _published(1, 2.0, changes)


@published_size(parameters=35_499_989)
def sinenet_2(**changes: Any) -> SineNet:
    """SineNet-2."""
    return _published(2, 1.8075, changes)


@published_size(parameters=35_493_699)
def sinenet_4(**changes: Any) -> SineNet:
    """SineNet-4."""
    return _published(4, 1.611, changes)


@published_size(parameters=35_475_499)
def sinenet_6(**changes: Any) -> SineNet:
    """SineNet-6."""
    return _published(6, 1.5, changes)


@published_size(parameters=35_490_219)
def sinenet_8(**changes: Any) -> SineNet:
    """SineNet-8, the paper's main model."""
    return _published(8, 1.425, changes)


@published_size(parameters=32_831_403)
def sinenet_8_tangle(**changes: Any) -> SineNet:
    """SineNet-8 without the parallel path."""
    return _published(8, 1.425, changes, parallel=False)


@published_size(parameters=28_628_084)
def deeper_unet_8(**changes: Any) -> SineNet:
    """One wave with eight blocks a level and direction: as deep as SineNet-8, but one U-Net."""
    return _published(1, 1.425, changes, blocks=8)


@published_size(parameters=135_094_659)
def sinenet_1_128(**changes: Any) -> SineNet:
    """One wave of twice the width: more operations than SineNet-8."""
    return _published(1, 2.0, changes, hidden=128)


@published_size(parameters=37_987_571)
def sinenet_8_add(**changes: Any) -> SineNet:
    """SineNet-8 told the time step and the buoyancy, added; one frame of 3 channels in."""
    return _published(8, 1.425, changes, in_channels=3, conditions=2)


@published_size(parameters=40_325_243)
def sinenet_8_adagn(**changes: Any) -> SineNet:
    """SineNet-8 told the time step and the buoyancy, as scales and shifts; one frame of 3 channels in."""
    return _published(8, 1.425, changes, in_channels=3, conditions=2, condition_mode="scale_shift")


@published_size(parameters=144_263_683)
def unet_mod_64(**changes: Any) -> UNetMod:
    """U-Net-Mod-64 of PDEArena, the paper's strongest U-Net."""
    settings: dict[str, Any] = dict(in_channels=12, out_channels=3, hidden=64, padding="zeros")
    return UNetMod(**settings | changes)


NAMED_SIZES: dict[str, Callable[..., nn.Module]] = {
    build.__name__: build
    for build in (
        sinenet_1,
        sinenet_2,
        sinenet_4,
        sinenet_6,
        sinenet_8,
        sinenet_8_tangle,
        deeper_unet_8,
        sinenet_1_128,
        sinenet_8_add,
        sinenet_8_adagn,
        unet_mod_64,
    )
}
