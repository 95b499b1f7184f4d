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
from typing import Any

import torch
from torch import Tensor

from .projections import Room, neuron_factors
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
        to: dict[str, Any] = dict(dtype=dtype, device=self.device)
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
        to: dict[str, Any] = dict(dtype=self.dtype, device=self.device)
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
    def step(
        self, state: State, beta: float, gamma: float, room: Room | None = None
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """One iteration, in place.

        Returns:
            The shared weights of each group (layers, neurons, D, restarts), the gap (restarts,), and the inputs that
            agree (inputs, items, restarts), which matter where they are generated. They lie in `room`.
        """
        room = room or Room()
        first, items, restarts = self.first, self.n_items, state.n_restarts
        y, g = state.y, state.g
        work = [room.like(f"edges {number}", z) for number, z in enumerate(state.edges)]
        norms = room.of("norms", (2, *g.shape), g)
        for z, copies, group in zip(state.edges, work, self.groups, strict=True):
            layers, neurons, _ = group.shape
            torch.mul(z, z, out=copies)
            torch.sum(copies, 3, out=norms[:, group.neurons].view(2, layers, neurons, items, restarts))
        factors, sign = neuron_factors(norms, y[first:], self.margin, self.exact, self.newton_steps, room)
        y_a = room.like("y_a", y)
        y_a[:first], y_a[first:] = self._inputs(y[:first]), sign
        reflected = torch.sub(factors, 0.5, out=norms).mul_(g)  # g times half the reflection 2 s - 1
        senders = room.of("senders", (self.spread.shape[1], items, restarts), y)
        of_layers = room.of("layers", (self.spread_layers.shape[1], items, restarts), y)
        weights, edge, layer = [], 0, 0
        for number, (z, copies, group) in enumerate(zip(state.edges, work, self.groups, strict=True)):
            layers, neurons, degree = group.shape
            torch.mul(z, reflected[:, group.neurons].view(2, layers, neurons, 1, items, restarts), out=copies)
            over_items = torch.sum(copies, 4, out=room.of(f"i {number}", (2, *group.shape, restarts), y))
            over_neurons = torch.sum(copies, 2, out=room.of(f"n {number}", (2, layers, degree, items, restarts), y))
            w = over_items[0].add_(over_items[1])
            w.mul_(torch.mul(w, w, out=over_items[1]).sum(2, keepdim=True).div_(degree).rsqrt_())
            weights.append(w)
            seen = senders[edge : edge + layers * degree].view(layers, degree, items, restarts)
            torch.sub(over_neurons[0], over_neurons[1], out=seen)
            metric = g[group.neurons].view(layers, neurons, items, restarts)
            torch.sum(metric, 1, out=of_layers[layer : layer + layers])
            edge, layer = edge + layers * degree, layer + layers
        y_b, weight = room.like("y_b", y), room.like("weight", y)
        torch.mm(self.spread, senders.flatten(1), out=y_b.flatten(1))
        torch.mm(self.spread_layers, of_layers.flatten(1), out=weight.flatten(1))
        y_r = torch.sub(y_a, y, out=room.like("y_r", y)).add_(y_a)
        y_b[:first] += y_r[:first]
        weight[:first] += 1
        y_b[first:].addcmul_(y_r[first:], g)
        weight[first:] += g
        y_b.div_(weight)
        y_b[self.outputs] = self.labels.expand(-1, -1, restarts)
        change = torch.sub(y_b, y_a, out=y_r)
        gaps = torch.mul(change[first:], change[first:], out=room.like("gaps", g))
        y.add_(change, alpha=beta)
        for number, (z, copies, w, group) in enumerate(zip(state.edges, work, weights, self.groups, strict=True)):
            layers, neurons, degree = group.shape
            v = room.of(f"v {number}", (layers * degree, items, restarts), y)
            torch.index_select(y_b, 0, group.senders, out=v)
            v = v.view(layers, 1, degree, items, restarts)
            torch.add(w.unsqueeze(3), v, out=copies[0])
            torch.sub(w.unsqueeze(3), v, out=copies[1])
            scale = factors[:, group.neurons].view(2, layers, neurons, 1, items, restarts)
            z.add_(copies.addcmul_(z, scale, value=-1), alpha=beta)
            both = norms[:, group.neurons]  # summed over two axes that are no neighbours at once it is 20 times slower
            torch.sum(copies.mul_(copies), 3, out=both.view(2, layers, neurons, items, restarts))
            gaps[group.neurons].add_(both[0], alpha=0.5).add_(both[1], alpha=0.5)
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


def activations(wiring: Wiring, weights: Tensor, x: Tensor) -> Tensor:
    """Sums that reach the outputs, of many networks on the same inputs.

    Args:
        weights: (edges, networks), in the wiring's order.
        x: inputs as they are, (items, inputs), or one set a network, (inputs, items, networks).

    Returns:
        (outputs, items, networks); hidden neurons in between give the sign, and -1 at 0.
    """
    given = x.T[..., None].expand(-1, -1, weights.shape[1]) if x.ndim == 2 else x
    values = weights.new_empty(wiring.n_nodes, *given.shape[1:])
    values[0], values[1 : 1 + wiring.n_inputs] = -1, given
    first_output = wiring.n_nodes - wiring.n_outputs
    for block in wiring.blocks:
        seen, receivers = values[list(block.senders)], list(block.receivers)
        w = weights[torch.tensor(block.edges, device=weights.device)]
        total = torch.stack([(own[:, None] * seen).sum(0) for own in w])
        hidden = torch.tensor([n < first_output for n in receivers], device=weights.device)[:, None, None]
        values[receivers] = torch.where(hidden, total.gt(0).to(total) * 2 - 1, total)
    return values[first_output:]


@dataclass
class Attempt:
    """What became of one random start.

    Attributes:
        seed: of the start.
        solved: whether the gap (or, with stop="accuracy", the accuracy) reached its stop.
        iterations: how many were made.
        gap: the smallest one.
        accuracy: share of right output bits (of right classes) on all items, of `weights`.
        weights: (edges,), norm sqrt(D) at every neuron: those at the stop, else those of the highest accuracy seen.
        inputs: generated inputs, (items, inputs); None where inputs are data.
        trace: points (iteration, gap).
    """

    seed: int
    solved: bool = False
    iterations: int = 0
    gap: float = math.inf
    accuracy: float = -1.0
    weights: Tensor = field(default_factory=lambda: torch.empty(0), repr=False)
    inputs: Tensor | None = field(default=None, repr=False)
    trace: list[tuple[int, float]] = field(default_factory=list, repr=False)


def find_networks(
    problem: Problem,
    seeds: Sequence[int],
    *,
    beta: float = 0.2,
    gamma: float = 1e-3,
    gap_stop: float = 0.01,
    max_iterations: int = 10_000,
    stop: str = "gap",
    check_every: int = 100,
    trace_every: int = 0,
    classes: bool = False,
    at_once: int | None = None,
    first_only: bool = False,
    log: Callable[[int, float], None] | None = None,
) -> list[Attempt]:
    """Search from one random start a seed; starts that end make room for the next.

    Args:
        beta: how far a step goes, in (0, 2).
        gamma: how fast the metric follows the gaps, in [0, 1).
        gap_stop: the gap at which a start has solved the problem.
        max_iterations: after which a start is given up.
        stop: `gap`, or `accuracy`: also stop when all items are right, which is long before the gap closes.
        check_every: iterations between looks at the accuracy; the best weights seen are kept.
        classes: outputs are classes, one of them 1: accuracy is that of the largest sum.
        at_once: starts worked on side by side; default: as many as fit a processor's cache.
        first_only: stop at the first solution, and leave the other starts where they stand.
        log: called with the iterations made in all and the smallest gap, at every look.
    """
    if stop not in STOPS:
        raise ValueError(f"stop: one of {', '.join(STOPS)}, given {stop!r}")
    if not 0 < beta < 2 or not 0 <= gamma < 1:
        raise ValueError(f"beta: in (0, 2), gamma: in [0, 1), given {beta}, {gamma}")
    if max_iterations < 1 or check_every < 1 or gap_stop <= 0:
        raise ValueError("max_iterations and check_every: from 1; gap_stop: above 0")
    size = 2 * len(problem.wiring.edges) * problem.n_items
    queue, attempts = deque(seeds), {seed: Attempt(seed) for seed in seeds}
    if len(attempts) < len(queue):
        raise ValueError("seeds: every start needs its own")
    slots = min(len(queue), at_once or max(1, min(256, IN_CACHE // size)))
    live = [attempts[queue.popleft()] for _ in range(slots)]
    if not live:
        return []
    state = problem.start([attempt.seed for attempt in live])
    room = Room()
    smallest = torch.full((slots,), math.inf, dtype=problem.dtype, device=problem.device)
    tick = made = 0
    while live:
        weights, gap, agreed = problem.step(state, beta, gamma, room)
        tick += 1
        made += len(live)
        smallest = torch.minimum(smallest, gap)
        over = [place for place, attempt in enumerate(live) if attempt.iterations + 1 >= max_iterations]
        for attempt in live:
            attempt.iterations += 1
        looking = tick % check_every == 0
        if trace_every and tick % trace_every == 0:
            for attempt, value in zip(live, gap.tolist(), strict=True):
                attempt.trace.append((attempt.iterations, value))
        closed = bool((gap < gap_stop).any())
        if not (over or looking or closed):
            continue
        closing, lows = (gap < gap_stop).tolist(), smallest.tolist()
        shared = problem.listed(weights)
        right = _accuracies(problem, shared, agreed, classes)
        ended = []
        for place, attempt in enumerate(live):
            attempt.gap = lows[place]
            attempt.solved = closing[place] or (stop == "accuracy" and right[place] == 1.0)
            if attempt.solved or right[place] > attempt.accuracy:
                attempt.accuracy, attempt.weights = right[place], shared[:, place].clone()
                if problem.inputs != "data":
                    attempt.inputs = generated(agreed[:, :, place], problem.inputs).T.contiguous()
            if attempt.solved or place in over:
                ended.append(place)
        if first_only and any(attempt.solved for attempt in live):
            break
        if looking and log:
            log(made, min(lows))
        fill = ended[: len(queue)]
        if fill:
            fresh = [attempts[queue.popleft()] for _ in fill]
            for mine, theirs in zip(state.tensors(), problem.start([a.seed for a in fresh]).tensors(), strict=True):
                mine[..., fill] = theirs
            smallest[fill] = math.inf
            for place, attempt in zip(fill, fresh, strict=True):
                live[place] = attempt
        gone = set(ended[len(fill) :])
        if gone:
            stay = torch.tensor([place for place in range(len(live)) if place not in gone], device=problem.device)
            live = [attempt for place, attempt in enumerate(live) if place not in gone]
            if not live:
                break
            state, smallest = state.kept(stay), smallest[stay]
    return [attempts[seed] for seed in seeds]


def _accuracies(problem: Problem, weights: Tensor, agreed: Tensor, classes: bool) -> list[float]:
    """Share of right output bits, or of right classes, of every network."""
    given = problem.data[1:, :, 0].T if problem.inputs == "data" else generated(agreed, problem.inputs)
    out = activations(problem.wiring, weights, given)
    if classes:
        right = out.argmax(0) == problem.labels.argmax(0)
        return right.double().mean(0).tolist()
    return ((out > 0) == (problem.labels > 0)).double().mean((0, 1)).tolist()
