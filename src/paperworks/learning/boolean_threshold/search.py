"""Reflect-reflect-relax for networks of Boolean threshold functions (arXiv 2602.17493), many restarts at once.

Every item has its own copy of every weight w, of every edge's input x, and of every node's output y; g weighs the
copies of an item and neuron. Constraint A: inputs are the data, every neuron holds its margin. Constraint B: copies
agree, a neuron's weights have norm sqrt(D), outputs are the labels. One iteration is

    zA = P_A(z),  zB = P_B(2 zA - z),  z <- z + beta (zB - zA),  g <- g + gamma (G / mean G - g)

with G the squared distance of zA and zB at an item and neuron. w and x are kept as w + x and w - x, which P_A only
scales (see `projections`), in arrays (2, neurons, D, items, restarts): the restarts are what a processor's vectors run
over, and all sums are over outer axes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .projections import neuron_factors
from .wiring import Wiring

INPUTS = ("data", "signs", "one_hot")


@dataclass
class State:
    """Where a search stands.

    Attributes:
        edges: a block's w + x and w - x, (2, neurons, D, items, restarts), one array a block.
        y: node outputs, (nodes, items, restarts).
        g: weights of the metric, (nodes, items, restarts).
    """

    edges: list[Tensor]
    y: Tensor
    g: Tensor

    def kept(self, which: Tensor) -> "State":
        """Only these restarts."""
        return State([z[..., which].contiguous() for z in self.edges], self.y[..., which].contiguous(),
                     self.g[..., which].contiguous())  # fmt: skip

    @property
    def n_restarts(self) -> int:
        """How many."""
        return self.y.shape[-1]


class Problem:
    """A wiring and the items it must satisfy: the two projections, and one iteration of the search.

    Args:
        wiring: the network's graph.
        x: inputs in [-1, 1], (items, inputs); None for a generative model, whose inputs are found.
        y: labels -1 and 1, (items, outputs).
        sigma: the support; the margin of a neuron with D in-edges is sqrt(D / sigma).
        inputs: `data`, or what generated inputs must be: `signs` or `one_hot`.
        exact: see `projections.neuron_factors`.
    """

    def __init__(
        self,
        wiring: Wiring,
        x: Tensor | None,
        y: Tensor,
        sigma: float = 3.0,
        *,
        inputs: str = "data",
        exact: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        newton_steps: int | None = None,
    ):
        if inputs not in INPUTS or (inputs == "data") == (x is None):
            raise ValueError(f"inputs: 'data' with x, or one of {', '.join(INPUTS[1:])} without, given {inputs!r}")
        if x is not None and (x.ndim != 2 or x.shape[1] != wiring.n_inputs):
            raise ValueError(f"x: expected shape (items, {wiring.n_inputs}), given {tuple(x.shape)}")
        if y.ndim != 2 or y.shape[1] != wiring.n_outputs or (x is not None and len(x) != len(y)):
            raise ValueError(f"y: expected shape (items, {wiring.n_outputs}), given {tuple(y.shape)}")
        if not len(y):
            raise ValueError("y: at least one item is needed")
        if x is not None and not bool((x.abs() <= 1).all()):
            raise ValueError("x: values in [-1, 1] are expected; write bits as 2 * bits - 1")
        if not bool((y.abs() == 1).all()):
            raise ValueError("y: labels are -1 or 1; write bits as 2 * bits - 1")
        if sigma <= 0:
            raise ValueError(f"sigma: above 0, given {sigma}")
        self.wiring, self.sigma, self.inputs, self.exact = wiring, sigma, inputs, exact
        self.dtype, self.device, self.newton_steps = dtype, torch.device(device), newton_steps
        self.n_items = len(y)
        self.first = 1 + wiring.n_inputs
        to = dict(dtype=dtype, device=self.device)
        given = torch.empty(0, len(y)) if x is None else x.T
        self.data = torch.cat([-torch.ones(1, len(y)), given.cpu().float()])[..., None].to(**to)
        if x is not None:
            self.data[1:, :, 0] = x.T.to(**to)
        self.labels = y.T[..., None].to(**to)
        self.outputs = slice(wiring.n_nodes - wiring.n_outputs, None)
        self.blocks = [
            (_indices(b.senders, self.device), _indices(b.receivers, self.device), math.sqrt(len(b.senders) / sigma))
            for b in wiring.blocks
        ]

    def start(self, seeds: Sequence[int]) -> State:
        """One random start a seed; it depends on that seed alone."""
        wiring = self.wiring
        n_edges, n_hidden = len(wiring.edges), wiring.n_nodes - self.first - wiring.n_outputs
        w, x, y = [], [], []
        free = n_hidden + (wiring.n_inputs if self.inputs != "data" else 0)
        for seed in seeds:
            drawn = torch.Generator().manual_seed(seed)
            uniform = [2 * torch.rand(n, self.n_items, generator=drawn) - 1 for n in (n_edges, n_edges, free)]
            for kept, values in zip((w, x, y), uniform, strict=True):
                kept.append(values)
        hidden = torch.stack(y, -1).to(self.data)
        return self.state(torch.stack(w, -1).to(self.data), torch.stack(x, -1).to(self.data), hidden)

    def state(self, w: Tensor, x: Tensor, free: Tensor, g: Tensor | None = None) -> State:
        """A state of given copies: w, x (edges, items, restarts), outputs of the free nodes (free, items, restarts)."""
        count = w.shape[-1]
        labels = self.labels.expand(-1, -1, count)
        y = torch.cat([self.data.expand(-1, -1, count), free, labels])
        edges = []
        for block in self.wiring.blocks:
            places = _indices(block.edges, self.device)
            edges.append(torch.stack([w[places] + x[places], w[places] - x[places]]))
        return State(edges, y.contiguous(), torch.ones_like(y) if g is None else g)

    def copies(self, state: State) -> tuple[Tensor, Tensor]:
        """w and x of a state, (edges, items, restarts), in the wiring's order."""
        shape = (len(self.wiring.edges), self.n_items, state.n_restarts)
        w, x = (torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(2))
        for block, z in zip(self.wiring.blocks, state.edges, strict=True):
            places = _indices(block.edges, self.device)
            w[places], x[places] = (z[0] + z[1]) / 2, (z[0] - z[1]) / 2
        return w, x

    def step(self, state: State, beta: float, gamma: float) -> tuple[State, list[Tensor], Tensor]:
        """One iteration.

        Returns:
            The next state, the agreed weights of each block (neurons, D, restarts), and the gap (restarts,).
        """
        y_a = self._inputs_and_labels(state.y)
        factors, weights = [], []
        for z, (_, receivers, margin) in zip(state.edges, self.blocks, strict=True):
            norms = z.square().sum(2).mul_(0.5)
            up, down, sign = neuron_factors(
                norms[0], norms[1], state.y[receivers], margin, self.exact, self.newton_steps
            )
            y_a.index_copy_(0, receivers, sign)
            factors.append(torch.stack([up, down]))
        y_r = 2 * y_a - state.y
        total, weight = state.g * y_r, state.g.clone()
        for z, scale, (senders, receivers, _) in zip(state.edges, factors, self.blocks, strict=True):
            g = state.g[receivers]
            reflected = z * ((scale - 0.5) * g).unsqueeze(2)  # g times half the reflection 2 s - 1
            over_items, over_neurons = reflected.sum(3), reflected.sum(1)
            mean = over_items[0] + over_items[1]
            degree = len(senders)
            weights.append(mean * (math.sqrt(degree) / torch.linalg.vector_norm(mean, dim=1, keepdim=True)))
            total.index_add_(0, senders, over_neurons[0] - over_neurons[1])
            weight.index_add_(0, senders, g.sum(0, keepdim=True).expand(degree, -1, -1))
        y_b = total / weight
        y_b[self.outputs] = self.labels
        gaps = (y_b - y_a).square_()
        edges = []
        for z, scale, w, (senders, receivers, _) in zip(state.edges, factors, weights, self.blocks, strict=True):
            w, v = w.unsqueeze(2), y_b[senders].unsqueeze(0)
            change = torch.stack([w + v, w - v]).addcmul_(z, scale.unsqueeze(2), value=-1)
            gaps[receivers] += change.square().sum((0, 2)).mul_(0.5)
            edges.append(torch.add(z, change, alpha=beta))
        y = state.y + beta * (y_b - y_a)
        own = gaps[self.first :]
        mean_gap = own.mean((0, 1))
        g = state.g.clone()
        g[self.first :] += gamma * (own / mean_gap.clamp_min(torch.finfo(own.dtype).tiny) - g[self.first :])
        return State(edges, y, g), weights, mean_gap.sqrt()

    def _inputs_and_labels(self, y: Tensor) -> Tensor:
        """P_A at the inputs; neurons are filled in later."""
        y_a = torch.empty_like(y)
        if self.inputs == "data":
            y_a[: self.first] = self.data
            return y_a
        y_a[0] = -1
        found = y[1 : self.first]
        if self.inputs == "signs":
            y_a[1 : self.first] = torch.where(found < 0, -1.0, 1.0)
        else:
            best = found.argmax(0, keepdim=True)
            y_a[1 : self.first] = torch.full_like(found, -1).scatter_(0, best, 1.0)
        return y_a


def _indices(values: Any, device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=device)
