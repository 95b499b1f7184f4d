"""The two-layer network of arXiv 2602.16849: f(x, y) = W_out s(W_in (e_x + e_y)), and its exact solution.

Authors' code: Y-Agent/modular-addition-feature-learning.
"""

import math
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn import Example, Pretrained, check_shape, published_size

from .task import Pairs

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "square": torch.square,
    "gelu": F.gelu,
    "identity": lambda x: x,
    "abs": torch.abs,
    "cube": lambda x: x**3,
    "fourth": lambda x: x**4,
    "eighth": lambda x: x**8,
    "exp": torch.exp,
}


class ModularAdditionMLP(nn.Module, Pretrained, tags=["mechanistic-interpretability", "arxiv:2602.16849"]):
    """Two layers without biases on the sum of two one-hot vectors.

    Args:
        p: odd modulus.
        width: neurons H.
        activation: relu, square, gelu, identity, and others of `ACTIVATIONS`.
        init: `random`: both matrices init_scale * N(0, 1) / sqrt(p); `single_freq`: every neuron holds one frequency,
            all frequencies equally often, with amplitude init_scale and independent random phases in and out.
        init_scale: of the initial weights.
    """

    def __init__(
        self,
        p: int = 23,
        width: int = 512,
        activation: str = "relu",
        init: str = "random",
        init_scale: float = 0.1,
    ):
        super().__init__()
        if p < 3 or p % 2 == 0:
            raise ValueError(f"p: an odd number from 3, given {p}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r}: one of {', '.join(ACTIVATIONS)}")
        self.p, self.width, self.activation = p, width, activation
        if init == "random":
            w_in, w_out = torch.randn(width, p) / math.sqrt(p), torch.randn(p, width) / math.sqrt(p)
            w_in, w_out = init_scale * w_in, init_scale * w_out
        elif init == "single_freq":
            w_in, w_out = _single_frequency(p, width, init_scale)
        else:
            raise ValueError(f"init {init!r}: random or single_freq")
        self.w_in, self.w_out = nn.Parameter(w_in), nn.Parameter(w_out)

    def forward(self, pairs: Int[Tensor, "batch 2"], activation: str | None = None) -> Float[Tensor, "batch p"]:
        """Logits of the pairs (x, y); `activation` evaluates the same weights with another function."""
        check_shape("pairs", pairs, ("batch", 2))
        hidden = F.embedding_bag(pairs, self.w_in.T, mode="sum")
        return ACTIVATIONS[activation or self.activation](hidden) @ self.w_out.T

    def loss(self, batch: Pairs) -> Tensor:
        """Mean cross-entropy over ordered pairs."""
        each = F.cross_entropy(self(batch.pairs), batch.labels, reduction="none")
        weights = batch.weights.to(each.dtype)
        return each @ weights / weights.sum()

    @torch.no_grad()
    def load_official(self, state: Mapping[str, Tensor]) -> "ModularAdditionMLP":
        """Take the weights of the authors' model: `mlp.W_in` (H, p) and `mlp.W_out` (p, H); their constant `mlp.basis`
        is not needed.

        Raises:
            ValueError: names or shapes are others.
        """
        names = {"mlp.W_in": self.w_in, "mlp.W_out": self.w_out}
        if set(state) - {"mlp.basis"} != set(names):
            raise ValueError(f"state: expected {sorted(names)}, given {sorted(state)}")
        for name, ours in names.items():
            check_shape(name, state[name], tuple(ours.shape))
            ours.copy_(state[name])
        return self

    @classmethod
    def example(cls) -> Example:
        """p = 5."""
        return Example(cls(5, 8, "gelu", init_scale=1.0), (torch.tensor([[0, 1], [2, 4], [3, 3]]),))


def _single_frequency(p: int, width: int, scale: float) -> tuple[Tensor, Tensor]:
    frequencies = (p - 1) // 2
    k = torch.arange(width) % frequencies
    k = k[torch.randperm(width)] + 1
    angle = 2 * math.pi * k[:, None] * torch.arange(p) / p
    phases = 2 * math.pi * torch.rand(2, width, 1)
    return scale * torch.cos(angle + phases[0]), (scale * torch.cos(angle + phases[1])).T.contiguous()


@torch.no_grad()
def construct_exact_solution(p: int, phases: int = 3, alpha: float = 1.0, beta: float = 1.0) -> ModularAdditionMLP:
    """Weights that solve addition exactly: `phases` equally spaced neurons a frequency, psi = 2 phi, s(x) = x^2.

    Three phases suffice, and any number from five; one, two and four do not, since sum exp(2 i phi) or
    sum exp(4 i phi) does not vanish.
    """
    frequencies = (p - 1) // 2
    model = ModularAdditionMLP(p, phases * frequencies, "square").double()
    k = torch.arange(1, frequencies + 1, dtype=torch.float64).repeat_interleave(phases)
    phi = (2 * math.pi / phases * torch.arange(phases, dtype=torch.float64)).repeat(frequencies)
    angle = 2 * math.pi * k[:, None] * torch.arange(p, dtype=torch.float64) / p
    model.w_in.copy_(alpha * torch.cos(angle + phi[:, None]))
    model.w_out.copy_((beta * torch.cos(angle + 2 * phi[:, None])).T)
    return model


@published_size(parameters=23_552)
def modular_addition_23() -> ModularAdditionMLP:
    """p = 23, H = 512: the authors' smallest figures."""
    return ModularAdditionMLP(23, 512)


@published_size(parameters=57_722)
def modular_addition_31() -> ModularAdditionMLP:
    """p = 31, H = 931."""
    return ModularAdditionMLP(31, 931)


@published_size(parameters=198_656)
def modular_addition_97() -> ModularAdditionMLP:
    """p = 97, H = 1024: the default of the authors' configuration."""
    return ModularAdditionMLP(97, 1024)
