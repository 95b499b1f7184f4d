"""Periodic functions that exist on every grid, and two operators on them: Burgers' equation and a reaction."""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from paperworks.operators.burgers import solve_burgers
from paperworks.operators.random_fields import normal_numbers

from .spectral_convs import fourier_resample


class Pairs(NamedTuple):
    """Inputs and outputs (functions, points) on the finest grid."""

    inputs: Tensor
    outputs: Tensor

    def on(self, points: int) -> tuple[Float[Tensor, "functions 1 points"], Float[Tensor, "functions 1 points"]]:
        """Both at every so many points."""
        step = self.inputs.shape[1] // points
        return self.inputs[:, None, ::step].contiguous(), self.outputs[:, None, ::step].contiguous()

    def rows(self, low: int, high: int) -> "Pairs":
        """Functions low .. high - 1."""
        return Pairs(self.inputs[low:high], self.outputs[low:high])


def fourier_series(
    n: int, points: int, seed: int, modes: tuple[int, int] = (1, 8), deviation: float = 0.3
) -> Float[Tensor, "n points"]:
    """Sums of sines and cosines of wave numbers from the first to the last of `modes`, coefficients N(0, 1) / k.

    Each function is scaled to the given standard deviation. The same seed gives the same functions on every grid.
    """
    low, high = modes
    k = torch.arange(low, high + 1, dtype=torch.float64)
    drawn = torch.from_numpy(normal_numbers(n, 2 * len(k), seed)).unflatten(1, (len(k), 2)) / k[:, None]
    angle = 2 * math.pi * k[:, None] * torch.arange(points, dtype=torch.float64) / points
    u = drawn[..., 0] @ angle.sin() + drawn[..., 1] @ angle.cos()
    return deviation * u / u.square().mean(1, keepdim=True).sqrt()


@lru_cache(maxsize=4)
def burgers_pairs(n: int, seed: int, points: int = 512, solved_on: int = 256, nu: float = 0.01) -> Pairs:
    """u(0) -> u(1) of u_t + u u_x = nu u_xx on the unit circle, from Fourier series of eight modes.

    Solved on `solved_on` points and brought to `points` exactly, since nothing finer is in the solution.
    """
    u = fourier_series(n, solved_on, seed)
    end = solve_burgers(u, nu=nu, interval=1.0, frames=2, dt=4e-3 * 256 / solved_on)[:, 1]
    return Pairs(*(fourier_resample(f, [points]).float() for f in (u, end)))


@lru_cache(maxsize=8)
def reaction_pairs(
    n: int, seed: int, points: int = 512, fine: tuple[int, int] | None = None, time: float = 1.0, share: float = 0.5
) -> Pairs:
    """u(0) -> u(time) of u_t = u - u^3, exactly: a map that keeps fine scales.

    fine: wave numbers of a second series, `share` times as large, on top of the eight modes; None: there is none.
    """
    u = fourier_series(n, points, seed, deviation=0.5)
    if fine is not None:
        u = u + fourier_series(n, points, seed + 1, fine, deviation=0.5 * share)
    end = u * math.exp(time) / (1 + u.square() * (math.exp(2 * time) - 1)).sqrt()
    return Pairs(u.float(), end.float())
