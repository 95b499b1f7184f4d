"""Bidirectional networks (arXiv 1805.08006): one set of weights that classifies and, transposed, generates.

A `TiedLinear` or `TiedConv` layer holds one weight and two biases; `forward` goes from input to label, `transposed`
back. `BidirectionalNet` stacks them; `Discriminator` is the separate judge of hybrid adversarial networks. Sizes are
those of the authors' scripts.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn import Example, Pretrained, check_shape, published_size

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "tanh": torch.tanh,
}
NORM = dict(eps=1e-5, momentum=0.1)  # TensorFlow's decay of 0.9


class TiedLinear(nn.Module):
    """`forward`: x W + b_c; `transposed`: h W^T + b_g. The weight (in, out) is shared, the biases are not."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))  # as torch.nn.Linear keeps it
        self.classifier_bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.generator_bias = nn.Parameter(torch.zeros(n_in)) if bias else None
        self.fan_in, self.in_shape, self.out_shape = n_in, (n_in,), (n_out,)

    def forward(self, x: Float[Tensor, "batch n_in"]) -> Float[Tensor, "batch n_out"]:
        """Towards the label."""
        return F.linear(x, self.weight, self.classifier_bias)

    def transposed(self, h: Float[Tensor, "batch n_out"]) -> Float[Tensor, "batch n_in"]:
        """Towards the input."""
        return F.linear(h, self.weight.t(), self.generator_bias)


class TiedConv(nn.Module):
    """A strided convolution that keeps ceil(size / stride) places, and its adjoint with the same kernel.

    Padding is TensorFlow's SAME: an odd number of zeros puts the extra one behind (kernel 5, stride 2: 1 and 2).
    """

    def __init__(self, in_shape: Sequence[int], n_out: int, kernel: int, stride: int, bias: bool = True):
        super().__init__()
        n_in, height, width = in_shape
        self.weight = nn.Parameter(torch.empty(n_out, n_in, kernel, kernel))
        self.classifier_bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.generator_bias = nn.Parameter(torch.zeros(n_in)) if bias else None
        self.stride, self.fan_in = stride, n_in * kernel**2
        self.in_shape = (n_in, height, width)
        self.out_shape = (n_out, math.ceil(height / stride), math.ceil(width / stride))
        self.pads = [self._pads(size, kernel, stride) for size in (height, width)]  # (before, after) of each axis

    @staticmethod
    def _pads(size: int, kernel: int, stride: int) -> tuple[int, int]:
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2

    def forward(self, x: Float[Tensor, "batch n_in height width"]) -> Float[Tensor, "batch n_out rows columns"]:
        """Towards the label."""
        (top, bottom), (left, right) = self.pads
        if (top, left) == (bottom, right):
            return F.conv2d(x, self.weight, self.classifier_bias, self.stride, (top, left))
        return F.conv2d(F.pad(x, (left, right, top, bottom)), self.weight, self.classifier_bias, self.stride)

    def transposed(self, h: Float[Tensor, "batch n_out rows columns"]) -> Float[Tensor, "batch n_in height width"]:
        """Towards the input: every place is written where it was read from, into the input's own size."""
        (top, bottom), (left, right) = self.pads
        _, height, width = self.in_shape
        if (top, left) == (bottom, right):
            # a kernel smaller than its stride reads nothing of the last places
            unread = [
                size - (count - 1) * self.stride - self.weight.shape[2] + 2 * pad
                for size, count, pad in ((height, h.shape[2], top), (width, h.shape[3], left))
            ]
            return F.conv_transpose2d(h, self.weight, self.generator_bias, self.stride, (top, left), unread)
        whole = F.conv_transpose2d(h, self.weight, None, self.stride)
        whole = F.pad(whole, (-left, width + left - whole.shape[3], -top, height + top - whole.shape[2]))
        return whole if self.generator_bias is None else whole + self.generator_bias[:, None, None]


def initialise(layers: Sequence["TiedLinear | TiedConv"], std: float | None) -> None:
    """Normal weights cut at two standard deviations; None: sqrt(2 / fan_in), which the authors call Xavier's."""
    for layer in layers:
        size = math.sqrt(2 / layer.fan_in) if std is None else std
        nn.init.trunc_normal_(layer.weight, std=size, a=-2 * size, b=2 * size)


def tied_layers(
    in_shape: Sequence[int], convolutions: Sequence[Sequence[int]], widths: Sequence[int], bias: bool
) -> list[TiedLinear | TiedConv]:
    """Convolutions (channels, kernel, stride), then linear layers of these widths."""
    layers: list[TiedLinear | TiedConv] = []
    shape = tuple(in_shape)
    for channels, kernel, stride in convolutions:
        layers.append(TiedConv(shape, channels, kernel, stride, bias))
        shape = layers[-1].out_shape
    for n_in, n_out in itertools.pairwise([math.prod(shape), *widths]):
        layers.append(TiedLinear(n_in, n_out, bias))
    return layers


