"""AF-KAN and B-spline layers against the formulas as the authors' code writes them, at 784-64-10 and batch 64.

The authors' code is no package. Their layer is written anew here as they compute it: functions materialised, divided by
their norm and scaled over the whole batch, attention over inputs, and the result put into a fresh tensor. The B-spline
layer's peer evaluates Cox-de Boor's recursion, as efficient-kan does.
"""

import math
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.layers import AFKAN, KAN
from timing import interleaved

WIDTHS, BATCH, G, K = (784, 64, 10), 64, 3, 3


class WrittenOut(nn.Module):
    """One AF-KAN layer, term by term."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.low = nn.Parameter(torch.arange(-K, G) / G)
        self.high = nn.Parameter(self.low.detach() + (K + 1) / G)
        self.temperature = nn.Parameter(torch.tensor(math.sqrt(n_in)))
        self.weight = nn.Parameter(torch.randn(n_out, n_in) / math.sqrt(n_in))
        self.norm, self.score, self.n_out = nn.LayerNorm(n_in), nn.Linear(G + K, 1), n_out

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in) -> (batch, out)."""
        out = torch.zeros(1, len(x), self.n_out)
        wide = x[..., None].expand(-1, -1, G + K)
        low, high = (phase.expand(x.shape[1], -1) for phase in (self.low, self.high))
        found = (F.silu(wide - low) * F.silu(high - wide)) ** 2
        found = F.normalize(found, p=2, dim=None)  # type: ignore[arg-type]
        found = (found - found.min()) / (found.max() - found.min())
        weight = F.softmax(self.score(found) / self.temperature.clamp(min=1.0), dim=-2)
        out[0] = F.linear(F.silu(self.norm(torch.sum(found * weight, dim=-1))), self.weight)
        return out[0]


class CoxDeBoor(nn.Module):
    """One B-spline layer by the recursion."""

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        h = 2 / G
        self.register_buffer("grid", (torch.arange(-K, G + K + 1) * h - 1).expand(n_in, -1).contiguous())
        self.base = nn.Parameter(torch.randn(n_out, n_in) / math.sqrt(n_in))
        self.spline = nn.Parameter(0.1 * torch.randn(n_out, n_in, G + K) / math.sqrt(n_in))
        self.scaler = nn.Parameter(torch.ones(n_out, n_in))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in) -> (batch, out)."""
        grid, wide = self.grid, x[..., None]
        assert isinstance(grid, Tensor)
        bases = ((wide >= grid[:, :-1]) & (wide < grid[:, 1:])).to(x.dtype)
        for k in range(1, K + 1):
            left = (wide - grid[:, : -(k + 1)]) / (grid[:, k:-1] - grid[:, : -(k + 1)]) * bases[..., :-1]
            right = (grid[:, k + 1 :] - wide) / (grid[:, k + 1 :] - grid[:, 1:-k]) * bases[..., 1:]
            bases = left + right
        spline = F.linear(bases.flatten(1), (self.spline * self.scaler[..., None]).flatten(1))
        return F.linear(F.silu(x), self.base) + spline


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """Forward and training step of both kinds of layer."""
    x, y = torch.rand(BATCH, 784) * 2 - 1, torch.randint(0, 10, (BATCH,))
    pairs = {
        "AF-KAN": (AFKAN(WIDTHS, func_norm="batch"), nn.Sequential(WrittenOut(784, 64), WrittenOut(64, 10))),
        "B-spline KAN": (KAN(WIDTHS, options={"grid_size": G, "scaler": True}),
                         nn.Sequential(CoxDeBoor(784, 64), CoxDeBoor(64, 10))),
    }  # fmt: skip
    cases = []
    for name, (ours, theirs) in pairs.items():
        cases.append((f"{name} 784-64-10, forward", forward(ours, x), forward(theirs, x)))
        cases.append((f"{name} 784-64-10, train step", step(ours, x, y), step(theirs, x, y)))
    return interleaved(cases, rounds, peer="as the authors' code computes it, torch", peer_version=version("torch"))


def forward(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Without gradients."""

    def call() -> None:
        with torch.no_grad():
            net(x)

    return call


def step(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Forward, backward, the same fused AdamW on both sides."""
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)

    def call() -> None:
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return call
