"""The published binary networks of BiPer (arXiv 2404.01278). Authors' code: edmav4/BiPer.

All 3x3 convolutions but the first are periodic; the first one, shortcuts and the classifier stay real. The names of
the sizes are the authors' (`resnet18_1w1a` of CIFAR is `biper_resnet18` here).
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn import Example, Pretrained, check_shape, published_size

from .layers import BiPerConv2d

LEFT_OVER = re.compile(r"\.(tau|beta)$")  # in the authors' state: one is never read, one weighs their regulariser


class PooledShortcut(nn.Module):
    """Halve the resolution by 2x2 averages and pad channels with zeros on both sides; no parameters."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.before = (n_out - n_in) // 2
        self.after = n_out - n_in - self.before

    def forward(self, x: Float[Tensor, "batch n_in height width"]) -> Float[Tensor, "batch n_out high wide"]:
        """Odd sides are rounded up, as the strided convolution beside it does."""
        pooled = F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
        return F.pad(pooled, (0, 0, 0, 0, self.before, self.after)) if self.before + self.after else pooled


class Block(nn.Module):
    """Two periodic convolutions, each followed by a batch norm; shortcuts around each one, or around both."""

    def __init__(self, n_in: int, n_out: int, stride: int, shortcut: str, every_conv: bool, **options: Any):
        super().__init__()
        self.conv1 = BiPerConv2d(n_in, n_out, 3, stride, 1, **options)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = BiPerConv2d(n_out, n_out, 3, 1, 1, **options)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.every_conv = every_conv
        self.activation = F.hardtanh if options.get("binary_input", True) else F.relu
        if stride == 1 and n_in == n_out:
            self.shortcut: nn.Module = nn.Identity()
        elif shortcut == "pool":
            self.shortcut = PooledShortcut(n_in, n_out)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Float[Tensor, "batch n_in height width"]) -> Float[Tensor, "batch n_out high wide"]:
        """hardtanh (or ReLU, where activations are real) after each sum."""
        out = self.norm1(self.conv1(x))
        if self.every_conv:
            out = self.activation(out + self.shortcut(x))
            return self.activation(self.norm2(self.conv2(out)) + out)
        return self.activation(self.norm2(self.conv2(self.activation(out))) + self.shortcut(x))