class BidirectionalNet(nn.Module, Pretrained):
    """A classifier whose weights, transposed, are a generator.

    Args:
        in_shape: of one input: (features,) or (channels, height, width).
        num_classes: also the width of the generator's input.
        hidden: widths of hidden linear layers.
        convolutions: (channels, kernel, stride) of convolutions before them.
        activation: of hidden layers of the classifier's linear part and of the generator.
        conv_activation: of the classifier's convolutions; default: `activation`.
        bias: False: neither direction has biases, and batch norms do not scale or shift.
        classifier_norms: places of layers that the classifier follows by a batch norm, from the input, from 0.
        generator_norms: the same for the generator, places of layers whose transposed output is normalised.
        std: of the initial weights; None: sqrt(2 / fan_in).
    """

    exempt: ClassVar[dict[str, str]] = {
        "gradients": "forward classifies; the generator's biases and norms serve the other direction only"
    }

    def __init__(
        self,
        in_shape: Sequence[int] = (64,),
        num_classes: int = 10,
        hidden: Sequence[int] = (),
        convolutions: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        conv_activation: str | None = None,
        bias: bool = True,
        classifier_norms: Sequence[int] = (),
        generator_norms: Sequence[int] = (),
        std: float | None = None,
    ):
        super().__init__()
        self.in_shape, self.num_classes = tuple(in_shape), num_classes
        if not convolutions and len(self.in_shape) not in (1, 3):
            raise ValueError(f"in_shape: (features,) or (channels, height, width), given {self.in_shape}")
        if convolutions and len(self.in_shape) != 3:
            raise ValueError(f"in_shape: convolutions need (channels, height, width), given {self.in_shape}")
        for name in (activation, conv_activation or activation):
            if name not in ACTIVATIONS:
                raise ValueError(f"activation {name!r}: one of {', '.join(ACTIVATIONS)}")
        self.activation = ACTIVATIONS[activation]
        self.conv_activation = ACTIVATIONS[conv_activation or activation]
        self.convolutions = len(convolutions)
        layers = tied_layers(self.in_shape, convolutions, (*hidden, num_classes), bias)
        self.layers, last = nn.ModuleList(layers), len(layers) - 1
        for name, places, outer in (
            ("classifier_norms", classifier_norms, last),
            ("generator_norms", generator_norms, 0),
        ):
            if any(not 0 <= place <= last or place == outer for place in places):
                raise ValueError(f"{name}: hidden places of {last + 1} layers, given {tuple(places)}")
        self.classifier_norms = nn.ModuleDict(
            {str(place): _norm(layers[place].out_shape, bias) for place in classifier_norms}
        )
        self.generator_norms = nn.ModuleDict(
            {str(place): _norm(layers[place].in_shape, bias) for place in generator_norms}
        )
        initialise(layers, std)

    @classmethod
    def example(cls) -> Example:
        """Two convolutions and two linear layers, with the norms of the published network."""
        net = cls(
            (1, 8, 8), 3, hidden=(12,), convolutions=((4, 4, 2), (6, 4, 2)), conv_activation="leaky_relu",
            classifier_norms=(1,), generator_norms=(3, 2),
        )  # fmt: skip
        return Example(net, (torch.rand(5, 1, 8, 8),))

    def forward(self, x: Float[Tensor, "batch *in_shape"]) -> Float[Tensor, "batch classes"]:
        """Logits of the classes."""
        check_shape("x", x, ("batch", *self.in_shape))
        h = x if self.convolutions else x.flatten(1)
        last = len(self.layers) - 1
        for place, layer in enumerate(self.layers):
            if place == self.convolutions:
                h = h.flatten(1)
            h = layer(h)
            if str(place) in self.classifier_norms:
                h = self.classifier_norms[str(place)](h)
            if place < last:
                h = (self.conv_activation if place < self.convolutions else self.activation)(h)
        return h

    classify = forward

    def generate(self, v: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch *in_shape"]:
        """Logits of pixels (a sigmoid gives an image), from one-hot labels or noise: the same weights transposed."""
        check_shape("v", v, ("batch", self.num_classes))
        h = v
        for place in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[place]
            h = layer.transposed(h)  # type: ignore[operator]
            if str(place) in self.generator_norms:
                h = self.generator_norms[str(place)](h)
            if place == self.convolutions and place > 0:
                h = h.unflatten(1, self.layers[place - 1].out_shape)  # type: ignore[arg-type]
            if place > 0:
                h = self.activation(h)
        return h.unflatten(1, self.in_shape) if h.shape[1:] != self.in_shape else h

    def weights(self) -> list[nn.Parameter]:
        """The shared weights W."""
        return [layer.weight for layer in self.layers]  # type: ignore[misc]

    def classifier_parameters(self) -> list[nn.Parameter]:
        """W with the classifier's biases and norms: what its optimiser steps."""
        own = [p for name, p in self.named_parameters() if "classifier_" in name]
        return self.weights() + own

    def generator_parameters(self) -> list[nn.Parameter]:
        """W with the generator's biases and norms."""
        return self.weights() + [p for name, p in self.named_parameters() if "generator_" in name]


def _norm(shape: Sequence[int], affine: bool) -> nn.Module:
    """Batch norm over channels of images, or over units."""
    return (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[0], affine=affine, **NORM)  # type: ignore[arg-type]


class Discriminator(nn.Module, Pretrained):
    """Tells images from generated ones: a network of its own, of the classifier's form with one output.

    Args:
        in_shape, hidden, convolutions, std: as in `BidirectionalNet`.
        activation: of all hidden layers.
        norms: places of layers followed by a batch norm, which always scales and shifts. It is used in training mode
            only, on real and on generated batches separately.
    """

    def __init__(
        self,
        in_shape: Sequence[int] = (64,),
        hidden: Sequence[int] = (128,),
        convolutions: Sequence[Sequence[int]] = (),
        activation: str = "relu",
        norms: Sequence[int] = (),
        std: float | None = None,
    ):
        super().__init__()
        self.in_shape, self.convolutions, self.activation = tuple(in_shape), len(convolutions), ACTIVATIONS[activation]
        layers = tied_layers(self.in_shape, convolutions, (*hidden, 1), bias=True)
        for layer in layers:
            layer.register_parameter("generator_bias", None)  # it is never transposed
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleDict({str(place): _norm(layers[place].out_shape, True) for place in norms})
        initialise(layers, std)

    @classmethod
    def example(cls) -> Example:
        """A convolution and two linear layers."""
        net = cls((1, 8, 8), (12,), ((4, 4, 2),), activation="leaky_relu", norms=(0,))
        return Example(net, (torch.rand(5, 1, 8, 8),))

    def forward(self, x: Float[Tensor, "batch *in_shape"]) -> Float[Tensor, "batch 1"]:
        """Logit of being real."""
        check_shape("x", x, ("batch", *self.in_shape))
        h = x if self.convolutions else x.flatten(1)
        for place, layer in enumerate(self.layers):
            if place == self.convolutions:
                h = h.flatten(1)
            h = layer(h)
            if str(place) in self.norms:
                h = self.norms[str(place)](h)
            if place < len(self.layers) - 1:
                h = self.activation(h)
        return h


# Sizes of the authors' scripts, counted in both directions; the classifier alone has the number given in brackets.

TWO_CONV = ((64, 4, 2), (128, 4, 2))


@published_size(7_840 + 10 + 784)
def mnist_no_hidden() -> BidirectionalNet:
    """784-10 (7,850)."""
    return BidirectionalNet((784,), std=0.1)


@published_size(12_704 + 26 + 800)
def mnist_one_hidden() -> BidirectionalNet:
    """784-16-10, sigmoid (12,730)."""
    return BidirectionalNet((784,), hidden=(16,), activation="sigmoid", std=0.1)


@published_size(12_960 + 42 + 816)
def mnist_two_hidden() -> BidirectionalNet:
    """784-16-16-10, sigmoid (13,002)."""
    return BidirectionalNet((784,), hidden=(16, 16), activation="sigmoid", std=0.1)


@published_size(184_900 + 400 + 1_174)
def mnist_four_hidden() -> BidirectionalNet:
    """784-200-100-60-30-10, sigmoid (185,300)."""
    return BidirectionalNet((784,), hidden=(200, 100, 60, 30), activation="sigmoid", std=0.1)


@published_size(122_036 + 234 + 1 + 4 + 8 + 588 + 200)
def mnist_three_conv() -> BidirectionalNet:
    """Kernels 5, 5, 4 of 4, 8, 12 channels, then 200 units (122,270)."""
    return BidirectionalNet((1, 28, 28), hidden=(200,), convolutions=((4, 5, 1), (8, 5, 2), (12, 4, 2)), std=0.1)


@published_size(101_632 + 138 + 912)
def mnist_gan_one_hidden(bias: bool = True) -> BidirectionalNet:
    """784-128-10, ReLU: the classifier and generator of a hybrid adversarial network (101,770)."""
    return BidirectionalNet((784,), hidden=(128,), bias=bias)


@published_size(6_564_864 + 1_226 + 256 + 7_361 + 14_592)
def mnist_gan_two_conv(bias: bool = True) -> BidirectionalNet:
    """Two convolutions and 1,024 units with batch norms: the network of the headline result (6,566,346)."""
    return BidirectionalNet(
        (1, 28, 28), hidden=(1024,), convolutions=TWO_CONV, conv_activation="leaky_relu", bias=bias,
        classifier_norms=(1,), generator_norms=(3, 2), std=0.02,
    )  # fmt: skip


@published_size(100_609)
def mnist_discriminator_one_hidden() -> Discriminator:
    """784-128-1, ReLU."""
    return Discriminator((784,), (128,))


@published_size(6_557_121)
def mnist_discriminator_two_conv() -> Discriminator:
    """The same trunk as `mnist_gan_two_conv`, leaky everywhere."""
    return Discriminator((1, 28, 28), (1024,), TWO_CONV, "leaky_relu", norms=(1,), std=0.02)
