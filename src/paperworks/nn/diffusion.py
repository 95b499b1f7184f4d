"""Noise schedules of variational diffusion: signal-to-noise ratios and the coefficients of a posterior step.

Time runs from noise to data: step 0 is almost pure noise and step T almost clean (NoProp, arXiv 2503.24322, equations
1 to 5). Models that count the other way read the arrays backwards. A continuous schedule learns its log
signal-to-noise ratio (appendix B there; arXiv 2107.00630).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class CosineSchedule:
    """alpha_bar_t = 1 - cos^2((t/T + s) / (1 + 2s) * pi/2), clamped; q(z_t|u) = N(sqrt(abar_t) u, 1 - abar_t).

    All attributes are float64 tensors: `alpha_bar` and `snr` (T + 1 entries, from noise to data), and one for each
    step t = 1..T: `a`, `b`, `c` of z_t = a_t u + b_t z_{t-1} + sqrt(c_t) eps, and `snr_gain` = SNR(t) - SNR(t-1).

    Args:
        steps: T.
        clamp: smallest alpha_bar and smallest 1 - alpha_bar; without it the last ratio has no bound.
        offset: s.
    """

    def __init__(self, steps: int, clamp: float = 1e-3, offset: float = 0.008):
        if steps < 1 or not 0 < clamp < 0.5:
            raise ValueError(f"steps from 1 and clamp between 0 and 0.5 expected, given {steps} and {clamp}")
        self.steps = steps
        share = torch.arange(steps + 1, dtype=torch.float64) / steps
        angle = (share + offset) / (1 + 2 * offset) * math.pi / 2
        self.alpha_bar = (1 - angle.cos() ** 2).clamp(clamp, 1 - clamp)
        self.snr = self.alpha_bar / (1 - self.alpha_bar)
        self.snr_gain = self.snr.diff()
        self.a, self.b, self.c = posterior_step(self.alpha_bar[:-1], self.alpha_bar[1:])


def posterior_step(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a, b, c of q(z_after | z_before, u) = N(a u + b z_before, c), from the two alpha_bars (before < after)."""
    alpha = before / after
    a = after.sqrt() * (1 - alpha) / (1 - before)
    b = alpha.sqrt() * (1 - after) / (1 - before)
    c = (1 - after) * (1 - alpha) / (1 - before)
    return a, b, c


class LearnedSchedule(nn.Module):
    """A monotone schedule on t in [0, 1], noise at 0: SNR(t) = exp(-gamma(t)), alpha_bar(t) = sigmoid(-gamma(t)).

    gamma(t) = gamma_clean + (gamma_noise - gamma_clean) (1 - g(t)), where g is a two-layer network of positive weights,
    scaled to run from 0 to 1 (arXiv 2503.24322, appendix B).

    Args:
        hidden: width of g.
        gamma_clean, gamma_noise: where the two trainable ends start.
    """

    def __init__(self, hidden: int = 64, gamma_clean: float = -7.0, gamma_noise: float = 7.0):
        super().__init__()
        self.gamma_clean = nn.Parameter(torch.tensor(gamma_clean))
        self.log_span = nn.Parameter(torch.tensor(math.log(gamma_noise - gamma_clean)))  # the ends never cross
        self.weight_in = nn.Parameter(torch.randn(hidden))
        self.bias_in = nn.Parameter(torch.randn(hidden))
        self.weight_out = nn.Parameter(torch.randn(hidden) - math.log(hidden))

    def _network(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """g before scaling, and its derivative."""
        slope = F.softplus(self.weight_in)
        out = F.softplus(self.weight_out)
        inner = torch.sigmoid(t[..., None] * slope + self.bias_in)
        return (inner * out).sum(-1), (inner * (1 - inner) * slope * out).sum(-1)

    def _gamma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        ends, _ = self._network(torch.stack([torch.zeros_like(self.log_span), torch.ones_like(self.log_span)]))
        value, slope = self._network(t)
        reach = ends[1] - ends[0]
        span = self.log_span.exp()
        return self.gamma_clean + span * (1 - (value - ends[0]) / reach), -span * slope / reach

    def gamma(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The negative log signal-to-noise ratio; falls with t."""
        return self._gamma(t)[0]

    def alpha_bar(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Share of signal: sigmoid(-gamma(t))."""
        return torch.sigmoid(-self.gamma(t))

    def snr(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """exp(-gamma(t))."""
        return (-self.gamma(t)).exp()

    def snr_slope(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """SNR'(t) = -gamma'(t) exp(-gamma(t)), positive everywhere, in closed form (no second autograd pass)."""
        gamma, slope = self._gamma(t)
        return -slope * (-gamma).exp()

    def forward(self, t: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """alpha_bar(t)."""
        return self.alpha_bar(t)
