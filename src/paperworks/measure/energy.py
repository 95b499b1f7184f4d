"""What a network costs on hardware that skips zeros: synaptic operations, multiply-accumulates, neuron updates, energy.

The counts of the spiking literature (reviewed in arXiv 1804.08150), for any network of linear and convolution layers:
an input spike costs one accumulate for every synapse it reaches, counted exactly at the borders of a convolution; a
dense layer costs one multiply-accumulate (MAC) a weight and position; a layer that skips zeros costs a MAC for every
synapse that a non-zero input reaches. Energies are those of 32-bit floats at 45 nm (M. Horowitz, ISSCC 2014), which
leave out every access to memory; wall-clock on a CPU or GPU does not follow them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_updates: ContextVar[list[float] | None] = ContextVar("neuron_updates", default=None)
_repeats: ContextVar[int] = ContextVar("repeats", default=1)


@dataclass(frozen=True)
class EnergyPerOperation:
    """Picojoules of one operation: multiply-accumulate, accumulate, and a neuron's update (a MAC by default)."""

    mac: float = 4.6
    accumulate: float = 0.9
    update: float = 4.6


@dataclass
class SynapticWork:
    """Operations of one sample, averaged over the samples of a batch.

    Attributes:
        macs: dense multiply-accumulates of the layers whose input is real-valued.
        skipping_macs: those of them whose input is not zero, exact at borders.
        synaptic_operations: accumulates of the layers whose input is spikes.
        spikes: that arrive at the latter layers.
        neuron_updates: membrane updates, one a neuron and time step.
        layers: macs, skipping macs, synaptic operations by layer.
    """

    macs: float = 0.0
    skipping_macs: float = 0.0
    synaptic_operations: float = 0.0
    spikes: float = 0.0
    neuron_updates: float = 0.0
    layers: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def nanojoules(
        self,
        per: EnergyPerOperation = EnergyPerOperation(),
        *,
        skip_zeros: bool = False,
        updates: bool = False,
    ) -> float:
        """Estimated energy of one sample; with `skip_zeros` real-valued inputs that are zero cost nothing."""
        macs = self.skipping_macs if skip_zeros else self.macs
        picojoules = macs * per.mac + self.synaptic_operations * per.accumulate
        return (picojoules + (self.neuron_updates * per.update if updates else 0.0)) / 1000


def add_neuron_updates(number: float) -> None:
    """Tell the counter of `number` membrane updates of a batch; else no effect."""
    counted = None if torch.compiler.is_compiling() else _updates.get()
    if counted is not None:
        counted.append(number * _repeats.get())


def counting() -> bool:
    """Whether `count_synaptic_work` is running the model."""
    return not torch.compiler.is_compiling() and _updates.get() is not None


@contextmanager
def repeated(times: int) -> Iterator[None]:
    """Count what runs inside `times` times: a product computed once that the counted hardware does every step."""
    if torch.compiler.is_compiling():
        yield
        return
    token = _repeats.set(_repeats.get() * times)
    try:
        yield
    finally:
        _repeats.reset(token)


@torch.no_grad()
def count_synaptic_work(model: nn.Module, *inputs: Any, samples: int) -> SynapticWork:
    """Run `model(*inputs)` and count, per sample.

    A layer's input counts as spikes where all its values are 0 or 1, unless the layer has an attribute
    `input_spike_unit`: the size of one spike (0.25 behind an average over 2 x 2), or 0 for real values.

    Args:
        samples: how many the inputs hold; time steps are no samples.
    """
    if samples < 1:
        raise ValueError(f"samples: at least 1 expected, given {samples}")
    work, handles, updates = SynapticWork(), [], []

    def look(name: str) -> Any:
        def hook(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            x, times = given[0].detach(), _repeats.get() / samples
            unit = spike_unit(layer, x)
            reached = fan_out(layer, x)
            if unit:
                amount = (x / unit).round().abs()
                operations = float((amount * reached).sum(dtype=torch.float64)) * times
                work.synaptic_operations += operations
                work.spikes += float(amount.sum(dtype=torch.float64)) * times
                made = (0.0, 0.0, operations)
            else:
                dense = dense_macs(layer, output) * times
                skipping = float(((x != 0) * reached).sum(dtype=torch.float64)) * times
                work.macs += dense
                work.skipping_macs += skipping
                made = (dense, skipping, 0.0)
            before = work.layers.get(name, (0.0, 0.0, 0.0))
            work.layers[name] = (before[0] + made[0], before[1] + made[1], before[2] + made[2])

        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Linear, *CONVOLUTIONS)):
            handles.append(module.register_forward_hook(look(name)))
    token = _updates.set(updates)
    try:
        model(*inputs)
    finally:
        _updates.reset(token)
        for handle in handles:
            handle.remove()
    work.neuron_updates = sum(updates) / samples
    return work


def spike_unit(layer: nn.Module, x: Tensor) -> float:
    """Size of one spike in the input `x` of a layer, or 0 where it holds real values."""
    declared = getattr(layer, "input_spike_unit", None)
    if declared is not None:
        return float(declared)
    return 1.0 if bool(((x == 0) | (x == 1)).all()) else 0.0


def dense_macs(layer: nn.Module, output: Tensor) -> float:
    """Multiply-accumulates of a layer that gave `output`, padding included as frameworks compute it."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return output.numel() * weight[0].numel()


def fan_out(layer: nn.Module, x: Tensor) -> Tensor:
    """Synapses that each entry of the input `x` reaches, in a shape that broadcasts to x.

    A linear layer: its outputs. A convolution: the output positions whose window covers the entry, times the output
    channels of its group; the gradient of a convolution with ones counts them for any stride, padding and dilation.
    """
    if isinstance(layer, nn.Linear):
        return torch.tensor(float(layer.out_features), device=x.device)
    if not isinstance(layer, CONVOLUTIONS):
        raise ValueError(f"layer: Linear or Conv1d to Conv3d expected, given {type(layer).__name__}")
    if layer.padding_mode != "zeros":
        raise ValueError(f"layer: padding_mode 'zeros' expected, given {layer.padding_mode!r}")
    dims = len(layer.kernel_size)
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[dims]
    with torch.enable_grad():
        one = torch.zeros(1, 1, *x.shape[-dims:], device=x.device, requires_grad=True)
        ones = torch.ones(1, 1, *layer.kernel_size, device=x.device)
        sums: Any = convolve(one, ones, None, layer.stride, layer.padding, layer.dilation).sum()  # type: ignore[arg-type]
        (positions,) = torch.autograd.grad(sums, one)
    return positions.reshape(x.shape[-dims:]).round() * (layer.out_channels // layer.groups)