class BiPerResNet(nn.Module, Pretrained, tags=["binary-neural-network", "arxiv:2404.01278"]):
    """A residual network of periodic binary convolutions.

    Args:
        blocks, widths: blocks and channels of each group; every group but the first halves the resolution.
        num_classes, in_channels: of the output and of the images.
        stem: `small`, a 3x3 convolution; `imagenet`, a 7x7 one of stride 2 and a max pool.
        stem_activation: whether the stem ends in a hardtanh (CIFAR's ResNet-18 does not).
        shortcut: where a block changes its shape: `pool`, without parameters, or `conv`, a real 1x1 convolution.
        every_conv: a shortcut around every convolution (ResNet-20, ImageNet) or around both of a block (ResNet-18).
        norm_weight: what the 2-D batch norms' weights start at; the authors' ImageNet code has 1e-8.
        freq, stage, binary_input, sign_of_zero: of `BiPerConv2d`.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (3, 3, 3),
        widths: Sequence[int] = (16, 32, 64),
        num_classes: int = 10,
        in_channels: int = 3,
        stem: str = "small",
        stem_activation: bool = True,
        shortcut: str = "pool",
        every_conv: bool = True,
        norm_weight: float = 1.0,
        freq: float = 20.0,
        stage: int = 1,
        binary_input: bool = True,
        sign_of_zero: int = 1,
    ):
        super().__init__()
        if stem not in ("small", "imagenet") or shortcut not in ("pool", "conv"):
            raise ValueError(f"stem: small or imagenet, shortcut: pool or conv; given {stem}, {shortcut}")
        if len(blocks) != len(widths) or not blocks or min(*blocks, *widths) < 1:
            raise ValueError(f"blocks, widths: as many, from 1; given {tuple(blocks)}, {tuple(widths)}")
        if shortcut == "pool" and any(after < before for before, after in itertools.pairwise(widths)):
            raise ValueError(f"widths: must not shrink with shortcut 'pool', given {tuple(widths)}")
        self.in_channels = in_channels
        options = dict(freq=freq, stage=stage, binary_input=binary_input, sign_of_zero=sign_of_zero)
        side = dict(kernel_size=7, stride=2, padding=3) if stem == "imagenet" else dict(kernel_size=3, padding=1)
        self.stem = nn.Conv2d(in_channels, widths[0], bias=False, **side)  # type: ignore[arg-type]
        self.stem_norm = nn.BatchNorm2d(widths[0])
        activation = (nn.Hardtanh() if binary_input else nn.ReLU()) if stem_activation else nn.Identity()
        pool = nn.MaxPool2d(3, 2, 1) if stem == "imagenet" else nn.Identity()
        self.stem_end = nn.Sequential(activation, pool)
        before = [widths[0], *widths]
        self.groups = nn.ModuleList(
            nn.Sequential(
                *[
                    Block(before[group] if i == 0 else width, width, 2 if group and i == 0 else 1, shortcut, every_conv,
                          **options)
                    for i in range(count)
                ]
            )
            for group, (count, width) in enumerate(zip(blocks, widths, strict=True))
        )  # fmt: skip
        self.norm = nn.BatchNorm1d(widths[-1])
        self.head = nn.Linear(widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.constant_(module.weight, norm_weight)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Class scores."""
        check_shape("images", images, ("batch", self.in_channels, "height", "width"))
        x = self.stem_end(self.stem_norm(self.stem(images)))
        for group in self.groups:
            x = group(x)
        return self.head(self.norm(x.mean((-2, -1))))

    def load_official(self, state: Mapping[str, Tensor]) -> "BiPerResNet":
        """Take the authors' weights (`module.` before names, `tau` and `beta` are dropped); all must be there.

        Their files say neither the frequency nor the stage: give those of their training when building this network.

        Raises:
            ValueError: names or shapes are others.
        """
        renamed = [
            (r"^layer(\d+)\.", lambda m: f"groups.{int(m[1]) - 1}."),
            (r"^conv1\.", "stem."),
            (r"^bn1\.", "stem_norm."),
            (r"^bn2\.", "norm."),
            (r"^(fc|linear)\.", "head."),
            (r"\.bn(\d)\.", r".norm\1."),
            (r"\.downsample\.", ".shortcut."),
        ]
        return _load_official(self, state, renamed)

    @classmethod
    def example(cls) -> Example:
        """A small one, as after some training: its norms are not at their start."""
        model = cls(blocks=(1, 1), widths=(8, 16), num_classes=4)
        return Example(_lived_in(model), (torch.randn(3, 3, 8, 8),))


