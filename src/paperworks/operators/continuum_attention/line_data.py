"""Operators between functions on an interval whose exact output can be had at any points, and grids to ask at.

`poisson`: -v'' = pi^2 u, v = 0 at both ends, by its sine series. `lorenz63` and `controlled_ode`: the paper's two
one-dimensional problems (arXiv 2406.06486, section 5.1). A task draws functions once, as rows of numbers, and
evaluates any of them at any points.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LineTask:
    """Functions u -> v on [0, length].

    Attributes:
        draw: `(n, generator) -> (n, ...)`: n functions.
        evaluate: `(functions, points) -> u (n, points, in), v (n, points, out)`, float32.
    """

    length: float
    draw: Callable[[int, torch.Generator], Tensor]
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


# -v'' = pi^2 u

SINES = 8


def draw_sines(n: int, generator: torch.Generator) -> Tensor:
    """Coefficients c_k, k = 1 .. 8, of variance 1 / k."""
    k = torch.arange(1, SINES + 1, dtype=torch.float64)
    return torch.randn(n, SINES, dtype=torch.float64, generator=generator) / k.sqrt()


def poisson(coefficients: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """u = sum_k c_k sin(k pi x) and v = sum_k c_k / k^2 sin(k pi x)."""
    k = torch.arange(1, SINES + 1, dtype=torch.float64)
    waves = torch.sin(math.pi * k[:, None] * points.double())
    return (coefficients @ waves)[..., None].float(), ((coefficients / k**2) @ waves)[..., None].float()


# Lorenz-63

LORENZ_STEPS = 1_600  # of Runge-Kutta over [0, 2]; the error of x at t = 2 is about 1e-6 of its size


def lorenz_slope(state: Tensor) -> Tensor:
    """(10 (y - x), x (28 - z) - y, x y - 8/3 z) of states (..., 3)."""
    x, y, z = state.unbind(-1)
    return torch.stack([10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z], -1)


def draw_lorenz(n: int, generator: torch.Generator) -> Tensor:
    """Trajectories (n, steps + 1, 3) on [0, 2] from x, y ~ U(-15, 15), z ~ U(0, 40), without a spin-up."""
    state = torch.rand(n, 3, dtype=torch.float64, generator=generator)
    state = state * torch.tensor([30.0, 30.0, 40.0]).double() - torch.tensor([15.0, 15.0, 0.0]).double()
    step, states = 2 / LORENZ_STEPS, [state]
    for _ in range(LORENZ_STEPS):
        a = lorenz_slope(state)
        b = lorenz_slope(state + step / 2 * a)
        c = lorenz_slope(state + step / 2 * b)
        d = lorenz_slope(state + step * c)
        state = state + step / 6 * (a + 2 * b + 2 * c + d)
        states.append(state)
    return torch.stack(states, 1)


def lorenz_states(trajectories: Tensor, points: Tensor) -> Tensor:
    """States (n, points, 3) at times in [0, 2]: cubic Hermite interpolation, of the order of the solver."""
    step = 2 / LORENZ_STEPS
    at = points.double() / step
    left = at.floor().long().clamp(0, LORENZ_STEPS - 1)
    t = (at - left)[:, None]
    a, b = trajectories[:, left], trajectories[:, left + 1]
    slope_a, slope_b = step * lorenz_slope(a), step * lorenz_slope(b)
    return (
        (1 + 2 * t) * (1 - t) ** 2 * a + t * (1 - t) ** 2 * slope_a + t**2 * (3 - 2 * t) * b + t**2 * (t - 1) * slope_b
    )


def lorenz63(trajectories: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """u = x and v = (y, z)."""
    states = lorenz_states(trajectories, points).float()
    return states[..., :1], states[..., 1:]


# v' = sin(v) u', v(0) = 1

CONTROLS = 10


def draw_controls(n: int, generator: torch.Generator) -> Tensor:
    """(n, 10, 2): amplitudes xi_j / j, xi ~ N(0, 1), and frequencies U(0, 10)."""
    amplitude = torch.randn(n, CONTROLS, dtype=torch.float64, generator=generator) / torch.arange(1, CONTROLS + 1)
    return torch.stack([amplitude, 10 * torch.rand(n, CONTROLS, dtype=torch.float64, generator=generator)], -1)


def controlled_ode(controls: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """u = sum_j a_j sin(pi f_j t) and v = 2 atan(tan(1/2) exp(u)).

    v at a time is a function of u at that time alone, so this problem says nothing about attention.
    """
    amplitude, frequency = controls.unbind(-1)
    waves = torch.sin(math.pi * frequency[..., None] * points.double())
    u = (amplitude[..., None] * waves).sum(1)
    v = 2 * torch.atan(math.tan(0.5) * torch.exp(u))
    return u[..., None].float(), v[..., None].float()


LINE_TASKS = {
    "poisson": LineTask(1.0, draw_sines, poisson),
    "lorenz63": LineTask(2.0, draw_lorenz, lorenz63),
    "controlled_ode": LineTask(2.0, draw_controls, controlled_ode),
}

# Grids on [0, 1], both ends included


def uniform_grid(n: int) -> Tensor:
    """Equal gaps."""
    return torch.linspace(0, 1, n, dtype=torch.float64)


def skewed_grid(n: int, power: float = 2.0) -> Tensor:
    """x^power of equal gaps: dense at 0."""
    return uniform_grid(n) ** power


def half_dense_grid(n: int) -> Tensor:
    """Three quarters of the points in the left half."""
    left = 3 * n // 4
    return torch.cat([torch.arange(left) / left * 0.5, torch.linspace(0.5, 1, n - left)]).double()


def random_grid(n: int, generator: torch.Generator) -> Tensor:
    """Sorted uniform points between both ends."""
    inner = torch.rand(n - 2, dtype=torch.float64, generator=generator).sort().values
    return torch.cat([torch.zeros(1).double(), inner, torch.ones(1).double()])


def varied_grid(n: int, generator: torch.Generator) -> Tensor:
    """A grid of random density: random points, or equal gaps to a random power, dense at either end."""
    kind, power, side = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
    if kind < 1 / 3:
        return random_grid(n, generator)
    grid = skewed_grid(n, 4.0 ** (2 * power - 1))
    return grid if side < 0.5 else (1 - grid).flip(0)
