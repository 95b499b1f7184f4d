"""Linear advection u_t + beta u_x = 0 on a periodic interval: the initial state, shifted. Exact, without a scheme."""

import torch
from torch import Tensor

from .spectral_grid import wave_numbers


def solve_advection(u: Tensor, *, beta: float | Tensor, t: Tensor, length: float = 1.0) -> Tensor:
    """u(x - beta t) of the Fourier series through the given values.

    Args:
        u: (n, size). The Nyquist coefficient of an even size has no phase and is dropped.
        beta: speed, a number or one a sample (n,).
        t: (frames,) times.
        length: of the interval.

    Returns:
        (n, frames, size).
    """
    size = u.shape[-1]
    (k,) = wave_numbers(size, 1, length, device=u.device)
    coefficients = torch.fft.rfft(u)
    if size % 2 == 0:
        coefficients[..., -1] = 0
    beta = torch.as_tensor(beta, dtype=torch.float64, device=u.device).reshape(-1, 1, 1)
    angle = (-k * beta * t.to(u.device, torch.float64)[:, None]).to(u.dtype)
    return torch.fft.irfft(coefficients[:, None] * torch.exp(1j * angle), size)
