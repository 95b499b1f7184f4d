"""A trained ReLU network as a spiking one (Cao 2015, Diehl 2015, Rueckauer 2017, as reviewed in arXiv 1804.08150).

Every ReLU becomes integrate-and-fire neurons with reset by subtraction, whose threshold and spike size are lambda: a
quantile of what that ReLU gave on calibration data. That is the weight normalisation W_l lambda_(l-1) / lambda_l of
those papers with the factors left at the neurons, so that it needs no order of layers: any network serves in which
everything between the ReLUs is linear (skip connections, batch norm in evaluation, average pooling). Membranes start
at half the threshold, so that a count is rounded and not cut off.

All time steps run as one batch: the network sees steps x rows inputs once, and only the neurons loop over time.
"""

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.measure.energy import CONVOLUTIONS, counting
from paperworks.nn import swap_layers

from .encode import ENCODINGS, encode
from .neurons import IF

RELUS = (nn.ReLU, nn.ReLU6)
MAX_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADVICE: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    (
        (nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.LeakyReLU, nn.PReLU, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Mish,
         nn.Hardswish, nn.Hardtanh, nn.Hardsigmoid),
        "train with nn.ReLU instead: a firing rate is never negative",
    ),
    (
        (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.LocalResponseNorm, nn.RMSNorm),
        "train with batch norm instead, which is linear in evaluation",
    ),
    ((nn.MultiheadAttention, nn.Softmax, nn.RNNBase, nn.Embedding), "it has no counterpart of firing rates"),
    ((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), "pool by the average instead"),
)  # fmt: skip
ROWS_TRIED = 8  # when looking for what is not linear
MOST_VALUES = 1 << 20  # of a layer's activations, in a quantile


class SpikingReLU(nn.Module):
    """What stands for a ReLU. A ReLU that is called several times a pass has a lambda for each call."""

    thresholds: Tensor

    def __init__(self, most: float = math.inf, surrogate: str = "atan"):
        super().__init__()
        self.most = most
        self.register_buffer("thresholds", torch.zeros(0))
        self.neurons = IF(start=0.5, surrogate=surrogate)
        self.mode, self.steps, self.call = "relu", 1, 0
        self.seen: list[list[Tensor]] = []

    def forward(self, x: Tensor) -> Tensor:
        """ReLU, its argument (`linear`), or spikes of size lambda for rows that hold all steps of each sample."""
        call, self.call = self.call, self.call + 1
        if self.mode == "linear":
            return x
        if self.mode == "spikes":
            unit = self.thresholds[call]
            spikes = self.neurons((x / unit).unflatten(0, (self.steps, -1)))
            return spikes.flatten(0, 1) * unit
        y = x.clamp(0, self.most)
        if self.mode == "record":
            while len(self.seen) <= call:
                self.seen.append([])
            self.seen[call].append(_thinned(y.detach().flatten().float()))
        return y

    def calibrate(self, percentile: float) -> None:
        """Set lambda to the quantile of what was recorded; 1 where nothing ever fired."""
        found = []
        for values in self.seen:
            every = torch.cat(values)
            place = min(len(every), max(1, math.ceil(percentile / 100 * len(every))))
            value = float(every.kthvalue(place).values) or float(every.max())
            found.append(value if value > 0 else 1.0)
        self.thresholds, self.seen = torch.tensor(found, device=self.thresholds.device), []

    def extra_repr(self) -> str:
        """For `print`."""
        return "lambda=" + ", ".join(f"{value:.3g}" for value in self.thresholds.tolist())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **options: Any) -> None:
        stored = state_dict.get(prefix + "thresholds")
        if isinstance(stored, Tensor) and stored.shape != self.thresholds.shape:
            self.thresholds = self.thresholds.new_zeros(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)


class SpikingMaxPool(nn.Module):
    """Max pooling of spikes: lets through the input that has the largest sum of spikes so far (Rueckauer 2017)."""

    def __init__(self, pool: nn.Module):
        super().__init__()
        self.mode, self.steps, self.pool = "relu", 1, copy.deepcopy(pool)
        self.pool.return_indices = True  # type: ignore[assignment]
        self.axes = {nn.MaxPool1d: 1, nn.MaxPool2d: 2, nn.MaxPool3d: 3}[type(pool)]  # type: ignore[index]

    def forward(self, x: Tensor) -> Tensor:
        """The maximum, one fixed entry of each window (`linear`), or the spikes of the winner so far."""
        if self.mode in ("relu", "record"):
            return self.pool(x)[0]  # type: ignore[no-any-return]
        if self.mode == "linear":
            leader = torch.arange(x[0].numel(), dtype=x.dtype, device=x.device).reshape(x[:1].shape).expand_as(x)
        else:
            leader = x.unflatten(0, (self.steps, -1)).cumsum(0).flatten(0, 1)
        chosen = self.pool(leader)[1].flatten(-self.axes)
        return x.flatten(-self.axes).gather(-1, chosen).reshape(self.pool(leader)[1].shape)


