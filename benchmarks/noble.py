"""NOBLE's layer against the authors' as their code computes it, and against `nn.Linear` for information.

Their repository is no package. Their layer is written anew here as they compute it: every step of the branch a
statement of its own, both outputs materialised and added. Both call the same matrix products.
"""

import math
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.layers import NobleLinear
from timing import interleaved

SHAPES = ((512, 768, 3072, 64), (2048, 256, 256, 16), (1024, 64, 256, 16))


class WrittenOut(nn.Module):
    """One NOBLE layer, step by step."""

    def __init__(self, n_in: int, n_out: int, rank: int):
        super().__init__()
        self.main, self.down = nn.Linear(n_in, n_out), nn.Linear(n_in, rank)
        self.mix, self.up = nn.Linear(rank, rank), nn.Linear(rank, n_out, bias=False)
        self.w1, self.w2 = nn.Parameter(torch.rand(rank) + 0.5), nn.Parameter(torch.rand(rank) + 0.5)
        self.p1, self.p2 = nn.Parameter(0.1 * torch.randn(rank)), nn.Parameter(0.1 * torch.randn(rank))

    def forward(self, x: Tensor) -> Tensor:
        """(rows, in) -> (rows, out)."""
        main = self.main(x)
        hidden = torch.cos(self.w1 * self.down(x) + self.p1)
        hidden = torch.cos(self.w2 * self.mix(hidden) + self.p2)
        branch = self.up(hidden)
        return main + branch


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """Forward and training step at three sizes."""
    cases, informative = [], []
    for rows, n_in, n_out, rank in SHAPES:
        x, weight = torch.randn(rows, n_in), torch.randn(rows, n_out) / math.sqrt(rows * n_out)
        ours, theirs, linear = (
            NobleLinear(n_in, n_out, rank=rank),
            WrittenOut(n_in, n_out, rank),
            nn.Linear(n_in, n_out),
        )
        name = f"{n_in} -> {n_out}, rank {rank}, {rows} rows"
        cases.append((f"{name}, forward", forward(ours, x), forward(theirs, x)))
        cases.append((f"{name}, train step", step(ours, x, weight), step(theirs, x, weight)))
        informative.append((f"{name}, forward, for information", forward(ours, x), forward(linear, x)))
        informative.append((f"{name}, train step, for information", step(ours, x, weight), step(linear, x, weight)))
    torch_version = version("torch")
    return [
        *interleaved(cases, rounds, peer="as the authors' code computes it, torch", peer_version=torch_version),
        *interleaved(informative, rounds, peer="nn.Linear", peer_version=torch_version),
    ]


def forward(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Without gradients."""

    def call() -> None:
        with torch.no_grad():
            net(x)

    return call


def step(net: nn.Module, x: Tensor, weight: Tensor) -> Callable[[], None]:
    """Forward, backward to weights and input, the same fused AdamW on both sides."""
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    given = x.clone().requires_grad_()

    def call() -> None:
        (net(given) * weight).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        given.grad = None

    return call
