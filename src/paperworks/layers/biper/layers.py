"""Binary layers with a periodic weight (BiPer, arXiv 2404.01278, sections 3.1 to 3.3). Authors' code: edmav4/BiPer.

A latent weight w is seen through a sine of frequency omega. Both stages see binary activations:

    stage 1   s(w) = sin(omega w)         real weights between -1 and 1
    stage 2   q(w) = sign(sin(omega w))   one bit; the gradient is that of the sine, omega cos(omega w)

    output = alpha * conv(sign(x), s or q),    one alpha per output channel

In training x is divided by its standard deviation, sample by sample, before the sign; the sign's gradient is the
polynomial one of Bi-Real Net. The forward pass does not see that division.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn import check_shape
from paperworks.nn.straight_through import binary_sign, scaled_sign, sign, square_wave

STAGES = (1, 2)


def biper_weight(w: Tensor, freq: float = 20.0, stage: int = 2, sign_of_zero: int = 1) -> Tensor:
    """The weight that a layer multiplies with: the sine of stage 1 or the square wave of stage 2.

    Raises:
        ValueError: another stage.
    """
    if stage not in STAGES:
        raise ValueError(f"stage: 1 (sine) or 2 (square wave), given {stage}")
    return torch.sin(freq * w) if stage == 1 else square_wave(w, freq, of_zero=sign_of_zero)


def binary_activation(x: Tensor, dims: tuple[int, ...], training: bool, sign_of_zero: int = 1) -> Tensor:
    """The sign of x with Bi-Real Net's gradient, in training of x over its standard deviation along `dims`."""
    if training:
        return scaled_sign(x, dims, "polynomial", of_zero=sign_of_zero)
    return binary_sign(x, "polynomial", of_zero=sign_of_zero)


class BiPerConv2d(nn.Module):
    """A 2-D convolution of binary activations with periodic weights. The frequency and the stage are in its state.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as in
            `nn.Conv2d`; the bias is added before the scale, as in the authors' code.
        freq: omega; a latent weight's period is 2 pi / omega.
        stage: 1 or 2; `set_stage` changes it.
        scale: whether there is an alpha for each output channel, drawn uniformly from [0, 1).
        binary_input: False keeps the activations real (W1A32), and does not divide them.
        sign_of_zero: what an exact zero becomes; the authors' code has 0, a third level.
        border: what zero padding puts around the signs: 0, or -1 or 1 for a strictly binary product.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: str = "zeros",
        *,
        freq: float = 20.0,
        stage: int = 1,
        scale: bool = True,
        binary_input: bool = True,
        sign_of_zero: int = 1,
        border: float = 0.0,
    ):
        super().__init__()
        _check(freq, stage, sign_of_zero)
        if border not in (-1, 0, 1):
            raise ValueError(f"border: -1, 0 or 1, given {border}")
        # nn.Conv2d checks these and brings them into form; its weights are never made
        form = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, False,
                         padding_mode, device="meta")  # type: ignore[arg-type]  # fmt: skip
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride, self.padding = form.kernel_size, form.stride, form.padding
        self.dilation, self.padding_mode = form.dilation, padding_mode
        self._pads = list(form._reversed_padding_repeated_twice)
        self.freq, self.stage, self.binary_input = float(freq), stage, binary_input
        self.sign_of_zero, self.border = sign_of_zero, float(border)
        self.weight = nn.Parameter(torch.empty(form.weight.shape))
        nn.init.kaiming_normal_(self.weight)
        self.alpha = nn.Parameter(torch.rand(out_channels, 1, 1)) if scale else None
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None

    def forward(self, x: Float[Tensor, "*batch channels height width"]) -> Float[Tensor, "*batch out high wide"]:
        """The convolution, scaled."""
        check_shape("x", x, ("...", self.in_channels, "height", "width"))
        if self.binary_input:
            x = binary_activation(x, (-3, -2, -1), self.training, self.sign_of_zero)
        out = self.convolve(x, biper_weight(self.weight, self.freq, self.stage, self.sign_of_zero))
        # not inside the convolution, which may begin its sum with it: sums of signs stay exact
        out = out if self.bias is None else out + self.bias.view(-1, 1, 1)
        return out if self.alpha is None else out * self.alpha

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """The plain convolution of activations that are binary already."""
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._pads, mode=self.padding_mode), 0
        elif self.border and any(self._pads):
            x, padding = F.pad(x, self._pads, value=self.border), 0
        return F.conv2d(x, weight, None, self.stride, padding, self.dilation, self.groups)

    def get_extra_state(self) -> Tensor:
        """The frequency and the stage, so that weights are never read with another."""
        return torch.tensor([self.freq, self.stage], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the frequency and the stage of saved weights."""
        self.freq, self.stage = _saved(state)

    def extra_repr(self) -> str:
        """What is printed."""
        return (f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
                f"padding={self.padding}, freq={self.freq:g}, stage={self.stage}")  # fmt: skip


