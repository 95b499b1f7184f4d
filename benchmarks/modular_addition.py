"""Modular addition's training step on unordered pairs against a step on all ordered pairs, as the authors take it.

The peer is written anew after the authors' trainer: the inputs of all p^2 pairs are looked up in the embedding and
added, one full-batch pass and update with AdamW. A second row adds the three evaluation passes (training and test loss
and accuracy, gradients off) that their trainer makes at every step.
"""

from typing import Any

import torch
from torch.nn import functional as F

from paperworks.analysis.modular_addition import ModularAdditionMLP, ModularTask
from timing import interleaved

SIZES = ((23, 512), (31, 931), (97, 1024))


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a size and kind of peer."""
    cases = []
    for p, width in SIZES:
        for evaluations in (0, 3):
            torch.manual_seed(0)
            ours, theirs = (ModularAdditionMLP(p, width) for _ in range(2))
            name = f"p={p}, H={width}" + (f", peer with its {evaluations} evaluation passes" if evaluations else "")
            cases.append((name, symmetric_step(ours), ordered_step(theirs, evaluations)))
    return interleaved(cases, rounds, peer="all ordered pairs, after Y-Agent/modular-addition-feature-learning")


def symmetric_step(model: ModularAdditionMLP) -> Any:
    """Ours: every unordered pair once, weighted."""
    batch = ModularTask(model.p).train
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, betas=(0.9, 0.98), fused=True)

    def step() -> None:
        model.loss(batch).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step


def ordered_step(model: ModularAdditionMLP, evaluations: int) -> Any:
    """The peer: every ordered pair, one-hot inputs looked up and added."""
    p = model.p
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    labels = pairs.sum(-1) % p
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0, betas=(0.9, 0.98), fused=True)
    identity = torch.eye(p)

    def loss() -> torch.Tensor:
        hidden = (identity[pairs[:, 0]] + identity[pairs[:, 1]]) @ model.w_in.T
        return F.cross_entropy(torch.relu(hidden) @ model.w_out.T, labels)

    def step() -> None:
        loss().backward()
        optimiser.step()
        optimiser.zero_grad()
        with torch.no_grad():
            for _ in range(evaluations):
                loss()

    return step
