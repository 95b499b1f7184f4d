"""Spiking neurons and a training step against snntorch, and against spikingjelly where it is installed.

Both peers step through time in Python. The same input, constants and surrogate (arc tangent) on either side; the peers
get their steps as `unbind` gives them, which spares them the slices' gradients.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.learning import LIF, SpikingMLP
from timing import interleaved

STEPS, BATCH, NEURONS, BETA = 100, 64, 1024, 0.9


class Stepped(nn.Module):
    """784-1000-10 as tutorials of snntorch write it: layers and neurons called step by step."""

    def __init__(self, snntorch: Any, steps: int):
        super().__init__()
        self.steps = steps
        self.fc1, self.fc2 = nn.Linear(784, 1000), nn.Linear(1000, 10)
        self.lif1 = snntorch.Leaky(BETA, spike_grad=snntorch.surrogate.atan())
        self.lif2 = snntorch.Leaky(BETA, spike_grad=snntorch.surrogate.atan(), reset_mechanism="none")

    def forward(self, spikes: Tensor) -> Tensor:
        """Spikes (steps, batch, 784) -> the mean membrane of the readout."""
        m1, m2 = torch.zeros(spikes.shape[1], 1000), torch.zeros(spikes.shape[1], 10)
        seen = []
        for given in spikes.unbind(0):
            fired, m1 = self.lif1(self.fc1(given), m1)
            _, m2 = self.lif2(self.fc2(fired), m2)
            seen.append(m2)
        return torch.stack(seen).mean(0)


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """LIF over time, forward and with backward; one training step of 784-1000-10."""
    rows = []
    for name, peer in (("snntorch", snntorch_leaky), ("spikingjelly", spikingjelly_lif)):
        try:
            theirs, installed = peer(), version(name)
        except (ImportError, PackageNotFoundError) as error:
            rows.append({"name": f"LIF, {STEPS} steps", "ratio": None, "why": str(error).splitlines()[0], "peer": name})
            continue
        x = torch.randn(STEPS, BATCH, NEURONS).mul_(0.5).add_(0.2)
        ours = LIF(BETA)
        size = f"{STEPS} steps x {BATCH} x {NEURONS}"
        cases = [
            (f"LIF {size}, forward", forward(ours, x), forward(theirs, x)),
            (f"LIF {size}, forward and backward", with_backward(ours, x), with_backward(theirs, x)),
        ]
        if name == "snntorch":
            import snntorch  # type: ignore[import-not-found]

            net, other = SpikingMLP((784, 1000, 10), 25, "rate"), Stepped(snntorch, 25)
            spikes, y = (torch.rand(25, 128, 784) < 0.15).float(), torch.randint(0, 10, (128,))
            cases.append(
                (
                    "784-1000-10, 25 steps, batch 128, train step",
                    step(net, of(net), spikes, y),
                    step(other, other, spikes, y),
                )
            )
        rows += interleaved(cases, rounds, peer=name, peer_version=installed)
    return rows


def snntorch_leaky() -> Callable[[Tensor], Tensor]:
    """A step at a time, as its documentation shows."""
    import snntorch  # type: ignore[import-not-found]
    from snntorch import surrogate  # type: ignore[import-not-found]

    neuron = snntorch.Leaky(BETA, spike_grad=surrogate.atan())

    def over_time(x: Tensor) -> Tensor:
        membrane, made = torch.zeros_like(x[0]), []
        for given in x.unbind(0):
            fired, membrane = neuron(given, membrane)
            made.append(fired)
        return torch.stack(made)

    return over_time


def spikingjelly_lif() -> Callable[[Tensor], Tensor]:
    """Its multi-step mode; tau = 1 / (1 - beta) with the input unscaled."""
    from spikingjelly.activation_based import functional, neuron, surrogate  # type: ignore[import-not-found]

    how: dict[str, Any] = dict(surrogate_function=surrogate.ATan(), step_mode="m")
    made = neuron.LIFNode(tau=1 / (1 - BETA), decay_input=False, v_reset=None, **how)

    def over_time(x: Tensor) -> Tensor:
        functional.reset_net(made)
        return made(x)

    return over_time


def of(net: SpikingMLP) -> Callable[[Tensor], Tensor]:
    """Our network on spikes that are given."""

    def logits(spikes: Tensor) -> Tensor:
        return net.run_spikes(spikes)[0]

    return logits


def forward(neuron: Callable[[Tensor], Any], x: Tensor) -> Callable[[], None]:
    """Without gradients."""

    def call() -> None:
        with torch.no_grad():
            neuron(x)

    return call


def with_backward(neuron: Callable[[Tensor], Any], x: Tensor) -> Callable[[], None]:
    """The gradient of the input."""
    leaf = x.clone().requires_grad_()
    weights = torch.randn_like(x)

    def call() -> None:
        leaf.grad = None
        neuron(leaf).backward(weights)

    return call


def step(net: nn.Module, logits: Callable[[Tensor], Tensor], spikes: Tensor, y: Tensor) -> Callable[[], None]:
    """Forward, backward, the same fused Adam on both sides."""
    optimizer = torch.optim.Adam(net.parameters(), fused=True)

    def call() -> None:
        F.cross_entropy(logits(spikes), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return call
