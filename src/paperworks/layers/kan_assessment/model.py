"""What is compared with a KAN: perceptrons with learnt spline activations, and budgets that match (arXiv 2407.11075).

The paper weighs other people's comparisons, above all KANbeFair (arXiv 2407.16674, yu-rp/KANbeFair), whose counting
formulas are kept here beside our own counts.
"""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.layers.kan import KAN, BSplineActivation
from paperworks.measure import count_operations, count_parameters, match_width
from paperworks.nn import Example, Pretrained, check_shape
from paperworks.nn.mlp import MLP

ACTIVATION_COST = {"relu": 1, "sigmoid": 4, "silu": 5, "tanh": 6, "gelu": 14, "identity": 0}
FAMILIES = ("kan", "mlp", "spline_mlp", "spline_first")


class BSplineMLP(nn.Module, Pretrained, tags=["kan", "arxiv:2407.16674"]):
    """A perceptron whose activations are learnt B-splines, one a unit.

    Args:
        widths: features from input to output.
        grid_size, order, low, high: of every spline.
        spline_first: put the splines before each linear layer instead of after: a KAN whose edge functions are
            multiples of one function an input.
    """

    def __init__(
        self,
        widths: Sequence[int],
        grid_size: int = 5,
        order: int = 3,
        low: float = -2.0,
        high: float = 2.0,
        spline_first: bool = False,
    ):
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths: at least input and output, given {tuple(widths)}")
        self.in_features = widths[0]
        layers: list[nn.Module] = []
        for place, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            if spline_first or place:
                layers.append(BSplineActivation(n_in, grid_size, order, low, high))
            layers.append(nn.Linear(n_in, n_out))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch out"]:
        """Layer after layer."""
        check_shape("x", x, ("batch", self.in_features))
        return self.layers(x)

    @classmethod
    def example(cls) -> Example:
        """Three inputs, four hidden units, two outputs."""
        return Example(cls((3, 4, 2)), (torch.randn(5, 3),))


def build(family: str, n_in: int, width: int, n_out: int, low: float = -1.0, high: float = 1.0) -> nn.Module:
    """A network with `width` hidden units, the perceptron's in two layers, whose inputs lie on [low, high]."""
    if family == "kan":
        return KAN((n_in, width, n_out), hidden_range=2.0, options={"low": low, "high": high})
    if family == "mlp":
        return MLP((n_in, max(1, (width + 1) // 2), max(1, width // 2), n_out), "gelu", "he_normal")
    if family in ("spline_mlp", "spline_first"):
        return BSplineMLP((n_in, width, n_out), low=-2.0, high=2.0, spline_first=family == "spline_first")
    raise ValueError(f"family {family!r}: one of {', '.join(FAMILIES)}")


def operations(net: nn.Module, n_in: int) -> int:
    """Operations of one row's forward pass, splines counted."""
    device = next(net.parameters()).device
    return int(count_operations(lambda: net(torch.zeros(1, n_in, device=device)), backward=False))


def match_budget(
    family: str, n_in: int, n_out: int, *, parameters: float | None = None, flops: float | None = None
) -> int:
    """The hidden width at which a family has this many parameters, or takes this many operations a row.

    Raises:
        ValueError: not exactly one budget is given.
    """
    if (parameters is None) == (flops is None):
        raise ValueError("match_budget: give either parameters or flops")
    measure: Callable[[nn.Module], float] = count_parameters
    if parameters is None:
        measure = lambda net: operations(net, n_in)  # noqa: E731
    target = parameters if parameters is not None else flops
    assert target is not None
    return match_width(lambda width: build(family, n_in, width, n_out), target, measure)


def kanbefair_count(
    family: str, widths: Sequence[int], grid_size: int = 5, order: int = 3, activation: str = "gelu"
) -> tuple[int, float]:
    """Parameters and operations by KANbeFair's formulas, for `kan` (without shortcut), `mlp` and `spline_mlp`.

    They charge the last layer for an activation or spline that the models do not have, and count parameters by what a
    layer needs on paper.
    """
    parameters, flops = 0, 0.0
    splines = 9 * order * (grid_size + 1.5 * order) + 2 * grid_size - 2.5 * order
    for n_in, n_out in itertools.pairwise(widths):
        if family == "kan":
            parameters += n_in * n_out * (grid_size + order + 3) + n_out
            flops += n_in * n_out * (splines + 1) + ACTIVATION_COST["silu"] * n_in + 2 * n_in * n_out
        elif family == "mlp":
            parameters += n_out * (n_in + 1)
            flops += 2 * n_in * n_out + ACTIVATION_COST[activation] * n_out
        elif family == "spline_mlp":
            parameters += n_out * (n_in + 1) + n_out * (grid_size + order)
            flops += 2 * n_in * n_out + n_out * (splines - 1)
        else:
            raise ValueError(f"family {family!r}: kan, mlp or spline_mlp")
    return parameters, flops
