"""One network for every quantile of a number: its weights are a function of the quantile's level, by MIP."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape
from paperworks.nn.mlp import MLP

from .model import hypernetize


class QuantileNetwork(nn.Module, Pretrained, tags=["quantile-regression", "arxiv:2304.07645"]):
    """Quantiles of y given x, for any levels, from one hypernetwork.

    Args:
        in_features: numbers in a row.
        width, depth: of the primary network, in units and linear layers.
        hidden: widths of the hypernetwork.
        encoding, residual: `cos_sin` and True are MIP.
    """

    def __init__(
        self,
        in_features: int,
        width: int = 32,
        depth: int = 3,
        hidden: Sequence[int] = (16, 32, 64),
        encoding: str = "cos_sin",
        residual: bool = True,
    ):
        super().__init__()
        self.in_features = in_features
        primary = MLP((in_features, *[width] * (depth - 1), 1), "relu", "he_normal")
        self.model = hypernetize(primary, 1, hidden=hidden, encoding=encoding, residual=residual)

    def forward(
        self, x: Float[Tensor, "batch features"], levels: Float[Tensor, " levels"]
    ) -> Float[Tensor, "batch levels"]:
        """The quantiles of every row at every level from 0 to 1."""
        check_shape("x", x, ("batch", self.in_features))
        check_shape("levels", levels, ("levels",))
        return self.model(x, gamma=levels[:, None])[..., 0].T

    def loss(self, x: Tensor, y: Float[Tensor, " batch"], levels: Tensor) -> Tensor:
        """Mean pinball loss, whose minimum over all functions is the quantile."""
        return pinball(self(x, levels), y, levels).mean()

    @classmethod
    def example(cls) -> Example:
        """Three inputs, two levels."""
        return Example(cls(3, 8, 2, (8, 8)), (torch.randn(4, 3), torch.tensor([0.1, 0.7])), (0, None))


def pinball(q: Float[Tensor, "batch levels"], y: Float[Tensor, " batch"], levels: Float[Tensor, " levels"]) -> Tensor:
    """max(level (y - q), (level - 1) (y - q)), (batch, levels)."""
    error = y[:, None] - q
    return torch.maximum(levels * error, (levels - 1) * error)
