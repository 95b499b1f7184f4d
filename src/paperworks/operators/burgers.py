"""Viscous Burgers on a periodic interval, u_t + (u^2 / 2)_x = nu u_xx: Fourier-Galerkin, fourth order in time."""

import math

import torch
from torch import Tensor

from paperworks.nn import check_shape

from .spectral_grid import wave_numbers


def solve_burgers(
    u: Tensor, *, nu: float | Tensor, interval: float, frames: int, dt: float = 1e-3, length: float = 1.0
) -> Tensor:
    """Trajectories from initial states; Runge-Kutta with exact viscosity (integrating factor), 2/3 rule.

    Args:
        u: (n, size); its dtype is what is computed in. Wave numbers above the 2/3 rule's cut are dropped.
        nu: a number, or one a sample (n,).
        interval: time between frames, divided into equal steps of at most `dt`.
        frames: number of frames, the first at time 0.
        dt: largest time step; stable for dt max|u| size / length below 1.3.
        length: of the interval.

    Returns:
        (n, frames, size).

    Raises:
        ValueError: the solution left the finite numbers: the step is too long.
    """
    check_shape("u", u, ("n", "size"))
    size = u.shape[-1]
    (k,) = wave_numbers(size, 1, length, device=u.device)
    mask = k < 2 * math.pi / length * size / 3
    nu = torch.as_tensor(nu, dtype=torch.float64, device=u.device)
    count = max(1, math.ceil(interval / dt - 1e-9))
    dt = interval / count
    half = torch.exp(-dt / 2 * (nu[:, None] if nu.ndim else nu) * k**2).to(u.dtype)
    slope = (-0.5j * k * mask).to(u.dtype.to_complex())

    def push(state: Tensor) -> Tensor:
        return slope * torch.fft.rfft(torch.fft.irfft(state, size).square_())

    state = torch.fft.rfft(u) * mask
    out = u.new_empty(len(u), frames, size)
    out[:, 0] = torch.fft.irfft(state, size)
    for frame in range(1, frames):
        for _ in range(count):
            middle = half * state
            k1 = push(state)
            k2 = push(half * (state + dt / 2 * k1))
            k3 = push(middle + dt / 2 * k2)
            k4 = push(half * (middle + dt * k3))
            state = half * (half * (state + dt / 6 * k1) + dt / 3 * (k2 + k3)) + dt / 6 * k4
        out[:, frame] = torch.fft.irfft(state, size)
    if not torch.isfinite(out[:, -1]).all():
        raise ValueError(f"the solution left the finite numbers with dt = {dt:g}; take a smaller dt")
    return out
