"""The lottery: which frequency wins a neuron, told from its initial magnitudes and phases.

arXiv 2602.16849. Under a small initialisation the mean cross-entropy drives every neuron and every frequency apart
from the others, in the four variables alpha, beta (amplitudes in and out) and phi, psi (phases), with
D = 2 phi - psi; in units of 1/p:

    alpha' = 2 alpha beta cos D      phi' = -2 beta sin D
    beta'  = alpha^2 cos D           psi' = (alpha^2 / beta) sin D

so D' = -(4 beta + alpha^2 / beta) sin D. alpha^2 - 2 beta^2 and alpha^2 beta sin D are conserved. The signs are those
of the gradient (a test compares them), the opposite of the authors' text and the same as their code.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .fourier import fourier_decode, phase_misalignment
from .model import ModularAdditionMLP


def lottery_rates(alpha: Tensor, beta: Tensor, misalignment: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """alpha', beta', phi', psi' of the equations above."""
    cosine, sine = misalignment.cos(), misalignment.sin()
    return 2 * alpha * beta * cosine, alpha**2 * cosine, -2 * beta * sine, alpha**2 / beta * sine


def _step(state: tuple[Tensor, Tensor, Tensor], dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One Runge-Kutta step of (alpha, beta, D), a step length of its own for every entry."""

    def rates(a: Tensor, b: Tensor, d: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha, beta, phi, psi = lottery_rates(a, b, d)
        return alpha, beta, 2 * phi - psi

    def moved(by: tuple[Tensor, Tensor, Tensor], share: float) -> tuple[Tensor, Tensor, Tensor]:
        a, b, d = (x + share * dt * k for x, k in zip(state, by, strict=True))
        return a, b.clamp_min(1e-12), d

    k1 = rates(*state)
    k2 = rates(*moved(k1, 0.5))
    k3 = rates(*moved(k2, 0.5))
    k4 = rates(*moved(k3, 1.0))
    a, b, d = (x + dt / 6 * (p + 2 * q + 2 * r + s) for x, p, q, r, s in zip(state, k1, k2, k3, k4, strict=True))
    return a, b.clamp_min(1e-12), d


def integrate(
    alpha: Tensor, beta: Tensor, misalignment: Tensor, *, until: float, accuracy: float = 0.05, most_steps: int = 4000
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Time at which beta passes `until` (infinite where it does not), and the states there, entry by entry."""
    state = (alpha.double(), beta.double().clamp_min(1e-12), misalignment.double())
    elapsed = torch.zeros_like(state[0])
    for _ in range(most_steps):
        a, b, _ = state
        running = b < until
        if not bool(running.any()):
            break
        speed = 4 * b + a**2 / b + 2 * a
        dt = torch.where(running, accuracy / speed.clamp_min(1e-30), torch.zeros_like(b))
        state = _step(state, dt)
        elapsed = elapsed + dt
    return torch.where(state[1] < until, torch.inf, elapsed), state


def blow_up_time(alpha: Tensor, beta: Tensor, misalignment: Tensor) -> Tensor:
    """When each frequency of each neuron blows up, in units of 1/p; the smallest time wins the neuron."""
    scale = float(torch.maximum(alpha.max(), beta.max()))
    return integrate(alpha, beta, misalignment, until=30 * scale)[0]


@torch.no_grad()
def predict_winner(model: ModularAdditionMLP, score: str = "ode") -> Int[Tensor, " neurons"]:
    """Index of the frequency that each neuron of a model at its start will end on.

    Args:
        score: `ode` (smallest blow-up time), `alpha_beta_cos` (largest alpha beta cos D), `alpha` (largest amplitude)
            or `misalignment` (smallest |D|).
    """
    alpha, beta, gap = initial_waves(model)
    scores = {
        "ode": lambda: -blow_up_time(alpha, beta, gap),
        "alpha_beta_cos": lambda: alpha * beta * gap.cos(),
        "alpha": lambda: alpha,
        "misalignment": lambda: -gap.abs(),
    }
    if score not in scores:
        raise ValueError(f"score {score!r}: one of {', '.join(scores)}")
    return scores[score]().argmax(-1)


def initial_waves(model: ModularAdditionMLP) -> tuple[Float[Tensor, "H K"], Float[Tensor, "H K"], Float[Tensor, "H K"]]:
    """alpha, beta and D of every neuron and frequency."""
    into, out = fourier_decode(model.w_in.detach().double()), fourier_decode(model.w_out.detach().double().T)
    return into.alpha, out.alpha, phase_misalignment(into.phi, out.phi)
