"""Spiking neurons in discrete time (arXiv 1804.08150, Section 2): leaky integrate-and-fire, integrate-and-fire, with
a synaptic current, and the leaky readout. All tensors are time-major, (steps, batch, ...); no module keeps state.

A layer's input is known for all steps before its neurons run, so the products of a layer are one matrix product over
steps x batch, and only the recurrence below loops over time. With h[t] the membrane before the reset,

    h[t] = beta h[t-1] + I[t] - k s[t-1]        reset by subtraction (k: beta theta, or theta where delayed)
    h[t] = beta h[t-1] (1 - s[t-1]) + I[t]      reset to zero
    s[t] = 1 where h[t] > theta, else 0

The scan is one autograd node that keeps h alone. Backwards, with g the gradient of a quantity and sigma' the surrogate:

    g_h[t] = g_m[t] + beta g_h[t+1] + (g_s[t] - k g_h[t+1]) sigma'             subtraction
    g_h[t] = g_m[t] + beta (1 - s[t]) g_h[t+1] + (g_s[t] - beta h[t] g_h[t+1]) sigma'      zero

where g_m comes from uses of the membrane itself, and the terms in g_h[t+1] inside the brackets are left out by
`detach_reset`.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from paperworks.measure.energy import add_neuron_updates

from .surrogates import Surrogate, spike

RESETS = ("subtract", "zero")


class _Scan(torch.autograd.Function):
    """Spikes and membranes of all steps."""

    @staticmethod
    def forward(  # type: ignore[override, no-untyped-def]
        ctx, current: Tensor, start: float, beta: float, theta: float, k: float, zero: bool, detach: bool,
        surrogate: Surrogate,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        membrane, spikes = torch.empty_like(current), torch.empty_like(current)
        inputs, h, s = current.unbind(0), membrane.unbind(0), spikes.unbind(0)
        torch.add(inputs[0], beta * start, out=h[0])
        torch.gt(h[0], theta, out=s[0])
        kept = torch.empty_like(h[0]) if zero else None
        for t in range(1, len(h)):
            if kept is None:
                torch.add(inputs[t], h[t - 1], alpha=beta, out=h[t])
                h[t].sub_(s[t - 1], alpha=k)
            else:
                torch.le(h[t - 1], theta, out=kept)
                torch.addcmul(inputs[t], h[t - 1], kept, value=beta, out=h[t])
            torch.gt(h[t], theta, out=s[t])
        ctx.save_for_backward(membrane)
        ctx.set_materialize_grads(False)
        ctx.how = beta, theta, k, zero, detach, surrogate
        return spikes, membrane

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor | None) -> tuple[Any, ...]:  # type: ignore[override, no-untyped-def]
        (membrane,) = ctx.saved_tensors
        beta, theta, k, zero, detach, surrogate = ctx.how
        of_spikes, of_membrane = (None if g is None else g.unbind(0) for g in gradients)
        made = torch.empty_like(membrane)
        h, g = membrane.unbind(0), made.unbind(0)
        derivative, inner = torch.empty_like(h[0]), torch.empty_like(h[0])
        last = len(h) - 1
        for t in range(last, -1, -1):
            torch.sub(h[t], theta, out=derivative)
            later = g[t + 1] if t < last else None
            if later is None:
                g[t].zero_()
            elif zero:
                torch.le(derivative, 0, out=inner)  # what is not reset
                torch.mul(later, inner, out=g[t]).mul_(beta)
            else:
                torch.mul(later, beta, out=g[t])
            factor = None if of_spikes is None else of_spikes[t]  # of the surrogate
            if later is not None and not detach:
                undone = torch.mul(later, h[t], out=inner) if zero else later
                scale = -beta if zero else -k
                factor = (
                    torch.mul(undone, scale, out=inner)
                    if factor is None
                    else torch.add(factor, undone, alpha=scale, out=inner)
                )
            if factor is not None:
                surrogate.add_scaled_(g[t], factor, derivative)
            if of_membrane is not None:
                g[t].add_(of_membrane[t])
        return made, *[None] * 7


def plain_scan(
    current: Tensor, start: float, beta: float, theta: float, k: float, zero: bool, detach: bool, surrogate: Surrogate
) -> tuple[Tensor, Tensor]:
    """What `_Scan` computes, a graph node an operation: for tracing, and to test it against."""
    carried, spikes, membranes = beta * start + torch.zeros_like(current[0]), [], []
    for each in current:
        h = carried + each
        s = spike(h - theta, surrogate)
        undone = s.detach() if detach else s
        carried = beta * h * (1 - undone) if zero else beta * h - k * undone
        spikes.append(s)
        membranes.append(h)
    return torch.stack(spikes), torch.stack(membranes)


class LIF(nn.Module):
    """Leaky integrate-and-fire neurons: currents (steps, batch, ...) -> spikes, or spikes and membranes.

    Args:
        beta: what a step leaves of the membrane, exp(-dt / tau).
        threshold: above it (strictly) a neuron fires.
        reset: `subtract` the threshold, or to `zero`.
        surrogate: name of the derivative, see `Surrogate`; `scale` its steepness.
        detach_reset: do not back-propagate through the reset.
        decay_input: scale the current by 1 - beta, so that a constant one is approached and not exceeded.
        reset_delay: subtract the whole threshold after the decay instead of before it, as snntorch's `Leaky` does.
        start: the membrane before the first step.
        membrane: return the membrane before its reset as well.
    """

    def __init__(
        self,
        beta: float = 0.9,
        threshold: float = 1.0,
        *,
        reset: str = "subtract",
        surrogate: str = "atan",
        scale: float | None = None,
        detach_reset: bool = False,
        decay_input: bool = False,
        reset_delay: bool = False,
        start: float = 0.0,
        membrane: bool = False,
    ):
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta: a number from 0 to 1 expected, given {beta}")
        if not threshold > 0:
            raise ValueError(f"threshold: a number above 0 expected, given {threshold}")
        if reset not in RESETS:
            raise ValueError(f"reset: one of {', '.join(RESETS)} expected, given {reset!r}")
        if decay_input and beta == 1:
            raise ValueError("decay_input: needs beta below 1, or no current would arrive")
        self.beta, self.threshold, self.reset = beta, threshold, reset
        self.surrogate = Surrogate(surrogate, scale)
        self.detach_reset, self.decay_input, self.reset_delay = detach_reset, decay_input, reset_delay
        self.start, self.membrane = start, membrane

    def forward(
        self, current: Float[Tensor, "steps batch *rest"]
    ) -> Float[Tensor, "steps batch *rest"] | tuple[Tensor, Tensor]:
        """Spikes, 0 or 1; with `membrane` the pair (spikes, membranes before the reset)."""
        current = _checked(current)
        add_neuron_updates(current.numel())
        if self.decay_input:
            current = current * (1 - self.beta)
        k = self.threshold * (1.0 if self.reset_delay else self.beta)
        how = (self.start, self.beta, self.threshold, k, self.reset == "zero", self.detach_reset, self.surrogate)
        if torch.compiler.is_compiling() or not current.is_floating_point():
            spikes, membranes = plain_scan(current, *how)
        else:
            spikes, membranes = _Scan.apply(current, *how)  # type: ignore[misc]
        return (spikes, membranes) if self.membrane else spikes

    def extra_repr(self) -> str:
        """For `print`."""
        return f"beta={self.beta:g}, threshold={self.threshold:g}, reset={self.reset!r}"


class IF(LIF):
    """Integrate-and-fire neurons: nothing leaks. All else as in `LIF`."""

    def __init__(self, threshold: float = 1.0, **options: Any):
        super().__init__(1.0, threshold, **options)


class _Filter(torch.autograd.Function):
    """i[t] = alpha i[t-1] + x[t]; its adjoint runs the other way."""

    @staticmethod
    def forward(ctx, x: Tensor, alpha: float) -> Tensor:  # type: ignore[override, no-untyped-def]
        ctx.alpha = alpha
        made = torch.empty_like(x)
        given, out = x.unbind(0), made.unbind(0)
        out[0].copy_(given[0])
        for t in range(1, len(out)):
            torch.add(given[t], out[t - 1], alpha=alpha, out=out[t])
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override, no-untyped-def]
        return _Filter.apply(gradient.flip(0), ctx.alpha).flip(0), None  # type: ignore[attr-defined]


def exponential_filter(x: Float[Tensor, "steps batch *rest"], alpha: float) -> Float[Tensor, "steps batch *rest"]:
    """i[t] = alpha i[t-1] + x[t] along the first axis."""
    if not torch.compiler.is_compiling():
        return _Filter.apply(x, alpha)  # type: ignore[no-any-return]
    made = [x[0]]
    for each in x[1:]:
        made.append(alpha * made[-1] + each)
    return torch.stack(made)


class Synaptic(LIF):
    """LIF neurons behind a synaptic current i[t] = alpha i[t-1] + x[t]; all else as in `LIF`."""

    def __init__(self, alpha: float = 0.8, beta: float = 0.9, threshold: float = 1.0, **options: Any):
        super().__init__(beta, threshold, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha: a number from 0 to 1 expected, given {alpha}")
        self.alpha = alpha

    def forward(
        self, current: Float[Tensor, "steps batch *rest"]
    ) -> Float[Tensor, "steps batch *rest"] | tuple[Tensor, Tensor]:
        """As `LIF.forward`."""
        return super().forward(exponential_filter(_checked(current), self.alpha))


class LeakyReadout(nn.Module):
    """A leaky integrator that does not fire: currents (steps, batch, ...) -> (batch, ...).

    Its membrane's mean over time is a weighted sum of the currents, sum_t I[t] (1 - beta^(T-t)) / (1 - beta) / T with
    t from 0, which needs no loop; `last` is the membrane of the last step, `max` the largest.
    """

    def __init__(self, beta: float = 0.9, take: str = "mean"):
        super().__init__()
        if not 0 <= beta <= 1:
            raise ValueError(f"beta: a number from 0 to 1 expected, given {beta}")
        if take not in ("mean", "last", "max"):
            raise ValueError(f"take: mean, last or max expected, given {take!r}")
        self.beta, self.take = beta, take

    def forward(self, current: Float[Tensor, "steps batch *rest"]) -> Float[Tensor, "batch *rest"]:
        """The membrane's mean, last or largest value."""
        current = _checked(current)
        add_neuron_updates(current.numel())
        if self.take == "max":
            return exponential_filter(current, self.beta).amax(0)
        steps = len(current)
        left = torch.arange(steps, 0, -1, dtype=current.dtype, device=current.device)  # steps that still see I[t]
        if self.take == "last":
            weights = self.beta ** (left - 1)
        elif self.beta == 1:
            weights = left / steps
        else:
            weights = -torch.expm1(left * math.log(self.beta)) / (1 - self.beta) / steps if self.beta else left * 0 + 1
            weights = weights if self.beta else weights / steps
        return torch.tensordot(weights, current, dims=1)


def _checked(current: Tensor) -> Tensor:
    if current.ndim < 2 or not len(current):
        raise ValueError(f"current: expected shape (steps, batch, ...), given {tuple(current.shape)}")
    return current
