"""MIP against hyperlight: predicted weights of the README's network, and a training step of hypernetwork and network.

Both take the same matrix products; they differ in how weights reach the network.
"""

import importlib
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch.nn import functional as F

from hyperlight_network import ConvNet
from paperworks.layers import hypernetize
from timing import interleaved


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """Forward of the hypernetwork, forward of both, training step."""
    try:
        hl: Any = importlib.import_module("hyperlight")
    except ImportError as error:
        return [{"name": "all", "ratio": None, "why": f"hyperlight cannot be imported: {error}", "peer": "hyperlight"}]
    network = ConvNet()
    ours = hypernetize(network, 10, only=lambda name, _: name.startswith("conv"), bias_rows="official")
    primary: Any = ConvNet()
    primary = hl.hypernetize(primary, modules=[primary.conv1, primary.conv2, primary.conv3, primary.conv4])
    gamma, x, y = torch.rand(10), torch.randn(16, 1, 16, 16), torch.randint(0, 10, (16,))
    theirs = hl.HyperNet({"h": (10,)}, primary.external_shapes(), [16, 64, 128])

    def forward(call: Callable[[], Any]) -> Callable[[], None]:
        def run_once() -> None:
            with torch.no_grad():
                call()

        return run_once

    def their_output() -> torch.Tensor:
        with primary.using_externals(theirs(h=gamma)):
            return primary(x)

    cases = [
        (
            "README's hypernetwork, forward",
            forward(lambda: ours.hyper.weights(gamma)),
            forward(lambda: theirs(h=gamma)),
        ),
        ("hypernetwork and network, forward", forward(lambda: ours(x, gamma=gamma)), forward(their_output)),
        (
            "training step",
            step(ours.parameters(), lambda: F.cross_entropy(ours(x, gamma=gamma), y)),
            step([*theirs.parameters(), *primary.parameters()], lambda: F.cross_entropy(their_output(), y)),
        ),
    ]
    return interleaved(cases, rounds, peer="hyperlight", peer_version=version("hyperlight"))


def step(parameters: Any, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
    """Forward, backward and the same fused Adam on both sides."""
    optimizer = torch.optim.Adam(parameters, lr=1e-3, fused=True)

    def train() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return train
