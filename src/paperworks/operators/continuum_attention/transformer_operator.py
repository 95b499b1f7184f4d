"""The transformer neural operator: functions sampled at any points to functions at the same points.

Calvello, Kovachki, Levine, Stuart, arXiv 2406.06486 (section 4.1); authors' code
EdoardoCalvello/TransformerNeuralOperators. Values and coordinates are lifted together, pass a post-norm encoder whose
attention is an integral over the points, and are projected; there is no other encoding of positions.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size

from .encoder import ContinuumAttention, EncoderLayer, point_weights

DEAD = ("linear_in.weight", "linear_in.bias", "pe_discrete", "even_inds", "odd_inds")  # in the authors' state, unused


class TransformerNeuralOperator(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2406.06486"]):
    """u at points x_j to v at the same points, with a discretisation-invariant attention.

    Args:
        in_channels, out_channels: components of u and of v.
        coord_dim: dimension of the domain.
        d_model, heads, layers, ff: width, attention heads, encoder layers, hidden channels of the feed-forward part.
        initial_condition: v at the first point is given and enters the first token (the authors' Lorenz runs).
        dropout: the authors' runs use 1e-4.
        quadrature: `trapezoid` weighs points on a line by their gaps, `none` is plain softmax; weights given to
            `forward` go before either.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        coord_dim: int = 1,
        d_model: int = 128,
        heads: int = 8,
        layers: int = 6,
        ff: int = 128,
        initial_condition: bool = False,
        dropout: float = 0.0,
        quadrature: str = "trapezoid",
    ):
        super().__init__()
        if quadrature not in ("trapezoid", "none"):
            raise ValueError(f"quadrature {quadrature!r}: trapezoid or none")
        self.in_channels, self.out_channels, self.coord_dim = in_channels, out_channels, coord_dim
        self.quadrature = quadrature
        self.lift = nn.Linear(in_channels + coord_dim, d_model)
        self.lift_first = nn.Linear(in_channels + out_channels + coord_dim, d_model) if initial_condition else None
        self.layers = nn.ModuleList(
            EncoderLayer(ContinuumAttention(d_model, heads, dropout), d_model, ff, dropout, hidden_dropout=False)
            for _ in range(layers)
        )
        self.project = nn.Linear(d_model, out_channels)

    def forward(
        self,
        u: Float[Tensor, "batch points channels"],
        coords: Float[Tensor, "... points dim"],
        weights: Float[Tensor, "... points"] | None = None,
        initial: Float[Tensor, "batch out"] | None = None,
    ) -> Float[Tensor, "batch points out"]:
        """v (batch, points, out_channels).

        Args:
            u: (batch, points, in_channels).
            coords: (points, coord_dim) for all rows, or (batch, points, coord_dim).
            weights: quadrature weights of the points, (points,) or (batch, points), of any common scale. 0 takes a
                point out of every integral, so that rows of different length can be padded.
            initial: (batch, out_channels), v at the first point, where the model asks for it.
        """
        points = self._check(u, coords, weights, initial)
        if weights is None and self.quadrature == "trapezoid":
            weights = point_weights(coords)
        at = coords if coords.ndim == 3 else coords.expand(len(u), points, self.coord_dim)
        x = torch.cat([u, at.to(u)], dim=-1)
        tokens = self.lift(x)
        if self.lift_first is not None and initial is not None:
            first = torch.cat([u[:, :1], initial[:, None], at[:, :1].to(u)], dim=-1)
            tokens = torch.cat([self.lift_first(first), tokens[:, 1:]], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, weights)
        return self.project(tokens)

    def _check(self, u: Tensor, coords: Tensor, weights: Tensor | None, initial: Tensor | None) -> int:
        check_shape("u", u, ("batch", "points", self.in_channels))
        batch, points = u.shape[:2]
        if coords.ndim not in (2, 3) or coords.shape[-1] != self.coord_dim:
            raise ValueError(
                f"coords: expected shape (points, {self.coord_dim}) or (batch, points, {self.coord_dim}), "
                f"given {tuple(coords.shape)}"
            )
        if coords.shape[-2] != points:
            raise ValueError(
                f"u and coords: expected shape (batch, {coords.shape[-2]}, {self.in_channels}) of u for as many "
                f"points as coords has, given {tuple(u.shape)}"
            )
        if coords.ndim == 3:
            check_shape("coords", coords, (batch, points, self.coord_dim))
        if weights is not None:
            check_shape("weights", weights, (points,) if weights.ndim == 1 else (batch, points))
        if (initial is None) != (self.lift_first is None):
            needed = "needs" if initial is None else "was built without"
            raise ValueError(f"initial: this model {needed} an initial condition (initial_condition=True)")
        if initial is not None:
            check_shape("initial", initial, (batch, self.out_channels))
        return points

    def load_official(self, state: Mapping[str, Tensor]) -> "TransformerNeuralOperator":
        """Load the state dict of the authors' TNO, or of their 2D transformer, strictly.

        Their first linear map and the tables of positions are never used in these configurations and are left out.

        Raises:
            ValueError: names or shapes are others, or attention has another temperature than 1 / sqrt(d_k).
        """
        todo, renamed = {name: tensor for name, tensor in state.items() if name not in DEAD}, {}
        try:
            for i, layer in enumerate(self.layers):
                theirs, ours = f"encoder.layers.{i}.", f"layers.{i}."
                attention = theirs + "self_attn."
                stock = f"{attention}in_proj_weight" in todo
                scale = todo.pop(f"{attention}scaled_dot_product_attention.scale", None)
                d_k = self.lift.out_features // layer.attention.heads  # type: ignore[union-attr]
                if scale is not None and abs(float(scale) - math.sqrt(d_k)) > 1e-5:
                    raise ValueError(f"state: scores are divided by {float(scale):g}, here by sqrt({d_k})")
                for kind in ("weight", "bias"):
                    if stock:
                        renamed[f"{ours}attention.query_key_value.{kind}"] = todo.pop(f"{attention}in_proj_{kind}")
                    else:
                        parts = [todo.pop(f"{attention}W_{name}.{kind}") for name in "qkv"]
                        renamed[f"{ours}attention.query_key_value.{kind}"] = torch.cat(parts)
                    names = (
                        ("attention.output", "self_attn.out_proj" if stock else "self_attn.W_o"),
                        ("hidden", "linear1" if stock else "feed_forward.fc1"),
                        ("back", "linear2" if stock else "feed_forward.fc2"),
                        ("norm_attention", "norm1"),
                        ("norm_feed_forward", "norm2"),
                    )
                    for name, official in names:
                        renamed[f"{ours}{name}.{kind}"] = todo.pop(f"{theirs}{official}.{kind}")
            for name, official in (
                ("lift", "linear_in_position"),
                ("lift_first", "linear_in_initialcond"),
                ("project", "linear_out"),
            ):
                for kind in ("weight", "bias"):
                    if name != "lift_first" or self.lift_first is not None:
                        renamed[f"{name}.{kind}"] = todo.pop(f"{official}.{kind}")
            self.load_state_dict(renamed | todo, strict=True)
        except (KeyError, RuntimeError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two components to two on nine uneven points, the initial value given."""
        made = cls(2, 2, 1, d_model=16, heads=2, layers=2, ff=12, initial_condition=True)
        coords = torch.linspace(0, 1, 9)[:, None] ** 2
        weights = torch.rand(9) + 0.1
        return Example(made, (torch.randn(3, 9, 2), coords, weights, torch.randn(3, 2)), (0, None, None, 0))


@published_size(parameters=598_017)
def tno_controlled_ode() -> TransformerNeuralOperator:
    """Controlled ODE, input to state (authors' script 1d_experiments_CDE; without its unused first linear map)."""
    return TransformerNeuralOperator(1, 1, 1)


@published_size(parameters=598_529)
def tno_lorenz_one() -> TransformerNeuralOperator:
    """Lorenz-63, x to y (authors' script 1d_experiments_L63; without its unused first linear map)."""
    return TransformerNeuralOperator(1, 1, 1, initial_condition=True)


@published_size(parameters=598_786)
def tno_lorenz_two() -> TransformerNeuralOperator:
    """Lorenz-63, x to (y, z) (authors' script 1d_experiments_L63; without its unused first linear map)."""
    return TransformerNeuralOperator(1, 2, 1, initial_condition=True)


@published_size(parameters=598_145)
def tno_darcy() -> TransformerNeuralOperator:
    """Darcy flow on all pixels as points (authors' script 2d_experiments_TNO; without its unused first linear map)."""
    return TransformerNeuralOperator(1, 1, 2)
