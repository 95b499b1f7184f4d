"""A sweep of the multitasking network by overlaps with its patterns against the same sweep by the N x N couplings.

No maintained library holds this network; the peer is a Hopfield network in torch with its couplings in full.
Both turn the same blocks of 2 % of the spins, in the same order, at zero temperature.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from paperworks.learning import MultitaskingHebbian, dilute_patterns
from timing import interleaved

SIZES = ((1_000, 3, 1), (4_000, 3, 4), (4_000, 5, 16))


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a size: spins, patterns, replicas."""
    cases = []
    for n_spins, n_patterns, replicas in SIZES:
        drawn = torch.Generator().manual_seed(0)
        memory = MultitaskingHebbian.store(dilute_patterns(n_patterns, n_spins, 0.4, drawn))
        states = 2.0 * torch.randint(0, 2, (replicas, n_spins), generator=drawn) - 1
        name = f"sweep, N={n_spins}, K={n_patterns}, {replicas} replicas"
        cases.append((name, by_overlaps(memory, states), by_couplings(memory, states)))
    return interleaved(cases, rounds, peer="full couplings in torch", peer_version=version("torch"))


def by_overlaps(memory: MultitaskingHebbian, states: torch.Tensor) -> Callable[[], Any]:
    """Ours."""
    return lambda: memory.recall(states, sweeps=1)


def by_couplings(memory: MultitaskingHebbian, states: torch.Tensor) -> Callable[[], Any]:
    """The peer: rows of J for every block."""
    couplings, n = memory.couplings(), states.shape[1]

    def sweep() -> torch.Tensor:
        current = states.clone()
        for block in torch.randperm(n).split(max(1, n // 50)):
            field = current @ couplings[block].T
            current[:, block] = torch.where(field == 0, current[:, block], torch.sign(field))
        return current

    return sweep
