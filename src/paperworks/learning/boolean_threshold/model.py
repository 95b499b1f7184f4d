"""Networks of Boolean threshold functions, found without gradients (Elser and Lal, arXiv 2602.17493).

Authors' code: veitelser/boolearn (C). Node values are -1 and 1, a neuron is y = sign(sum of w_e y_sender(e)), and node
0 is the constant -1 that every neuron sees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size

from .instances import WIDTHS, random_logic_network
from .logic import LogicCircuit, circuit_of
from .search import Attempt, Problem, find_networks
from .wiring import Wiring


class BooleanThresholdNetwork(nn.Module, Pretrained):
    """Inputs in [-1, 1] to outputs -1 and 1, through neurons that give signs.

    Args:
        widths: of a layered network, inputs to outputs; every neuron sees the constant and the layer before it.
        edges: or any graph without cycles: (receiver, sender) pairs over nodes 0 (the constant), inputs, neurons.
        n_nodes, n_inputs, n_outputs: of such a graph; its last nodes are the outputs.
        binarize_inputs: take the sign of inputs first, as the authors' evaluation does with gray values.
    """

    exempt: ClassVar[dict[str, str]] = {
        "gradients": "a sign has no gradient, and weights are found by projections, not by descent"
    }

    def __init__(
        self,
        widths: Sequence[int] | None = None,
        *,
        edges: Sequence[Sequence[int]] | None = None,
        n_nodes: int = 0,
        n_inputs: int = 0,
        n_outputs: int = 0,
        binarize_inputs: bool = False,
    ):
        super().__init__()
        if (widths is None) == (edges is None):
            raise ValueError("widths or edges: give one of them")
        if widths is not None:
            self.wiring = Wiring.layered(list(widths))
        else:
            assert edges is not None
            self.wiring = Wiring(n_nodes, n_inputs, n_outputs, tuple((int(r), int(s)) for r, s in edges))
        self.binarize_inputs = binarize_inputs
        self.weights = nn.Parameter(torch.empty(len(self.wiring.edges)))
        for number, block in enumerate(self.wiring.blocks):
            for name, values in (("senders", block.senders), ("receivers", block.receivers), ("edges", block.edges)):
                self.register_buffer(f"{name}_{number}", torch.tensor(values), persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Random weights of norm sqrt(D) at every neuron."""
        self.weights.uniform_(-1, 1)
        for block in self.wiring.blocks:
            places = torch.tensor(block.edges, device=self.weights.device)
            w = self.weights[places]
            self.weights[places] = w * (len(block.senders) ** 0.5 / torch.linalg.vector_norm(w, dim=1, keepdim=True))

    @classmethod
    def from_weights(cls, wiring: Wiring, weights: Tensor | np.ndarray | Sequence[float]) -> "BooleanThresholdNetwork":
        """A network of a wiring with these weights, (edges,)."""
        net = cls(
            edges=[list(edge) for edge in wiring.edges],
            n_nodes=wiring.n_nodes,
            n_inputs=wiring.n_inputs,
            n_outputs=wiring.n_outputs,
        )
        values = torch.as_tensor(np.asarray(weights, dtype=np.float64), dtype=torch.float32)
        check_shape("weights", values, (len(wiring.edges),))
        with torch.no_grad():
            net.weights.copy_(values)
        return net

    def activations(self, x: Tensor) -> Tensor:
        """Sums that reach the outputs, (batch, outputs): the largest one tells the class of a network for classes."""
        check_shape("x", x, ("batch", self.wiring.n_inputs))
        given = torch.where(x > 0, 1.0, -1.0).to(x) if self.binarize_inputs else x
        values = [torch.full_like(x[:, :1], -1.0), given]
        nodes = torch.cat([*values, x.new_zeros(len(x), self.wiring.n_nodes - 1 - self.wiring.n_inputs)], 1)
        outputs = nodes.new_zeros(nodes.shape)
        for number in range(len(self.wiring.blocks)):
            senders, receivers, edges = (self.get_buffer(f"{n}_{number}") for n in ("senders", "receivers", "edges"))
            total = nodes[:, senders] @ self.weights[edges].T.to(nodes.dtype)
            outputs = outputs.index_copy(1, receivers, total.to(nodes.dtype))
            nodes = nodes.index_copy(1, receivers, torch.where(total > 0, 1.0, -1.0).to(nodes.dtype))
        return outputs[:, -self.wiring.n_outputs :]

    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch outputs"]:
        """Outputs -1 and 1; a sum of 0 gives -1."""
        return torch.where(self.activations(x) > 0, 1.0, -1.0).to(x.dtype)

    @torch.no_grad()
    def predict(self, bits: Any) -> np.ndarray:
        """Output bits (rows, outputs) of input bits 0 and 1 (rows, inputs)."""
        x = 2 * torch.as_tensor(np.asarray(bits, dtype=np.float32)) - 1
        return (self(x.to(self.weights.device)) > 0).cpu().numpy().astype(np.int64)

    def to_logic(
        self,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        simplify: bool = True,
    ) -> LogicCircuit:
        """The circuit of gates that this network is on inputs -1 and 1.

        Raises:
            ValueError: a neuron depends on too many inputs to be a gate.
        """
        circuit = circuit_of(self.wiring, self.weights.detach().double().tolist(), inputs, outputs)
        return circuit.simplified() if simplify else circuit

    @classmethod
    def example(cls) -> Example:
        """A circuit of random gates."""
        net = cls((4, 4, 3))
        with torch.no_grad():
            net.weights.copy_(random_logic_network((4, 4, 3), torch.Generator().manual_seed(0)))
        return Example(net, (2.0 * torch.randint(0, 2, (5, 4)) - 1,))


