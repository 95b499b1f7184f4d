"""Spiking networks trained by surrogate gradients through time (arXiv 1804.08150, Section 3), with the loss that asks
for few spikes, and a table of what networks cost.

The review names no architecture of its own; the sizes below are those that its field measures itself on: a perceptron
for 8 x 8 digits, 784-1000-10, and convolutions of 12 and 64 channels before a linear layer.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.measure import EnergyPerOperation, SynapticWork, count_synaptic_work
from paperworks.measure.energy import repeated
from paperworks.nn import Example, Pretrained, check_shape, published_size

from .encode import ENCODINGS, encode, fixed_draws, rate
from .neurons import LIF, LeakyReadout

READOUTS = ("membrane", "count")


class SpikingMLP(nn.Module, Pretrained):
    """Linear layers with LIF neurons between them: (batch, in) in [0, 1] -> logits (batch, out).

    Args:
        widths: of the input, the hidden layers and the output.
        steps: time steps T.
        encoding: `rate` (a draw each step; in evaluation the same draws for every row), `latency`, or `direct` (the
            values themselves as a constant current, with which the first layer costs multiplications every step).
        beta, threshold, reset, surrogate, detach_reset: of the neurons, see `LIF`.
        readout: `membrane` (mean over time of a leaky integrator) or `count` (spikes of output neurons).
    """

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 10),
        steps: int = 4,
        encoding: str = "direct",
        *,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset: str = "subtract",
        surrogate: str = "atan",
        detach_reset: bool = False,
        readout: str = "membrane",
        bias: bool = True,
    ):
        super().__init__()
        widths = tuple(widths)
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths: at least two numbers above 0 expected, given {widths}")
        self.widths, self.steps, self.encoding = widths, *_chosen(steps, encoding)
        self.register_buffer("draws", _draws(self.steps, encoding, (widths[0],)), persistent=False)
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out, bias=bias) for n_in, n_out in itertools.pairwise(widths))
        neuron: dict[str, Any] = dict(reset=reset, surrogate=surrogate, detach_reset=detach_reset)
        self.neurons = nn.ModuleList(LIF(beta, threshold, **neuron) for _ in widths[1:-1])
        self.readout = _readout(readout, beta, threshold, neuron)
        initialise(self)

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.run(x)[0]

    def run(
        self, x: Float[Tensor, "batch inputs"], generator: torch.Generator | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the spikes (steps, batch, width) of every hidden layer.

        `generator` draws the rate code; without one, training takes torch's and evaluation the same draws every time.
        """
        check_shape("x", x, ("batch", self.widths[0]))
        return _run(self, x, generator)

    def run_spikes(self, spikes: Float[Tensor, "steps batch inputs"]) -> tuple[Tensor, list[Tensor]]:
        """As `run`, of spikes that are there already: events of a sensor, over any number of steps."""
        check_shape("spikes", spikes, ("steps", "batch", self.widths[0]))
        return _through(self, _current(self.layers[0], spikes))

    @classmethod
    def example(cls) -> Example:
        """Six inputs, three classes."""
        return Example(cls((6, 16, 12, 3), steps=5, threshold=0.5), (torch.rand(3, 6),))


