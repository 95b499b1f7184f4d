"""Spike-timing-dependent plasticity without labels (Diehl & Cook 2015, as reviewed in arXiv 1804.08150).

`STDPNetwork`: leaky neurons that all see the input, of which the first to fire silences the others; thresholds that
rise with every spike; at a spike of neuron j its weights change by

    dw_ij = rate (x_i - offset) (w_max - w_ij)^mu        x_i: trace of input i, + 1 a spike, decaying with tau

are clipped to [0, w_max], and are scaled to a constant sum before each batch. Labels are used afterwards only: every
neuron is given the class to which it answered most.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.measure.energy import add_neuron_updates
from paperworks.nn import Example, Pretrained, check_shape

from .encode import fixed_draws, rate
from .neurons import exponential_filter


def pair_update(
    dt: Float[Tensor, "*pairs"],
    a_plus: float = 1.0,
    a_minus: float = 1.0,
    tau_plus: float = 20.0,
    tau_minus: float = 20.0,
) -> Float[Tensor, "*pairs"]:
    """Change of a weight for one pair of spikes, dt = t_post - t_pre in steps.

    a_plus exp(-dt / tau_plus) where the input spike came first (dt > 0), -a_minus exp(dt / tau_minus) where it came
    last, 0 where both fell together.
    """
    size = dt.abs()
    return torch.where(dt > 0, a_plus * torch.exp(-size / tau_plus), -a_minus * torch.exp(-size / tau_minus)) * (
        dt != 0
    )


def trace_update(
    pre: Float[Tensor, "steps inputs"], post: Float[Tensor, "steps neurons"], a_plus: float = 1.0, a_minus: float = 1.0,
    tau_plus: float = 20.0, tau_minus: float = 20.0,
) -> Float[Tensor, "inputs neurons"]:  # fmt: skip
    """The sum of `pair_update` over all pairs of spikes of two trains, from two traces and one pass over time."""
    if pre.ndim != 2 or post.ndim != 2 or len(pre) != len(post):
        raise ValueError(f"post: expected shape ({len(pre)}, neurons), given {tuple(post.shape)}")
    before, after = torch.zeros_like(pre[0]), torch.zeros_like(post[0])
    made = pre.new_zeros(pre.shape[1], post.shape[1])
    for s_pre, s_post in zip(pre, post, strict=True):
        before, after = before * math.exp(-1 / tau_plus), after * math.exp(-1 / tau_minus)
        made += a_plus * before[:, None] * s_post - a_minus * s_pre[:, None] * after
        before, after = before + s_pre, after + s_post
    return made


class STDPNetwork(nn.Module, Pretrained):
    """One layer of neurons that learns without labels: (batch, inputs) in [0, 1] -> spike counts (batch, neurons).

    Args:
        n_inputs, n_neurons: sizes.
        steps: time steps a sample is shown while learning; `test_steps` afterwards.
        intensity: probability of an input spike a step at x = 1.
        beta: what a step leaves of the membrane.
        threshold: to which each neuron's own offset is added, which grows by `theta_step` a spike (not afterwards)
            and shrinks by the factor `theta_decay` a step (applied after each sample).
        weight_sum: to which each neuron's weights are scaled before each batch; w_max: the largest weight.
        offset: subtracted from the trace, so that inputs that were silent lose weight. tau: of the trace, in steps.
        mu: how a weight slows down near w_max.
    """

    exempt: ClassVar[dict[str, str]] = {"gradients": "it learns by the times of spikes; nothing is differentiated"}
    weight: Tensor
    draws: Tensor
    theta: Tensor
    labels: Tensor
    responses: Tensor

    def __init__(
        self,
        n_inputs: int = 64,
        n_neurons: int = 100,
        num_classes: int = 10,
        *,
        steps: int = 20,
        test_steps: int = 40,
        intensity: float = 0.5,
        beta: float = 0.9,
        threshold: float = 1.0,
        theta_step: float = 0.05,
        theta_decay: float = 0.99999,
        weight_sum: float = 6.4,
        w_max: float = 1.0,
        offset: float = 0.4,
        tau: float = 5.0,
        mu: float = 1.0,
    ):
        super().__init__()
        if min(n_inputs, n_neurons, num_classes, steps, test_steps) < 1:
            raise ValueError("n_inputs, n_neurons, num_classes, steps, test_steps: whole numbers from 1 expected")
        if not 0 < intensity <= 1:
            raise ValueError(f"intensity: above 0, at most 1 expected, given {intensity}")
        if weight_sum > n_inputs * w_max:
            raise ValueError(
                f"weight_sum: at most n_inputs x w_max = {n_inputs * w_max:g} expected, given {weight_sum}"
            )
        self.n_inputs, self.n_neurons, self.num_classes = n_inputs, n_neurons, num_classes
        self.steps, self.test_steps, self.intensity = steps, test_steps, intensity
        self.beta, self.threshold, self.theta_step, self.theta_decay = beta, threshold, theta_step, theta_decay
        self.weight_sum, self.w_max, self.offset, self.tau, self.mu = weight_sum, w_max, offset, tau, mu
        self.register_buffer("weight", torch.rand(n_inputs, n_neurons) * 0.3 * w_max)
        self.register_buffer("theta", torch.zeros(n_neurons))
        self.register_buffer("labels", torch.zeros(n_neurons, dtype=torch.long))
        self.register_buffer("responses", torch.zeros(num_classes, n_neurons))
        self.register_buffer("draws", fixed_draws(test_steps, (n_inputs,)), persistent=False)
        self.normalise()

    def normalise(self) -> None:
        """Scale every neuron's weights to `weight_sum`, none above w_max."""
        for _ in range(3):  # clipping takes from the sum, which the others make up for
            self.weight.mul_(self.weight_sum / self.weight.sum(0).clamp(min=1e-12)).clamp_(max=self.w_max)

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch neurons"]:
        """How often each neuron fired; learns nothing. The draws of the rate code are the same for every row."""
        return self._counts(x, None, self.draws)

    @torch.no_grad()
    def respond(
        self, x: Float[Tensor, "batch inputs"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "batch neurons"]:
        """Spike counts with frozen weights and thresholds, on fresh draws."""
        return self._counts(x, generator, None)

    def _counts(self, x: Tensor, generator: torch.Generator | None, draws: Tensor | None) -> Tensor:
        check_shape("x", x, ("batch", self.n_inputs))
        spikes = rate(x * self.intensity, self.test_steps, generator, draws)
        currents = spikes @ self.weight
        membrane, counts = torch.zeros_like(currents[0]), torch.zeros_like(currents[0])
        for current in currents:
            fires, best, membrane = self._winners(membrane, current)
            counts = counts.scatter_add(1, best, fires)
            membrane = membrane * (1 - fires)
        add_neuron_updates(counts.numel() * self.test_steps)
        return counts

    def _winners(self, membrane: Tensor, current: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whether a neuron of a row fires (rows, 1), which one (rows, 1), and the membranes before any reset."""
        membrane = torch.add(current, membrane, alpha=self.beta)
        best = (membrane - (self.threshold + self.theta)).max(1, keepdim=True)
        return (best.values > 0).to(membrane.dtype), best.indices, membrane

    def _compete(self, membrane: Tensor, current: Tensor) -> Tensor | None:
        """Who fires, at most one a row, or None where nobody does; advances `membrane`, silenced where one fired."""
        fires, best, after = self._winners(membrane, current)
        membrane.copy_(after)
        if not bool(fires.any()):
            return None
        membrane.mul_(1 - fires)
        return torch.zeros_like(membrane).scatter_(1, best, fires)

    @torch.no_grad()
    def learn(
        self, x: Float[Tensor, "rows inputs"], *, passes: int = 1, batch_size: int = 1, lr: float = 0.05, seed: int = 0
    ) -> list[float]:
        """Show the rows, shuffled, `passes` times; returns spikes a sample of each pass.

        Rows of a batch are shown side by side and their updates added at every step: one row at a time is the
        rule as published, more are an approximation of it.
        """
        check_shape("x", x, ("rows", self.n_inputs))
        if passes < 0 or batch_size < 1 or not lr >= 0:
            raise ValueError(f"passes, batch_size, lr: from 0, 1 and 0 expected, given {passes}, {batch_size}, {lr}")
        generator = torch.Generator(x.device).manual_seed(seed)
        spikes_a_sample = []
        for _ in range(passes):
            fired_in_all = 0.0
            for rows in torch.randperm(len(x), generator=generator, device=x.device).split(batch_size):
                self.normalise()
                given = rate(x[rows] * self.intensity, self.steps, generator)
                traces = exponential_filter(given, math.exp(-1 / self.tau)).sub_(self.offset)
                membrane = x.new_zeros(len(rows), self.n_neurons)
                for spikes, trace in zip(given, traces, strict=True):
                    fired = self._compete(membrane, spikes @ self.weight)
                    if fired is not None:
                        fired_in_all += float(fired.sum())
                        change = (trace.T @ fired).mul_((self.w_max - self.weight) ** self.mu)
                        self.weight.add_(change, alpha=lr).clamp_(0, self.w_max)
                        self.theta.add_(fired.sum(0), alpha=self.theta_step)
                self.theta.mul_(self.theta_decay**self.steps)
            spikes_a_sample.append(fired_in_all / max(1, len(x)))
        self.normalise()
        return spikes_a_sample

    @torch.no_grad()
    def assign_labels(
        self, x: Float[Tensor, "rows inputs"], y: Tensor, generator: torch.Generator | None = None
    ) -> None:
        """Give every neuron the class to which its mean count is highest."""
        if y.shape != (len(x),) or (len(y) and (int(y.min()) < 0 or int(y.max()) >= self.num_classes)):
            raise ValueError(
                f"y: expected shape ({len(x)},) with labels from 0 to {self.num_classes - 1}, given {tuple(y.shape)}"
            )
        counts = self.respond(x, generator)
        for label in range(self.num_classes):
            mine = counts[y == label]
            self.responses[label] = mine.mean(0) if len(mine) else 0
        self.labels.copy_(self.responses.argmax(0))

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "batch inputs"], generator: torch.Generator | None = None) -> Tensor:
        """The class whose neurons fired most on average (batch,); `assign_labels` comes first."""
        counts = self.respond(x, generator) if generator else self(x)
        member = torch.nn.functional.one_hot(self.labels, self.num_classes).to(counts.dtype)
        return (counts @ member / member.sum(0).clamp(min=1)).argmax(1)

    def fields(self, shape: Sequence[int]) -> Tensor:
        """Every neuron's weights in the shape of its input: (neurons, *shape)."""
        return self.weight.T.reshape(self.n_neurons, *shape)

    @classmethod
    def example(cls) -> Example:
        """Six inputs, four neurons."""
        return Example(cls(6, 4, 3, steps=5, test_steps=6, weight_sum=2.0), (torch.rand(3, 6),))
