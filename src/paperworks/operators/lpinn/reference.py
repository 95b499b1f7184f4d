"""Exact and reference solutions with the initial condition w0 = mean + sin(k x + phase), k = 2 pi / period = 1.

Burgers in the frame that moves with the mean is Burgers with mean 0: the solver never sees the fast transport.
"""

import math

import torch
from torch import Tensor

from ..advection import solve_advection
from ..burgers import solve_burgers
from .model import periodic_interpolation


def convection_solution(x: Tensor, t: Tensor, *, speed: float, viscosity: float = 0.0, phase: float = 0.0) -> Tensor:
    """exp(-nu t) sin(x - c t + phase) on a grid: x (n,), t (m,) -> (m, n)."""
    return torch.exp(-viscosity * t)[:, None] * torch.sin(x - speed * t[:, None] + phase)


def burgers_solution(
    n: int, frames: int, *, mean: float, viscosity: float, t_max: float = 1.0, phase: float = 0.0, fine: int = 512
) -> Tensor:
    """Burgers' solution at x = 2 pi i / n and `frames` times from 0 to t_max, float64 (frames, n).

    Args:
        fine: grid points of the solver; a multiple of n.
    """
    if fine % n or frames < 2:
        raise ValueError(f"fine: a multiple of n = {n}, given {fine}; frames: at least 2, given {frames}")
    x = torch.arange(fine, dtype=torch.float64) * (2 * math.pi / fine)
    interval = t_max / (frames - 1)
    still = solve_burgers(
        torch.sin(x + phase)[None], nu=viscosity, interval=interval, frames=frames, dt=2e-3, length=2 * math.pi
    )[0]
    t = torch.linspace(0, t_max, frames, dtype=torch.float64)
    moved = [
        solve_advection(w[None], beta=mean, t=at[None], length=2 * math.pi)[0, 0]
        for w, at in zip(still, t, strict=True)
    ]
    return mean + torch.stack(moved)[:, :: fine // n]


def label_form_solution(
    x: Tensor, t: Tensor, *, mean: float, viscosity: float, phase: float = 0.0, n_labels: int = 8192
) -> Tensor:
    """What Burgers becomes where diffusion acts along the labels: x (n,), t (m,) -> (m, n).

    Then w_t = nu w_xixi decouples from X, and with a = xi + phase
    w = mean + exp(-nu t) sin a,   X = xi + mean t + (1 - exp(-nu t)) / nu sin a.
    """
    labels = torch.arange(n_labels, dtype=x.dtype) * (2 * math.pi / n_labels)
    decay = torch.exp(-viscosity * t)[:, None]
    wave = torch.sin(labels + phase)
    places = labels + mean * t[:, None] + (1 - decay) / viscosity * wave
    return periodic_interpolation(places, mean + decay * wave, x, 2 * math.pi)
