"""Reflect-reflect-relax for networks of Boolean threshold functions (arXiv 2602.17493), many restarts at once.

Every item has its own copy of every weight w, of every edge's input x, and of every node's output y; g weighs the
copies of an item and neuron. Constraint A: inputs are the data, every neuron holds its margin. Constraint B: copies
agree, a neuron's weights have norm sqrt(D), outputs are the labels. One iteration is

    zA = P_A(z),  zB = P_B(2 zA - z),  z <- z + beta (zB - zA),  g <- g + gamma (G / mean G - g)

with G the squared distance of zA and zB at an item and neuron. w and x are kept as w + x and w - x, which P_A only
scales (see `projections`), in arrays (2, layers, neurons, D, items, restarts): restarts are what a processor's vectors
run over, all sums are over outer axes, and layers of one shape share an array.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .projections import neuron_factors
from .wiring import Block, Wiring

INPUTS = ("data", "signs", "one_hot")
STOPS = ("gap", "accuracy")
IN_CACHE = 2**18  # numbers in the copies of the restarts that are worked on at once


@dataclass
class State:
    """Where a search stands.

    Attributes:
        edges: w + x and w - x of a group of layers, (2, layers, neurons, D, items, restarts), one array a group.
        y: node outputs, (nodes, items, restarts), nodes in the problem's order.
        g: weights of the metric at neurons, (neurons, items, restarts); at inputs they are 1.
    """

    edges: list[Tensor]
    y: Tensor
    g: Tensor

    @property
    def n_restarts(self) -> int:
        """How many."""
        return self.y.shape[-1]

    def tensors(self) -> list[Tensor]:
        """All, restarts last."""
        return [*self.edges, self.y, self.g]

    def kept(self, which: Tensor) -> "State":
        """Only these restarts."""
        *edges, y, g = [tensor.index_select(-1, which) for tensor in self.tensors()]
        return State(edges, y, g)


@dataclass
class _Group:
    """Layers of one shape: where their neurons stand, whom they see."""

    blocks: list[Block]
    neurons: slice  # of (neurons, ...), layer after layer
    senders: Tensor  # (layers * D,) nodes in the problem's order
    shape: tuple[int, int, int]  # layers, neurons, D


class Problem:
    """A wiring and the items it must satisfy: the two projections, and one iteration of the search.

    Args:
        wiring: the network's graph.
        x: inputs in [-1, 1], (items, inputs); None for a generative model, whose inputs are found.
        y: labels -1 and 1, (items, outputs).
        sigma: the support; the margin of a neuron with D in-edges is sqrt(D / sigma).
        inputs: `data`, or what generated inputs must be: `signs` or `one_hot`.
        exact: see `projections.neuron_factors`.
        newton_steps: of the margin's projection; default 2 in float32 (4e-5 from the nearest point, and on the margin
            exactly), 5 in float64.
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
        self.dtype, self.device = dtype, torch.device(device)
        self.newton_steps = newton_steps or (2 if dtype == torch.float32 else None)
        self.n_items, self.first = len(y), 1 + wiring.n_inputs
        self._arrange()
        to = dict(dtype=dtype, device=self.device)
        self.data = -torch.ones(self.first, len(y), 1, **to)
        if x is not None:
            self.data[1:, :, 0] = x.T.to(**to)
        self.labels = y.T[..., None].to(**to)

    def _arrange(self) -> None:
        """Order the neurons group by group, and write sums over edges as products with matrices of 0 and 1."""
        wiring, first = self.wiring, self.first
        by_shape: dict[tuple[int, int], list[Block]] = {}
        for block in wiring.blocks:
            by_shape.setdefault((len(block.receivers), len(block.senders)), []).append(block)
        ordered = [n for blocks in by_shape.values() for block in blocks for n in block.receivers]
        self.order = torch.tensor([*range(first), *ordered])
        place = {node: number for number, node in enumerate(self.order.tolist())}
        to = dict(dtype=self.dtype, device=self.device)
        senders, margins, self.groups = [], [], []
        begin = 0
        for (neurons, degree), blocks in by_shape.items():
            count = neurons * len(blocks)
            seen = [place[sender] for block in blocks for sender in block.senders]
            places = torch.tensor(seen, device=self.device)
            self.groups.append(_Group(blocks, slice(begin, begin + count), places, (len(blocks), neurons, degree)))
            senders += seen
            margins += [math.sqrt(degree / self.sigma)] * count
            begin += count
        n_layers = len(wiring.blocks)
        self.margin = torch.tensor(margins, **to)[:, None, None]
        self.spread = torch.zeros(wiring.n_nodes, len(senders), **to)  # senders' places -> nodes
        self.spread[senders, range(len(senders))] = 1
        self.spread_layers = torch.zeros(wiring.n_nodes, n_layers, **to)
        layer = torch.tensor([i for i, b in enumerate(b for g in self.groups for b in g.blocks) for _ in b.senders])
        self.spread_layers[senders, layer] = 1
        outputs = [place[node] for node in wiring.outputs]
        contiguous = outputs == list(range(outputs[0], outputs[0] + len(outputs)))
        self.outputs: slice | Tensor = (
            slice(outputs[0], outputs[0] + len(outputs)) if contiguous else torch.tensor(outputs, device=self.device)
        )
        hidden = sorted(set(range(first, wiring.n_nodes)) - set(wiring.outputs))
        self.hidden = torch.tensor([place[node] for node in hidden], dtype=torch.long, device=self.device)

    def start(self, seeds: Sequence[int]) -> State:
        """One random start a seed; it depends on that seed alone."""
        wiring, items = self.wiring, self.n_items
        n_free = len(self.hidden) + (wiring.n_inputs if self.inputs != "data" else 0)
        sizes = (len(wiring.edges), len(wiring.edges), n_free)
        drawn = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            drawn.append([2 * torch.rand(size, items, generator=generator) - 1 for size in sizes])
        w, x, free = (torch.stack(parts, -1) for parts in zip(*drawn, strict=True))
        return self.state(w, x, free)

    def state(self, w: Tensor, x: Tensor, free: Tensor, g: Tensor | None = None) -> State:
        """A state of given copies: w, x (edges, items, restarts), outputs of generated inputs and hidden neurons
        (free, items, restarts), metric (neurons, items, restarts), all in the wiring's order."""
        w, x, free = (tensor.to(dtype=self.dtype, device=self.device) for tensor in (w, x, free))
        count = w.shape[-1]
        y = torch.empty(self.wiring.n_nodes, self.n_items, count, dtype=self.dtype, device=self.device)
        y[: self.first] = self.data
        if self.inputs != "data":
            y[1 : self.first] = free[: self.wiring.n_inputs]
        y[self.hidden] = free[len(free) - len(self.hidden) :]
        y[self.outputs] = self.labels.expand(-1, -1, count)
        edges = []
        for group in self.groups:
            places = torch.tensor([block.edges for block in group.blocks], device=self.device)
            edges.append(torch.stack([w[places] + x[places], w[places] - x[places]]))
        if g is None:
            metric = torch.ones(len(y) - self.first, self.n_items, count, dtype=self.dtype, device=self.device)
        else:
            metric = g.to(y)[self.order[self.first :].to(self.device) - self.first]
        return State(edges, y, metric)

    def copies(self, state: State) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w and x (edges, items, restarts), y (nodes, ...) and g (neurons, ...) of a state, in the wiring's order."""
        shape = (len(self.wiring.edges), self.n_items, state.n_restarts)
        w, x = (torch.empty(shape, dtype=self.dtype, device=self.device) for _ in range(2))
        for group, z in zip(self.groups, state.edges, strict=True):
            places = torch.tensor([block.edges for block in group.blocks], device=self.device)
            w[places], x[places] = (z[0] + z[1]) / 2, (z[0] - z[1]) / 2
        y, g = torch.empty_like(state.y), torch.empty_like(state.g)
        order = self.order.to(self.device)
        y[order], g[order[self.first :] - self.first] = state.y, state.g
        return w, x, y, g

    def listed(self, weights: Sequence[Tensor]) -> Tensor:
        """Shared weights as `step` gives them, as a list (edges, restarts) in the wiring's order."""
        out = torch.empty(len(self.wiring.edges), weights[0].shape[-1], dtype=self.dtype, device=self.device)
        for group, w in zip(self.groups, weights, strict=True):
            out[torch.tensor([block.edges for block in group.blocks], device=self.device)] = w
        return out

    @torch.no_grad()
    def step(self, state: State, beta: float, gamma: float, room: list[Tensor] | None = None) -> tuple:
        """One iteration, in place.

        Args:
            room: tensors like `state.edges` to work in.

        Returns:
            The shared weights of each group (layers, neurons, D, restarts), the gap (restarts,), and the inputs that
            agree (inputs, items, restarts), which matter where they are generated.
        """
        first, items, restarts = self.first, self.n_items, state.n_restarts
        room = [torch.empty_like(z) for z in state.edges] if room is None else room
        y, g = state.y, state.g
        norms = torch.empty(2, *g.shape, dtype=g.dtype, device=g.device)
        for z, work, group in zip(state.edges, room, self.groups, strict=True):
            torch.mul(z, z, out=work)
            norms[:, group.neurons] = work.sum(3).flatten(1, 2)
        factors, sign = neuron_factors(norms, y[first:], self.margin, self.exact, self.newton_steps)
        y_a = torch.cat([self._inputs(y[:first]), sign])
        reflected = (factors - 0.5).mul_(g)  # g times half the reflection 2 s - 1
        weights, to_senders, of_layers = [], [], []
        for z, work, group in zip(state.edges, room, self.groups, strict=True):
            shape = (2, *group.shape[:2], 1, items, restarts)
            torch.mul(z, reflected[:, group.neurons].view(shape), out=work)
            over_items, over_neurons = work.sum(4), work.sum(2)
            mean = over_items[0] + over_items[1]
            scale = mean.square().sum(2, keepdim=True).div_(group.shape[2]).rsqrt_()
            weights.append(mean.mul_(scale))
            to_senders.append((over_neurons[0] - over_neurons[1]).flatten(0, 1))
            of_layers.append(g[group.neurons].view(*group.shape[:2], items, restarts).sum(1))
        flat = (self.spread.shape[0], items, restarts)
        total = (self.spread @ torch.cat(to_senders).flatten(1)).view(flat)
        weight = (self.spread_layers @ torch.cat(of_layers).flatten(1)).view(flat)
        y_r = 2 * y_a - y
        total[:first] += y_r[:first]
        weight[:first] += 1
        total[first:].addcmul_(y_r[first:], g)
        weight[first:] += g
        y_b = total.div_(weight)
        y_b[self.outputs] = self.labels.expand(-1, -1, restarts)
        change = y_b - y_a
        gaps = change[first:].square()
        y.add_(change, alpha=beta)
        for z, work, w, group in zip(state.edges, room, weights, self.groups, strict=True):
            layers, neurons, degree = group.shape
            w, v = w.unsqueeze(3), y_b.index_select(0, group.senders).view(layers, 1, degree, items, restarts)
            torch.add(w, v, out=work[0])
            torch.sub(w, v, out=work[1])
            shape = (2, layers, neurons, 1, items, restarts)
            work.addcmul_(z, factors[:, group.neurons].view(shape), value=-1)
            z.add_(work, alpha=beta)
            gaps[group.neurons] += work.mul_(work).sum((0, 3)).flatten(0, 1).mul_(0.5)
        mean_gap = gaps.mean((0, 1))
        # At an exact solution the mean is 0, and so is every gap: g then tends to 0, and not to 0 / 0.
        g.mul_(1 - gamma).addcmul_(gaps, gamma / mean_gap.clamp(min=torch.finfo(gaps.dtype).tiny))
        return weights, mean_gap.sqrt(), y_b[1:first]

    def _inputs(self, y: Tensor) -> Tensor:
        """P_A at the constant and the inputs."""
        if self.inputs == "data":
            return self.data.expand_as(y)
        return torch.cat([-torch.ones_like(y[:1]), generated(y[1:], self.inputs)])


def generated(y: Tensor, inputs: str) -> Tensor:
    """Generated inputs: the nearest signs, or the nearest vector with a single 1 among -1, over axis 0."""
    if inputs == "signs":
        return y.ge(0).to(y).mul_(2).sub_(1)
    return torch.full_like(y, -1).scatter_(0, y.argmax(0, keepdim=True), 1.0)
