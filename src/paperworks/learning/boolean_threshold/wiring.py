"""How the nodes of a Boolean threshold network are joined, in blocks of neurons that see the same senders.

Numbered as the authors do (arXiv 2602.17493): node 0 is the constant -1, then the inputs, hidden neurons, outputs last.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise


@dataclass(frozen=True)
class Block:
    """Neurons with the same in-edges: `edges[k][d]` is the place of the edge from `senders[d]` to `receivers[k]`."""

    senders: tuple[int, ...]
    receivers: tuple[int, ...]
    edges: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Wiring:
    """A directed graph without cycles, as a list of edges.

    Attributes:
        n_nodes: all of them, the constant included.
        n_inputs: without the constant.
        n_outputs: the last ones.
        edges: (receiver, sender) pairs; weights are listed in this order.
    """

    n_nodes: int
    n_inputs: int
    n_outputs: int
    edges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        first = 1 + self.n_inputs
        if self.n_outputs < 1 or first + self.n_outputs > self.n_nodes:
            raise ValueError(f"{self.n_nodes} nodes cannot hold {self.n_inputs} inputs and {self.n_outputs} outputs")
        for receiver, sender in self.edges:
            if not first <= receiver < self.n_nodes or not 0 <= sender < receiver:
                raise ValueError(
                    f"edge to {receiver} from {sender}: an edge goes from a node to a neuron of a higher number"
                )
            if sender >= self.n_nodes - self.n_outputs:
                raise ValueError(f"edge from {sender}: the last {self.n_outputs} nodes are outputs and send nothing")
        if len(set(self.edges)) < len(self.edges):
            raise ValueError("an edge is given twice")
        silent = set(range(first, self.n_nodes)) - {receiver for receiver, _ in self.edges}
        if silent:
            raise ValueError(f"neuron {min(silent)} has no in-edge")

    @classmethod
    def layered(cls, widths: Sequence[int]) -> "Wiring":
        """Every neuron of a layer sees the constant and the whole layer before it."""
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths: inputs, hidden layers and outputs, each from 1, given {list(widths)}")
        edges, begin = [], 1
        for n_in, n_out in pairwise(widths):
            after = begin + n_in
            edges += [
                (neuron, sender) for neuron in range(after, after + n_out) for sender in (0, *range(begin, after))
            ]
            begin = after
        return cls(1 + sum(widths), widths[0], widths[-1], tuple(edges))

    @property
    def outputs(self) -> range:
        """The output nodes."""
        return range(self.n_nodes - self.n_outputs, self.n_nodes)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Neurons grouped by their senders, in an order in which they can be evaluated."""
        into: dict[int, dict[int, int]] = {}
        for place, (receiver, sender) in enumerate(self.edges):
            into.setdefault(receiver, {})[sender] = place
        depth = dict.fromkeys(range(1 + self.n_inputs), 0)
        groups: dict[tuple[int, ...], list[int]] = {}
        for neuron in sorted(into):
            senders = tuple(sorted(into[neuron]))
            depth[neuron] = 1 + max(depth[sender] for sender in senders)
            groups.setdefault(senders, []).append(neuron)
        ordered = sorted(groups.items(), key=lambda group: (depth[group[1][0]], group[1][0]))
        return tuple(
            Block(senders, tuple(own), tuple(tuple(into[n][s] for s in senders) for n in own))
            for senders, own in ordered
        )