def _named(name: str) -> BooleanThresholdNetwork:
    return BooleanThresholdNetwork(WIDTHS[name])


@published_size(60)
def multiplier_2x2() -> BooleanThresholdNetwork:
    """Multiplies two numbers of two bits."""
    return _named("multiplier_2x2")


@published_size(474)
def multiplier_3x3() -> BooleanThresholdNetwork:
    """Multiplies two numbers of three bits."""
    return _named("multiplier_3x3")


@published_size(131)
def autoencoder_8() -> BooleanThresholdNetwork:
    """Eight words of eight bits through three bits."""
    return _named("autoencoder_8")


@published_size(420)
def autoencoder_16() -> BooleanThresholdNetwork:
    """Sixteen words through four bits."""
    return _named("autoencoder_16")


@published_size(1413)
def autoencoder_32() -> BooleanThresholdNetwork:
    """Thirty-two words through five bits."""
    return _named("autoencoder_32")


@published_size(2128)
def rule_30() -> BooleanThresholdNetwork:
    """One step of rule 30 on a ring of 16 cells."""
    return _named("rule_30")


@published_size(1600)
def rule_30_wide() -> BooleanThresholdNetwork:
    """The same with one wide hidden layer."""
    return _named("rule_30_wide")


@published_size(6304)
def rule_30_twice() -> BooleanThresholdNetwork:
    """Two steps of rule 30."""
    return _named("rule_30_twice")


@published_size(5280)
def random_circuit() -> BooleanThresholdNetwork:
    """Five layers for random circuits of 32 signals."""
    return _named("random_circuit")


@published_size(70144)
def generative_digits() -> BooleanThresholdNetwork:
    """Images of 16 x 16 bits from a one-hot choice of 16."""
    return _named("generative_digits")


@published_size(650)
def small_digits() -> BooleanThresholdNetwork:
    """Digits of 8 x 8 gray values to ten classes."""
    return _named("small_digits")


@dataclass
class Solutions:
    """What a search found.

    Attributes:
        wiring: the network's graph.
        attempts: what became of every start, in the order of their seeds.
    """

    wiring: Wiring
    attempts: list[Attempt]

    @property
    def solved(self) -> list[Attempt]:
        """The starts that solved the problem."""
        return [attempt for attempt in self.attempts if attempt.solved]

    @property
    def best(self) -> Attempt:
        """A solution found in the fewest iterations, else the start of the highest accuracy."""
        return min(self.attempts, key=lambda a: (not a.solved, a.iterations if a.solved else 0, -a.accuracy, a.gap))

    def network(self, attempt: Attempt | None = None) -> BooleanThresholdNetwork:
        """The network of one start; default: the best."""
        return BooleanThresholdNetwork.from_weights(self.wiring, (attempt or self.best).weights.cpu().numpy())


