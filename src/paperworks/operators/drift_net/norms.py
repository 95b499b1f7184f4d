"""Layer norms of scOT: scale and shift are affine in the lead time, or plain vectors where there is no time."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConditionalLayerNorm(nn.Module):
    """y = (w t + u) norm(x) + (v t + b): channels (the last axis) standardised, then scaled and shifted by time."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight, self.bias = nn.Linear(1, dim), nn.Linear(1, dim)

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], time: Float[Tensor, "batch 1"] | None
    ) -> Float[Tensor, "batch *grid channels"]:
        """x (batch, ..., dim) and one time a row (batch, 1)."""
        if time is None:
            raise ValueError("time: this norm is conditioned on time, expected shape (batch, 1), given None")
        shape = (len(x), *[1] * (x.ndim - 2), self.dim)
        standard = F.layer_norm(x, (self.dim,), eps=self.eps)
        return torch.addcmul(self.bias(time).view(shape), standard, self.weight(time).view(shape))


class PlainLayerNorm(nn.Module):
    """The ordinary affine layer norm, called as the conditional one is; the time is not looked at."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(
        self, x: Float[Tensor, "batch *grid channels"], time: Float[Tensor, "batch 1"] | None = None
    ) -> Float[Tensor, "batch *grid channels"]:
        """x (batch, ..., dim)."""
        return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)


def layer_norm(dim: int, time_conditioned: bool) -> nn.Module:
    """The norm of a model with or without lead time."""
    return ConditionalLayerNorm(dim) if time_conditioned else PlainLayerNorm(dim)
