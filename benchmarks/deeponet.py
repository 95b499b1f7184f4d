"""DeepONet against DeepXDE's on the PyTorch backend: triples and aligned data, forward pass and training step."""

import os
from typing import Any

import torch
from torch import nn

from paperworks.operators import DeepONet
from timing import interleaved

BRANCH, TRUNK, TRIPLES, FUNCTIONS, LOCATIONS = [100, 40, 40], [1, 40, 40], 10_000, 1_000, 100


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    os.environ["DDE_BACKEND"] = "pytorch"
    try:
        import deepxde  # type: ignore[import-not-found]
    except ImportError as error:
        return [{"name": "all", "ratio": None, "why": f"DeepXDE cannot be imported: {error}", "peer": "DeepXDE"}]
    u, y, s = torch.randn(TRIPLES, 100), torch.rand(TRIPLES, 1), torch.randn(TRIPLES, 1)
    functions, grid, values = torch.randn(FUNCTIONS, 100), torch.rand(LOCATIONS, 1), torch.randn(FUNCTIONS, LOCATIONS)

    def theirs(kind: str) -> nn.Module:
        return getattr(deepxde.nn, kind)(BRANCH, TRUNK, "relu", "Glorot normal")

    scattered, aligned = DeepONet(BRANCH, TRUNK), DeepONet(BRANCH, TRUNK)
    peer_scattered, peer_aligned = theirs("DeepONet"), theirs("DeepONetCartesianProd")
    cases = [
        (f"{TRIPLES:,} triples, forward", quiet(lambda: scattered(u, y)), quiet(lambda: peer_scattered((u, y)))),
        (
            f"{TRIPLES:,} triples, train step",
            step(scattered, lambda: (scattered(u, y) - s).square().mean()),
            step(peer_scattered, lambda: (peer_scattered((u, y)) - s).square().mean()),
        ),
        (
            f"aligned {FUNCTIONS:,} x {LOCATIONS}, forward",
            quiet(lambda: aligned.grid(functions, grid)),
            quiet(lambda: peer_aligned((functions, grid))),
        ),
        (
            f"aligned {FUNCTIONS:,} x {LOCATIONS}, train step",
            step(aligned, lambda: (aligned.grid(functions, grid)[..., 0] - values).square().mean()),
            step(peer_aligned, lambda: (peer_aligned((functions, grid)) - values).square().mean()),
        ),
    ]
    return interleaved(cases, rounds, peer="DeepXDE", peer_version=deepxde.__version__)


def quiet(call: Any) -> Any:
    """The call without gradients."""

    def forward() -> None:
        with torch.no_grad():
            call()

    return forward


def step(model: nn.Module, loss: Any) -> Any:
    """A training step; both sides take the same optimiser, since what is compared is the network."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def train() -> None:
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()

    return train