@dataclass
class BoolearnTrainer:
    """Finds networks by reflect-reflect-relax from many random starts at once.

    Attributes:
        sigma: support: 1 lets a neuron only copy or negate, 3 adds AND, OR and the majority of three, and so on.
        beta: how far a step goes.
        gamma: how fast the metric follows the gaps; 0 leaves every item and neuron the same weight.
        gap_stop: a start has solved the problem at this gap.
        max_iterations: after which a start is given up.
        n_restarts: random starts, of seeds `seed`, `seed` + 1, ...
        stop: `gap`, or `accuracy` to stop also when every item is right.
        exact: always compare both outputs of a neuron (see `neuron_factors`).
        at_once: starts worked on side by side; None: as many as fit a processor's cache.
        first_only: stop at the first solution. The others are then left where they stand.
    """

    sigma: float = 3.0
    beta: float = 0.2
    gamma: float = 1e-3
    gap_stop: float = 0.01
    max_iterations: int = 10_000
    n_restarts: int = 32
    seed: int = 0
    stop: str = "gap"
    exact: bool = False
    check_every: int = 100
    trace_every: int = 0
    at_once: int | None = None
    first_only: bool = False
    device: str = "cpu"

    def fit(
        self,
        wiring: Wiring | Sequence[int],
        x: Tensor | None,
        y: Tensor,
        *,
        inputs: str = "data",
        classes: bool = False,
        log: Callable[[int, float], None] | None = None,
    ) -> Solutions:
        """Search for networks that map every row of x to that of y.

        Args:
            wiring: a graph, or the widths of a layered one.
            x: (items, inputs) in [-1, 1]; None for a generative model (`inputs` is then `signs` or `one_hot`).
            y: (items, outputs), -1 and 1.
            classes: one output is 1, and accuracy is that of the largest sum.
        """
        graph = wiring if isinstance(wiring, Wiring) else Wiring.layered(wiring)
        problem = Problem(graph, x, y, self.sigma, inputs=inputs, exact=self.exact, device=self.device)
        attempts = find_networks(
            problem,
            range(self.seed, self.seed + self.n_restarts),
            beta=self.beta,
            gamma=self.gamma,
            gap_stop=self.gap_stop,
            max_iterations=self.max_iterations,
            stop=self.stop,
            check_every=self.check_every,
            trace_every=self.trace_every,
            classes=classes,
            at_once=self.at_once,
            first_only=self.first_only,
            log=log,
        )
        return Solutions(graph, attempts)


class BooleanThresholdClassifier:
    """fit / predict in the manner of scikit-learn, on bits 0 and 1.

    Args:
        hidden: widths of the hidden layers; None: two of the width max(inputs, outputs), as for the paper's circuits.
        options: see `BoolearnTrainer`.

    Attributes:
        classes_: labels, when `y` is a column of them; None when `y` is a matrix of output bits.
        network_: the network found.
        solutions_: what became of every start.
    """

    def __init__(self, hidden: Sequence[int] | None = None, **options: Any):
        self.hidden = None if hidden is None else tuple(hidden)
        self.trainer = BoolearnTrainer(**{"first_only": True, **options})

    def fit(self, x: Any, y: Any) -> "BooleanThresholdClassifier":
        """Search for a network.

        Args:
            x: (rows, inputs) bits 0 and 1, or numbers in [0, 1].
            y: (rows,) labels of any kind, or (rows, outputs) bits.
        """
        given, wanted = np.asarray(x, dtype=np.float64), np.asarray(y)
        if given.ndim != 2 or not len(given) or len(given) != len(wanted):
            raise ValueError(
                f"x, y: expected shapes (rows, inputs) and (rows, ...), given {given.shape}, {wanted.shape}"
            )
        if not ((given >= 0) & (given <= 1)).all():
            raise ValueError("x: bits 0 and 1 (or numbers between) are expected")
        self.classes_, bits = class_bits(wanted)
        n_out = bits.shape[1]
        wide = max(given.shape[1], n_out)
        widths = [given.shape[1], *((wide, wide) if self.hidden is None else self.hidden), n_out]
        self.solutions_ = self.trainer.fit(
            widths,
            2 * torch.from_numpy(given).float() - 1,
            2 * torch.from_numpy(bits).float() - 1,
            classes=n_out > 1 and self.classes_ is not None,
        )
        self.network_ = self.solutions_.network()
        return self

    @torch.no_grad()
    def predict(self, x: Any) -> np.ndarray:
        """Labels (rows,), or output bits (rows, outputs) where `fit` was given bits."""
        sums = self.network_.activations(2 * torch.as_tensor(np.asarray(x, dtype=np.float32)) - 1).numpy()
        if self.classes_ is None:
            return (sums > 0).astype(np.int64)
        return self.classes_[(sums[:, 0] > 0).astype(int) if sums.shape[1] == 1 else sums.argmax(1)]

    def score(self, x: Any, y: Any) -> float:
        """Share of rows that are right in every output."""
        right = self.predict(x) == np.asarray(y)
        return float((right.all(1) if right.ndim == 2 else right).mean())


def class_bits(y: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Classes in order and outputs for them: one bit for two classes, one-hot rows for more; bits are kept."""
    if y.ndim == 2:
        if not np.isin(y, (0, 1)).all():
            raise ValueError("y: a matrix of output bits holds 0 and 1")
        return None, y.astype(np.int64)
    if y.ndim != 1:
        raise ValueError(f"y: expected shape (rows,) or (rows, outputs), given {y.shape}")
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y: every label is {classes[0]}; at least two classes are needed")
    return classes, numbers[:, None] if len(classes) == 2 else np.eye(len(classes), dtype=np.int64)[numbers]