class SpikingConvNet(nn.Module, Pretrained):
    """Convolutions with LIF neurons, then a linear layer: images (batch, channels, height, width) -> logits.

    Each convolution's current is averaged over 2 x 2 before the neurons, so that what travels on are single spikes.
    Other arguments as in `SpikingMLP`.
    """

    def __init__(
        self,
        in_shape: Sequence[int] = (1, 28, 28),
        channels: Sequence[int] = (12, 64),
        num_classes: int = 10,
        steps: int = 4,
        encoding: str = "direct",
        *,
        kernel_size: int = 5,
        padding: int = 0,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset: str = "subtract",
        surrogate: str = "atan",
        detach_reset: bool = False,
        readout: str = "membrane",
    ):
        super().__init__()
        if len(in_shape) != 3 or not channels:
            raise ValueError(f"in_shape: (channels, height, width) expected, given {tuple(in_shape)}")
        self.in_shape, self.steps, self.encoding = tuple(in_shape), *_chosen(steps, encoding)
        self.register_buffer("draws", _draws(self.steps, encoding, self.in_shape), persistent=False)
        neuron: dict[str, Any] = dict(reset=reset, surrogate=surrogate, detach_reset=detach_reset)
        n_in, height, width = self.in_shape
        self.layers, self.neurons = nn.ModuleList(), nn.ModuleList()
        for n_out in channels:
            self.layers.append(nn.Conv2d(n_in, n_out, kernel_size, padding=padding))
            self.neurons.append(LIF(beta, threshold, **neuron))
            n_in = n_out
            height, width = ((side + 2 * padding - kernel_size + 1) // 2 for side in (height, width))
            if height < 1 or width < 1:
                raise ValueError(
                    f"in_shape: {self.in_shape} is too small for {len(channels)} convolutions of this kernel"
                )
        self.layers.append(nn.Linear(n_in * height * width, num_classes))
        self.readout = _readout(readout, beta, threshold, neuron)
        initialise(self)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.run(x)[0]

    def run(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, list[Tensor]]:
        """Logits, and the spikes (steps, batch, channels, height, width) of every hidden layer."""
        check_shape("x", x, ("batch", *self.in_shape))
        return _run(self, x, generator)

    def run_spikes(self, spikes: Float[Tensor, "steps batch channels height width"]) -> tuple[Tensor, list[Tensor]]:
        """As `run`, of spikes that are there already: events of a sensor, over any number of steps."""
        check_shape("spikes", spikes, ("steps", "batch", *self.in_shape))
        return _through(self, _current(self.layers[0], spikes))

    @classmethod
    def example(cls) -> Example:
        """8 x 8 images of one channel, two convolutions."""
        return Example(
            cls((1, 8, 8), (4, 6), 3, steps=5, kernel_size=3, padding=1, threshold=0.5), (torch.rand(3, 1, 8, 8),)
        )


Spiking = SpikingMLP | SpikingConvNet


def _chosen(steps: int, encoding: str) -> tuple[int, str]:
    if steps < 1:
        raise ValueError(f"steps: at least 1 expected, given {steps}")
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding: one of {', '.join(ENCODINGS)} expected, given {encoding!r}")
    return steps, encoding


def _draws(steps: int, encoding: str, shape: Sequence[int]) -> Tensor | None:
    return fixed_draws(steps, shape) if encoding == "rate" else None


def _readout(readout: str, beta: float, threshold: float, neuron: Mapping[str, Any]) -> nn.Module:
    if readout not in READOUTS:
        raise ValueError(f"readout: one of {', '.join(READOUTS)} expected, given {readout!r}")
    return LeakyReadout(beta) if readout == "membrane" else LIF(beta, threshold, **neuron)


def initialise(net: nn.Module) -> None:
    """He's normal weights, zero biases: with torch's smaller default the deeper neurons would hardly fire."""
    for layer in net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _run(net: Any, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, list[Tensor]]:
    if net.encoding == "direct":
        with repeated(net.steps):  # the same product at every step, of which ours is computed once
            current = _current(net.layers[0], x[None])
        current = current.expand(net.steps, *current.shape[1:])
    else:
        current = _current(net.layers[0], _encoded(net, x, generator))
    return _through(net, current)


def _through(net: Any, current: Tensor) -> tuple[Tensor, list[Tensor]]:
    spikes: list[Tensor] = []
    for neuron, layer in zip(net.neurons, net.layers[1:], strict=True):
        spikes.append(neuron(current))
        current = _current(layer, spikes[-1])
    logits = net.readout(current)
    return (logits if isinstance(net.readout, LeakyReadout) else logits.sum(0)), spikes


def _encoded(net: Any, x: Tensor, generator: torch.Generator | None) -> Tensor:
    if net.encoding == "rate" and generator is None and not net.training:
        return rate(x, net.steps, draws=net.draws)
    return encode(x, net.steps, net.encoding, generator)


def _current(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer applied to all steps at once: (steps, batch, ...) -> (steps, batch, ...)."""
    if isinstance(layer, nn.Linear):
        return layer(x.flatten(2))  # type: ignore[no-any-return]
    return F.avg_pool2d(layer(x.flatten(0, 1)), 2).unflatten(0, x.shape[:2])


@published_size(9_472)
def spiking_mlp_digits(**changes: Any) -> SpikingMLP:
    """64-128-10 without biases, for 8 x 8 digits: as many weights as its ANN takes multiplications."""
    return SpikingMLP(**({"widths": (64, 128, 10), "bias": False} | changes))


@published_size(795_010)
def spiking_mlp_mnist(**changes: Any) -> SpikingMLP:
    """784-1000-10."""
    return SpikingMLP(**({"widths": (784, 1000, 10), "steps": 25} | changes))


@published_size(29_826)
def spiking_conv_mnist(**changes: Any) -> SpikingConvNet:
    """12C5-P2-64C5-P2-10."""
    return SpikingConvNet(**({"in_shape": (1, 28, 28), "channels": (12, 64), "steps": 25} | changes))


def spiking_loss(model: Spiking, batch: tuple[Tensor, ...], *, penalty: float = 0.0, target: float = 0.05) -> Tensor:
    """Cross-entropy, plus `penalty` times the mean over hidden layers of (firing rate - target)^2, rate a step."""
    x, y = batch
    logits, spikes = model.run(x)
    loss = F.cross_entropy(logits, y)
    if penalty and spikes:
        rates = torch.stack([each.mean() for each in spikes])
        loss = loss + penalty * (rates - target).square().mean()
    return loss


def relu_network(net: Spiking) -> nn.Sequential:
    """The same layers with ReLUs in place of the neurons, freshly initialised: the ANN to hold a network against."""
    modules: list[nn.Module] = []
    for number, layer in enumerate(net.layers):
        if isinstance(layer, nn.Linear):
            modules += [nn.Flatten(), nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)]
        else:
            assert isinstance(layer, nn.Conv2d)
            size: Any = layer.kernel_size
            padding: Any = layer.padding
            modules += [nn.Conv2d(layer.in_channels, layer.out_channels, size, padding=padding), nn.AvgPool2d(2)]
        if number + 1 < len(net.layers):
            modules.append(nn.ReLU())
    made = nn.Sequential(*modules)
    initialise(made)
    return made


def cost(net: nn.Module, x: Tensor) -> SynapticWork:
    """Operations of one sample, averaged over the rows of `x`, of an ANN or a spiking network in evaluation."""
    training = net.training
    net.eval()
    try:
        return count_synaptic_work(net, x, samples=len(x))
    finally:
        net.train(training)


@torch.no_grad()
def side_by_side(
    networks: Mapping[str, nn.Module], x: Tensor, y: Tensor, per: EnergyPerOperation = EnergyPerOperation()
) -> list[dict[str, Any]]:
    """Accuracy, operations and energy of networks on the same rows, one dict each.

    `macs` are dense, and at every step; `nanojoules` leaves neuron updates out, which `nanojoules_with_updates` holds;
    `nanojoules_skipping` and `skipping_macs` are those of hardware that skips inputs of zero.
    """
    rows = []
    for name, net in networks.items():
        work, training = cost(net, x), net.training
        accuracy = float((net.eval()(x).argmax(1) == y).float().mean())
        net.train(training)
        rows.append({
            "network": name, "accuracy": accuracy, "macs": work.macs, "skipping_macs": work.skipping_macs,
            "synaptic_operations": work.synaptic_operations, "neuron_updates": work.neuron_updates,
            "nanojoules": work.nanojoules(per), "nanojoules_skipping": work.nanojoules(per, skip_zeros=True),
            "nanojoules_with_updates": work.nanojoules(per, updates=True),
        })  # fmt: skip
    return rows
