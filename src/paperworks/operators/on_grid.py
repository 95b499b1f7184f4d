"""Models of scattered points as maps of fields on a grid: (batch, channels, *size) -> (batch, out_channels, *size).

DeepONet and its baseline take a function at fixed sensors and give another one at any location; here sensors and
locations are the points of one grid, at which each net is run once for all functions.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape

from .continuum_attention import TransformerNeuralOperator
from .deeponet import FNN, DeepONet


def grid_points(size: Sequence[int]) -> Tensor:
    """Locations on the unit cube, i / n along each axis: (points, dims)."""
    axes = [torch.arange(n) / n for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)


class DeepONetOnGrid(nn.Module, Pretrained, tags=["operator-learning", "arxiv:1910.03193"]):
    """A DeepONet whose sensors and locations are a grid's points; its trunk and branch have `depth` hidden layers."""

    points: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: Sequence[int],
        width: int,
        depth: int = 2,
        activation: str = "gelu",
    ):
        super().__init__()
        self.in_channels, self.out_channels, self.size = in_channels, out_channels, tuple(size)
        hidden, features = [width] * depth, width * out_channels
        self.net = DeepONet(
            (in_channels * math.prod(size), *hidden, features),
            (len(size), *hidden, features),
            activation=activation,
            num_outputs=out_channels,
        )
        self.register_buffer("points", grid_points(size))

    def forward(self, u: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch out *size"]:
        """Output fields on the same grid."""
        check_shape("u", u, ("batch", self.in_channels, *self.size))
        values = self.net.grid(u.flatten(1), self.points)
        return values.movedim(-1, 1).unflatten(-1, self.size)

    @classmethod
    def example(cls) -> Example:
        """Two channels to three on a grid of 4 x 6 points."""
        return Example(cls(2, 3, (4, 6), 8), (torch.randn(3, 2, 4, 6),))


class FNNOnGrid(nn.Module):
    """One fully connected net on the concatenation of all sensor values and a location, at all locations of a grid.

    Its first layer is linear in the concatenation, so the sensors' part is computed once a function.
    """

    points: Tensor

    def __init__(self, in_channels: int, out_channels: int, size: Sequence[int], width: int, depth: int = 2):
        super().__init__()
        self.in_channels, self.size = in_channels, tuple(size)
        sensors = in_channels * math.prod(size)
        self.net = FNN(sensors, len(size), [width] * depth, out_channels, activation="gelu")
        self.register_buffer("points", grid_points(size))

    def forward(self, u: Float[Tensor, "batch channels *size"]) -> Float[Tensor, "batch out *size"]:
        """Output fields on the same grid."""
        check_shape("u", u, ("batch", self.in_channels, *self.size))
        mlp, sensors = self.net.net, self.net.n_sensors
        first = mlp.layers[0]
        assert isinstance(first, nn.Linear)
        of_function = torch.nn.functional.linear(u.flatten(1), first.weight[:, :sensors], first.bias)
        of_location = self.points @ first.weight[:, sensors:].T
        x = mlp.activation(of_function[:, None] + of_location)
        for layer in mlp.layers[1:-1]:
            x = mlp.activation(layer(x))
        return mlp.layers[-1](x).movedim(-1, 1).unflatten(-1, self.size)


class TransformerOnLine(nn.Module):
    """A transformer operator whose points are those of a line, of any number."""

    def __init__(self, in_channels: int, out_channels: int, width: int, heads: int = 4, layers: int = 4):
        super().__init__()
        self.net = TransformerNeuralOperator(
            in_channels, out_channels, d_model=width, heads=heads, layers=layers, ff=2 * width
        )

    def forward(self, u: Float[Tensor, "batch channels points"]) -> Float[Tensor, "batch out points"]:
        """Output functions at the same points."""
        coords = grid_points(u.shape[2:]).to(u)
        return self.net(u.mT, coords).mT