class BiPerVGG(nn.Module, Pretrained, tags=["binary-neural-network", "arxiv:2404.01278"]):
    """VGG-Small: a real convolution, periodic ones, each with a batch norm and hardtanh; pools before the norms.

    Args:
        widths: channels of the convolutions, the first one real.
        pooled: places in `widths` of the convolutions whose output is max-pooled, 2x2.
        side: of the square images, a multiple of 2 for each pool.
        num_classes, in_channels: of the output and of the images.
        freq, stage, sign_of_zero: of `BiPerConv2d`.
    """

    def __init__(
        self,
        widths: Sequence[int] = (128, 128, 256, 256, 512, 512),
        pooled: Sequence[int] = (1, 3, 5),
        side: int = 32,
        num_classes: int = 10,
        in_channels: int = 3,
        freq: float = 20.0,
        stage: int = 1,
        sign_of_zero: int = 1,
    ):
        super().__init__()
        if side < 1 or side % 2 ** len(pooled):
            raise ValueError(f"side: a multiple of {2 ** len(pooled)}, given {side}")
        self.in_channels, self.side, self.pooled = in_channels, side, frozenset(pooled)
        options = dict(freq=freq, stage=stage, sign_of_zero=sign_of_zero)
        first = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.convs = nn.ModuleList(
            [first, *(BiPerConv2d(a, b, 3, 1, 1, **options) for a, b in itertools.pairwise(widths))]  # type: ignore[arg-type]
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.head = nn.Linear(widths[-1] * (side // 2 ** len(pooled)) ** 2, num_classes)
        for conv, width in zip(self.convs, widths, strict=True):
            nn.init.normal_(conv.weight, std=(2 / (9 * width)) ** 0.5)  # type: ignore[arg-type]
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Class scores."""
        check_shape("images", images, ("batch", self.in_channels, self.side, self.side))
        x = images
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            x = F.hardtanh(norm(F.max_pool2d(x, 2) if place in self.pooled else x))
        return self.head(x.flatten(1))

    def load_official(self, state: Mapping[str, Tensor]) -> "BiPerVGG":
        """As `BiPerResNet.load_official`."""
        return _load_official(self, state, [(r"^conv", "convs."), (r"^bn", "norms."), (r"^fc\.", "head.")])

    @classmethod
    def example(cls) -> Example:
        """A small one, as after some training: its norms are not at their start."""
        model = cls(widths=(4, 6, 8), pooled=(1,), side=8, num_classes=3)
        return Example(_lived_in(model), (torch.randn(3, 3, 8, 8),))


@torch.no_grad()
def _lived_in(model: nn.Module) -> Any:
    """Batch norms with weights, biases and statistics drawn at random."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
    return model


def _load_official(model: Any, state: Mapping[str, Tensor], renamed: Sequence[tuple[str, Any]]) -> Any:
    ours = {name: value for name, value in model.state_dict().items() if not name.endswith("_extra_state")}
    taken: dict[str, Tensor] = {}
    for name, value in state.items():
        name = name.removeprefix("module.")
        if LEFT_OVER.search(name):
            continue
        for pattern, to in renamed:
            name = re.sub(pattern, to, name)
        taken[name] = value
    if set(taken) != set(ours):
        missing, unknown = sorted(ours.keys() - taken.keys()), sorted(taken.keys() - ours.keys())
        raise ValueError(f"state: expected the authors' names; missing {missing[:5]}, unknown {unknown[:5]}")
    for name, value in ours.items():
        check_shape(name, taken[name], tuple(value.shape))
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(taken[name])
    return model


@published_size(270_522)
def biper_resnet20(**changes: Any) -> BiPerResNet:
    """CIFAR: 3 groups of 3 blocks, a shortcut around every convolution; 267,264 weights are binary."""
    return BiPerResNet(**changes)


@published_size(270_522)
def biper_resnet20_w1a32(**changes: Any) -> BiPerResNet:
    """The same with real activations and ReLU."""
    given: dict[str, Any] = dict(binary_input=False)
    return BiPerResNet(**(given | changes))


def _cifar_resnet18(widths: Sequence[int], changes: Mapping[str, Any]) -> BiPerResNet:
    given: dict[str, Any] = dict(blocks=(2, 2, 2, 2), widths=widths, every_conv=False, stem_activation=False)
    return BiPerResNet(**(given | dict(changes)))


@published_size(11_005_002)
def biper_resnet18(**changes: Any) -> BiPerResNet:
    """CIFAR: 4 groups of 2 blocks, a shortcut around each block; 10,985,472 weights are binary."""
    return _cifar_resnet18((64, 128, 256, 512), changes)


@published_size(724_394)
def biper_resnet18a(**changes: Any) -> BiPerResNet:
    """CIFAR, widths 32, 32, 64, 128."""
    return _cifar_resnet18((32, 32, 64, 128), changes)


@published_size(2_756_138)
def biper_resnet18b(**changes: Any) -> BiPerResNet:
    """CIFAR, widths 32, 64, 128, 256."""
    return _cifar_resnet18((32, 64, 128, 256), changes)


@published_size(2_886_474)
def biper_resnet18c(**changes: Any) -> BiPerResNet:
    """CIFAR, widths 64, 64, 128, 256."""
    return _cifar_resnet18((64, 64, 128, 256), changes)


@published_size(4_661_770)
def biper_vgg_small(**changes: Any) -> BiPerVGG:
    """CIFAR; 4,571,136 weights are binary."""
    return BiPerVGG(**changes)


def _imagenet_resnet(blocks: Sequence[int], changes: Mapping[str, Any]) -> BiPerResNet:
    given: dict[str, Any] = dict(blocks=blocks, widths=(64, 128, 256, 512), num_classes=1000, stem="imagenet",
                                 shortcut="conv", norm_weight=1e-8)  # fmt: skip
    return BiPerResNet(**(given | dict(changes)))


@published_size(11_694_376)
def biper_resnet18_imagenet(**changes: Any) -> BiPerResNet:
    """ImageNet; 10,985,472 weights are binary."""
    return _imagenet_resnet((2, 2, 2, 2), changes)


@published_size(21_806_248)
def biper_resnet34_imagenet(**changes: Any) -> BiPerResNet:
    """ImageNet; 21,086,208 weights are binary."""
    return _imagenet_resnet((3, 4, 6, 3), changes)


NAMED_SIZES: dict[str, Callable[..., nn.Module]] = {
    build.__name__: build
    for build in (biper_resnet20, biper_resnet20_w1a32, biper_resnet18, biper_resnet18a, biper_resnet18b,
                  biper_resnet18c, biper_vgg_small, biper_resnet18_imagenet, biper_resnet34_imagenet)
}  # fmt: skip