class ConvertedNetwork(nn.Module):
    """A user's ReLU network that spikes: the inputs it took -> the outputs it gave, averaged over the time steps.

    Made by `convert_to_spiking`. `steps` may be changed at any time. Batch norm and dropout stay as in evaluation, in
    training too; gradients reach the weights through the spikes' surrogate.
    """

    def __init__(self, net: nn.Module, steps: int, encoding: str, output: Callable[[Any], Tensor]):
        super().__init__()
        self.net, self.steps, self.encoding, self.output = net.eval(), steps, encoding, output

    def train(self, mode: bool = True) -> "ConvertedNetwork":
        """The wrapped network stays in evaluation, whose batch norm is what was converted."""
        super().train(mode)
        self.net.eval()
        return self

    def parts(self) -> list[SpikingReLU | SpikingMaxPool]:
        """The neurons and gates, in the network's order."""
        return [part for part in self.net.modules() if isinstance(part, SpikingReLU | SpikingMaxPool)]

    def call(self, x: Tensor, mode: str, steps: int = 1) -> Tensor:
        """The wrapped network in one of its modes: `relu`, `record`, `linear` or `spikes`."""
        for part in self.parts():
            part.mode, part.steps = mode, steps
            if isinstance(part, SpikingReLU):
                part.call = 0
        return _as_tensor(self.output(self.net(x)))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mean over the steps of the outputs; `generator` draws the rate code."""
        return self.over_time(x, generator).mean(0)

    def over_time(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Outputs of every step (steps, rows, ...)."""
        steps = self.steps
        if steps < 1:
            raise ValueError(f"steps: at least 1 expected, given {steps}")
        if x.ndim < 2:
            raise ValueError(f"x: expected shape (rows, ...), given {tuple(x.shape)}")
        given = encode(x, steps, self.encoding, generator).flatten(0, 1)
        handles = self._units() if counting() else []
        try:
            return self.call(given, "spikes", steps).unflatten(0, (steps, len(x)))
        finally:
            for handle in handles:
                handle.remove()

    def analog(self, x: Tensor) -> Tensor:
        """What the network gave before it was converted."""
        return self.call(x, "relu")

    def _units(self) -> list[Any]:
        """Tell the counter the size of one spike in each layer's input: lambda, or a part of it behind an average."""
        lambdas = torch.cat([p.thresholds for p in self.parts() if isinstance(p, SpikingReLU)])
        fired = False

        def behind(*_: Any) -> None:
            nonlocal fired
            fired = True

        def look(layer: Any, given: tuple[Tensor, ...]) -> None:
            if fired:
                layer.input_spike_unit = _unit(given[0], lambdas)

        def forget(layer: Any, *_: Any) -> None:
            if hasattr(layer, "input_spike_unit"):
                del layer.input_spike_unit

        handles: list[Any] = []
        for part in self.net.modules():
            if isinstance(part, SpikingReLU):
                handles.append(part.register_forward_hook(behind))
            elif isinstance(part, (nn.Linear, *CONVOLUTIONS)):
                handles += [part.register_forward_pre_hook(look), part.register_forward_hook(forget)]
        return handles

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Not possible: the network is a module of your own, which no configuration file describes.

        Raises:
            TypeError: always; it says what to do instead.
        """
        raise TypeError(
            "a ConvertedNetwork wraps a module of your own, which no config.json can describe. Save it with "
            "safetensors.torch.save_model(converted, path) and load it with safetensors.torch.load_model into a "
            "network that convert_to_spiking made of the same class; its thresholds are stored too"
        )


def convert_to_spiking(
    model: nn.Module,
    data: Tensor | Iterable[Any],
    *,
    steps: int = 32,
    percentile: float = 99.9,
    encoding: str = "direct",
    output: Callable[[Any], Tensor] | None = None,
) -> ConvertedNetwork:
    """Turn a trained ReLU network into a spiking one; the network itself is left as it is.

    Args:
        model: any module whose ReLUs are modules (nn.ReLU, nn.ReLU6), each with only linear operations between:
            linear layers, convolutions, batch norm, average pooling, skip connections, dropout. Max pooling of its
            modules is gated.
        data: inputs to calibrate the thresholds on: a tensor, or batches, of which the first of a tuple is taken.
        steps: time steps T; the rounding error of a layer's rate falls as 1 / T.
        percentile: of each ReLU's outputs, that becomes the largest rate; 100 takes the maximum, which outliers set.
        encoding: `direct`, or `rate` and `latency` for inputs in [0, 1].
        output: takes the tensor out of what the model returns; by default that itself, or its `logits`.

    Raises:
        ValueError: the network cannot be converted; says where and what to do.
    """
    if not 0 < percentile <= 100:
        raise ValueError(f"percentile: above 0, at most 100 expected, given {percentile}")
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding: one of {', '.join(ENCODINGS)} expected, given {encoding!r}")
    if steps < 1:
        raise ValueError(f"steps: at least 1 expected, given {steps}")
    net = nn.Sequential(copy.deepcopy(model)).eval()
    _refuse_by_name(net)
    if not any(isinstance(part, RELUS) for part in net.modules()):
        raise ValueError(
            "model: no nn.ReLU found in it. Neurons stand in for ReLU modules: write self.relu = nn.ReLU() instead of "
            "F.relu, or train a network with ReLUs"
        )
    swap_layers(net, RELUS, lambda _, relu: SpikingReLU(6.0 if isinstance(relu, nn.ReLU6) else math.inf))
    if any(isinstance(part, MAX_POOLS) for part in net.modules()):
        swap_layers(net, MAX_POOLS, lambda _, pool: SpikingMaxPool(pool))
    device = next((tensor.device for tensor in (*net.parameters(), *net.buffers())), torch.device("cpu"))
    batches = [batch.to(device) for batch in _inputs(data)]
    converted = ConvertedNetwork(net, steps, encoding, output or _logits).to(device)
    with torch.no_grad():
        for batch in batches:
            converted.call(batch, "record")
        for part in converted.parts():
            if isinstance(part, SpikingReLU):
                if not part.seen:
                    raise ValueError("model: a ReLU of it was not called on the data; take it out, or give other data")
                part.calibrate(percentile)
        _refuse_what_is_not_linear(converted, batches[0])
    return converted


def _inputs(data: Any) -> list[Tensor]:
    found = [data] if isinstance(data, Tensor) else [b if isinstance(b, Tensor) else b[0] for b in data]
    if not found or not len(found[0]):
        raise ValueError("data: at least one row expected, to calibrate the thresholds on")
    return found


def _logits(given: Any) -> Tensor:
    return getattr(given, "logits", given)  # type: ignore[no-any-return]


def _as_tensor(given: Any) -> Tensor:
    if not isinstance(given, Tensor):
        raise ValueError(
            f"model: returns {type(given).__name__}, expected a tensor; say what to take, for example "
            "output=lambda made: made.last_hidden_state"
        )
    return given


def _refuse_by_name(net: nn.Module) -> None:
    for name, part in net.named_modules():
        for kinds, advice in ADVICE:
            if isinstance(part, kinds) and not isinstance(part, RELUS):  # ReLU6 is a Hardtanh
                raise ValueError(
                    f"model: {name.removeprefix('0.')} is {type(part).__name__}, which cannot spike; {advice}"
                )


def _refuse_what_is_not_linear(converted: ConvertedNetwork, x: Tensor) -> None:
    """With every ReLU taken as the identity the network must be affine, row by row; F.relu or a softmax is not."""
    trial = copy.deepcopy(converted)
    x = x[torch.arange(ROWS_TRIED) % len(x)]
    noise = 4 * (x.std() + 1e-3) * torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    a, b = noise[0] + x, noise[1] - x  # of either sign, so that a ReLU shows itself
    tolerance = 2e-3
    try:
        outputs = [trial.double().call(each.double(), "linear") for each in (a, b, 0.25 * a + 0.75 * b)]
        tolerance = 1e-6
    except RuntimeError:  # a tensor of fixed type is made on the way
        trial = copy.deepcopy(converted)
        outputs = [trial.call(each, "linear") for each in (a, b, 0.25 * a + 0.75 * b)]
    expected, size = 0.25 * outputs[0] + 0.75 * outputs[1], max(float(o.abs().max()) for o in outputs)
    if not math.isfinite(size) or float((outputs[2] - expected).abs().max()) > tolerance * size:
        raise ValueError(
            "model: something beside its ReLU modules is not linear, so firing rates cannot carry it: F.relu or "
            "F.max_pool2d called as a function (make them modules), a softmax or sigmoid at the end (leave it out; "
            "logits give the same label), a product of activations (train without it)"
        )
    alone = trial.call(a[:1].to(outputs[0].dtype), "linear")
    if alone.shape != outputs[0][:1].shape or float((alone - outputs[0][:1]).abs().max()) > tolerance * size:
        raise ValueError("model: a row's output depends on the other rows; time steps run as rows and would mix")


def _thinned(values: Tensor) -> Tensor:
    stride = max(1, len(values) // MOST_VALUES + (len(values) % MOST_VALUES > 0))
    return values[:: stride | 1] if stride > 1 else values  # odd, so as not to fall on the same columns


def _unit(x: Tensor, lambdas: Tensor) -> float:
    """Size of one spike in x: a lambda or a whole part of one, of which all values are multiples; else 0."""
    there = x[x != 0].abs()
    if not len(there):
        return 1.0
    smallest = there.min()
    counts = there / smallest
    if float((counts - counts.round()).abs().max()) > 1e-3:
        return 0.0
    parts = lambdas / smallest
    fits = ((parts - parts.round()).abs() < 1e-4 * parts) & (parts > 0.5)
    return float(smallest) if bool(fits.any()) else 0.0


__all__ = ["ConvertedNetwork", "SpikingMaxPool", "SpikingReLU", "convert_to_spiking"]