class BiPerLinear(nn.Module):
    """A linear layer of binary activations with periodic weights; the deviation is taken over the features of a row.

    The paper has convolutions only; see `BiPerConv2d` for the arguments.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        freq: float = 20.0,
        stage: int = 1,
        scale: bool = True,
        binary_input: bool = True,
        sign_of_zero: int = 1,
    ):
        super().__init__()
        _check(freq, stage, sign_of_zero)
        if in_features < 2 or out_features < 1:
            raise ValueError(f"in_features: at least 2, out_features at least 1; given {in_features}, {out_features}")
        self.in_features, self.out_features = in_features, out_features
        self.freq, self.stage, self.binary_input = float(freq), stage, binary_input
        self.sign_of_zero = sign_of_zero
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_normal_(self.weight)
        self.alpha = nn.Parameter(torch.rand(out_features)) if scale else None
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch out"]:
        """The product, scaled."""
        check_shape("x", x, ("...", self.in_features))
        if self.binary_input:
            x = binary_activation(x, (-1,), self.training, self.sign_of_zero)
        out = F.linear(x, biper_weight(self.weight, self.freq, self.stage, self.sign_of_zero))
        out = out if self.bias is None else out + self.bias
        return out if self.alpha is None else out * self.alpha

    get_extra_state = BiPerConv2d.get_extra_state
    set_extra_state = BiPerConv2d.set_extra_state

    def extra_repr(self) -> str:
        """What is printed."""
        return f"{self.in_features}, {self.out_features}, freq={self.freq:g}, stage={self.stage}"


def _check(freq: float, stage: int, sign_of_zero: int) -> None:
    if not (math.isfinite(freq) and freq > 0):
        raise ValueError(f"freq: a number above 0, given {freq}")
    if stage not in STAGES:
        raise ValueError(f"stage: 1 (sine) or 2 (square wave), given {stage}")
    if sign_of_zero not in (0, 1):
        raise ValueError(f"sign_of_zero: 0 or 1, given {sign_of_zero}")


def _saved(state: Any) -> tuple[float, int]:
    check_shape("the saved frequency and stage", state, (2,))
    freq, stage = state.tolist()
    _check(freq, int(stage), 1)
    return float(freq), int(stage)


def binary_layers(model: nn.Module) -> Iterator[tuple[str, BiPerConv2d | BiPerLinear]]:
    """Name and layer of every periodic layer of a network."""
    for name, module in model.named_modules():
        if isinstance(module, BiPerConv2d | BiPerLinear):
            yield name, module


def set_stage(model: nn.Module, stage: int) -> nn.Module:
    """Put every periodic layer into stage 1 (sine) or 2 (square wave); the weights stay as they are.

    Raises:
        ValueError: another stage, or no such layer.
    """
    if stage not in STAGES:
        raise ValueError(f"stage: 1 (sine) or 2 (square wave), given {stage}")
    layers = [layer for _, layer in binary_layers(model)]
    if not layers:
        raise ValueError("model: no BiPerConv2d or BiPerLinear in it; binarize(model) puts them there")
    for layer in layers:
        layer.stage = stage
    return model


def biper_regularizer(model: nn.Module, tau: float = 1.0) -> Tensor:
    """tau times the sum over periodic layers of the mean of sin(omega w)^2, as in the authors' CIFAR code.

    It pulls the sine to 0: a weight decay of the effective weight. A sum of means, it grows with depth, not size.
    """
    means = [torch.sin(layer.freq * layer.weight).square().mean() for _, layer in binary_layers(model)]
    if not means:
        raise ValueError("model: no BiPerConv2d or BiPerLinear in it; binarize(model) puts them there")
    return tau * torch.stack(means).sum()


@torch.no_grad()
def binary_weight(layer: BiPerConv2d | BiPerLinear) -> Tensor:
    """The weights of -1 and +1 that a layer has in stage 2, whatever its stage is now."""
    return sign(torch.sin(layer.freq * layer.weight), layer.sign_of_zero)
