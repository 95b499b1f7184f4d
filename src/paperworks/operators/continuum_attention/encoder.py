"""The parts that the three operators of arXiv 2406.06486 share: attention over points, and the post-norm layer.

Attention on a domain D (section 2 of the paper) replaces v by the mean of V v under a density that x chooses,

    (A v)(x) = int_D V v(y) p(y; x) dy,   p(y; x) = exp(<Q v(x), K v(y)> / sqrt d_k) / int_D exp(...) dz .

Both integrals by one quadrature with weights w_j give w_j exp(s_ij) / sum_l w_l exp(s_il): softmax of s_ij + log w_j.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.operators.quadrature_attention import quadrature_attention, trapezoid_weights

CACHED = 1024  # points whose hidden values are held at once


def attention_maps(d_model: int, heads: int) -> tuple[nn.Linear, nn.Linear]:
    """The pointwise maps to queries, keys and values, (3 d_model), and of what the heads found.

    Raises:
        ValueError: the heads do not share d_model evenly.
    """
    check_heads(d_model, heads)
    return nn.Linear(d_model, 3 * d_model), nn.Linear(d_model, d_model)


def check_heads(d_model: int, heads: int) -> None:
    """Raise a ValueError unless the heads share d_model evenly."""
    if heads < 1 or d_model % heads:
        raise ValueError(f"heads: must divide d_model, given {heads} and {d_model}")


class ContinuumAttention(nn.Module):
    """Multi-head attention as an integral over sampled points.

    Args:
        dropout: of attention weights, while training.
    """

    def __init__(self, d_model: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query_key_value, self.output = attention_maps(d_model, heads)

    def forward(
        self, x: Float[Tensor, "batch points d_model"], weights: Float[Tensor, "... points"] | None = None
    ) -> Float[Tensor, "batch points d_model"]:
        """x at points whose quadrature weights are (points,) or (batch, points); None: all alike."""
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = quadrature_attention(q, k, v, weights, dropout=self.dropout if self.training else 0.0)
        return self.output(mixed.transpose(1, 2).flatten(2))


class EncoderLayer(nn.Module):
    """x <- LN(x + A x), then x <- LN(x + W2 gelu(W1 x)): post-norm, channels last.

    Args:
        attention: A, any module that keeps the shape of x.
        dropout: after A and in the feed-forward part.
        hidden_dropout: also after the activation, as in the authors' patch operators.
    """

    def __init__(self, attention: nn.Module, d_model: int, ff: int, dropout: float = 0.0, hidden_dropout: bool = True):
        super().__init__()
        self.attention = attention
        self.hidden, self.back = nn.Linear(d_model, ff), nn.Linear(ff, d_model)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        self.dropout, self.hidden_dropout = dropout, hidden_dropout

    def forward(
        self, x: Float[Tensor, "*points d_model"], weights: Float[Tensor, "... n"] | None = None
    ) -> Float[Tensor, "*points d_model"]:
        """`weights` go to the attention, if there are any."""
        mixed = self.attention(x) if weights is None else self.attention(x, weights)
        x = self.norm_attention(x + self._dropped(mixed))
        return self.norm_feed_forward(x + self._dropped(self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        """Point by point. Where no gradient needs the hidden values, in pieces that stay in the processor's cache."""
        pieces = [x]
        if not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            pieces = list(x.reshape(-1, x.shape[-1]).split(CACHED))
        done = []
        for piece in pieces:
            hidden = F.gelu(self.hidden(piece))
            done.append(self.back(self._dropped(hidden) if self.hidden_dropout else hidden))
        return (done[0] if len(done) == 1 else torch.cat(done)).view(x.shape)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout) if self.training and self.dropout else x


def point_weights(coords: Float[Tensor, "... points dim"]) -> Float[Tensor, "... points"] | None:
    """Trapezoidal weights of points on a line, in whatever order they come; None in more dimensions."""
    if coords.shape[-1] > 1:
        return None
    ordered, order = coords[..., 0].sort(dim=-1)
    return torch.empty_like(ordered).scatter(-1, order, trapezoid_weights(ordered))


def scattered_weights(
    coords: Float[Tensor, "points dim"], samples: int = 100_000, seed: int = 0
) -> Float[Tensor, "points"]:
    """Quadrature weights of scattered points in any dimension: the share of their bounding box nearest to each.

    Args:
        coords: for example the nodes of an unstructured mesh.
        samples: of the box; a share is right to about 1 / sqrt(samples * share).
    """
    from scipy.spatial import KDTree

    points = coords.detach().cpu().double().numpy()
    low, high = points.min(0), points.max(0)
    engine = torch.quasirandom.SobolEngine(points.shape[1], scramble=True, seed=seed)
    drawn = low + (high - low) * engine.draw(samples).double().numpy()
    _, nearest = KDTree(points).query(drawn)
    return torch.bincount(torch.as_tensor(nearest), minlength=len(points)).to(coords) / samples
