"""Relative errors of sampled functions, one number a sample: integrals by quadrature, and the authors' H1-like loss."""

import torch
from jaxtyping import Float
from torch import Tensor


def relative_l2(
    guess: Float[Tensor, "batch points channels"],
    truth: Float[Tensor, "batch points channels"],
    weights: Float[Tensor, "points"] | None = None,
) -> Float[Tensor, "batch"]:
    """|guess - truth| / |truth| in L2, the integrals by the weights of the points (None: all alike)."""
    error, size = (guess - truth).square().sum(-1), truth.square().sum(-1)
    if weights is not None:
        error, size = error * weights, size * weights
    return (error.sum(-1) / size.sum(-1)).sqrt()


def relative_h1(
    guess: Float[Tensor, "batch channels height width"], truth: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch"]:
    """(|e| + |grad e|) / (|v| + |grad v|), the authors' loss in two dimensions.

    Norms are root mean squares over pixels; gradients are central differences in units of pixels, one-sided at edges.
    """

    def size(field: Tensor) -> Tensor:
        down, right = torch.gradient(field, dim=(-2, -1))
        slopes = down.square() + right.square()
        return field.square().flatten(1).mean(1).sqrt() + slopes.flatten(1).mean(1).sqrt()

    return size(guess - truth) / size(truth)
