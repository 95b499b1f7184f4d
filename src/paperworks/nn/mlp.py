"""Multilayer perceptrons: one, and many of one shape side by side."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "silu": F.silu,
    "sin": torch.sin,
    "identity": lambda x: x,
}
INITIALIZERS: dict[str, Callable[[Tensor], Tensor]] = {
    "glorot_normal": nn.init.xavier_normal_,
    "glorot_uniform": nn.init.xavier_uniform_,
    "he_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
}


def activation_function(name: str) -> Callable[[Tensor], Tensor]:
    """The elementwise function of this name; a ValueError lists the names."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r}: one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def initializer_function(name: str) -> Callable[[Tensor], Tensor]:
    """The weight initialiser of this name; a ValueError lists the names."""
    if name not in INITIALIZERS:
        raise ValueError(f"initializer {name!r}: one of {', '.join(INITIALIZERS)}")
    return INITIALIZERS[name]


class MLP(nn.Module):
    """Linear layers of the given `sizes` with an activation between them, biases zero at the start.

    Args:
        sizes: features from input to output, for example (100, 40, 40).
        activate_last: follow the last layer by the activation too.
        bias_last: whether the last layer has a bias; the others always do.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        initializer: str = "glorot_normal",
        activate_last: bool = False,
        bias_last: bool = True,
    ):
        super().__init__()
        if len(sizes) < 2:
            raise ValueError(f"sizes: at least input and output, given {tuple(sizes)}")
        pairs = list(itertools.pairwise(sizes))
        self.layers = nn.ModuleList(
            nn.Linear(i, o, bias=bias_last or index + 1 < len(pairs)) for index, (i, o) in enumerate(pairs)
        )
        self.activation, self.activate_last = activation_function(activation), activate_last
        initialise = initializer_function(initializer)
        for layer in self.layers:
            initialise(layer.weight)  # type: ignore[arg-type]
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch outputs"]:
        """Values at x."""
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index < last or self.activate_last:
                x = self.activation(x)
        return x


class StackedMLP(nn.Module):
    """`count` independent MLPs of one shape as batched products: weights (count, in, out), biases (count, 1, out)."""

    def __init__(
        self,
        count: int,
        sizes: Sequence[int],
        activation: str = "relu",
        initializer: str = "glorot_normal",
        bias_last: bool = True,
    ):
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.count, self.activation = count, activation_function(activation)
        initialise = initializer_function(initializer)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for index, (i, o) in enumerate(pairs):
            weight = torch.empty(count, i, o)
            for each in weight:
                initialise(each)
            self.weights.append(nn.Parameter(weight))
            if bias_last or index + 1 < len(pairs):
                self.biases.append(nn.Parameter(torch.zeros(count, 1, o)))

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "count batch outputs"]:
        """All networks' values at the same x."""
        x = x.expand(self.count, *x.shape)
        for index, weight in enumerate(self.weights):
            x = torch.baddbmm(self.biases[index], x, weight) if index < len(self.biases) else torch.bmm(x, weight)
            if index + 1 < len(self.weights):
                x = self.activation(x)
        return x
