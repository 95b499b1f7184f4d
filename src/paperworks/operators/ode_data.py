"""Operators defined by ordinary differential equations, with reference solutions (arXiv 1910.03193, section 4).

Every task draws input functions u from a function space, records u at `n_sensors` equidistant sensors and the
solution at one random location a function: a triple (u, y, G(u)(y)).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .function_spaces import GRF, as_float32

Triples = tuple[Tensor, Tensor, Tensor]


@lru_cache(maxsize=8)
def gaussian_field(length_scale: float, n_grid: int = 1001) -> GRF:
    """The field of this length scale; its eigenfunctions are computed once."""
    return GRF(length_scale, n_grid=n_grid)


def antiderivative(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """s with s' = u, s(0) = 0, on the grid x: the trapezoidal rule, with Simpson's correction by u's differences.

    Args:
        x: (k,) equidistant; u: (n, k).

    Returns:
        (n, k); exact for cubics up to rounding, except in the outermost cells.
    """
    h = x[1] - x[0]
    cells = 0.5 * h * (u[:, 1:] + u[:, :-1])
    slope = np.gradient(u, h, axis=1, edge_order=2)
    cells -= h**2 / 12 * (slope[:, 1:] - slope[:, :-1])  # Euler-Maclaurin's next term
    return np.concatenate([np.zeros((len(u), 1)), np.cumsum(cells, axis=1)], axis=1)


def runge_kutta(
    field: Callable[[np.ndarray, np.ndarray], np.ndarray], start: np.ndarray, u: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """Fourth-order solution of s' = field(s, u(x)) for all functions at once.

    Args:
        field: (states (n, d), inputs (n,)) -> (n, d).
        start: (n, d) at x[0].
        u: (n, 2k-1) inputs on the grid refined by two, so that midpoints are known.
        x: (k,).

    Returns:
        (n, k, d).
    """
    h = x[1] - x[0]
    states = [start]
    for i in range(len(x) - 1):
        s, before, middle, after = states[-1], u[:, 2 * i], u[:, 2 * i + 1], u[:, 2 * i + 2]
        k1 = field(s, before)
        k2 = field(s + h / 2 * k1, middle)
        k3 = field(s + h / 2 * k2, middle)
        k4 = field(s + h * k3, after)
        states.append(s + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
    return np.stack(states, axis=1)


def nonlinear_field(s: np.ndarray, u: np.ndarray) -> np.ndarray:
    """s' = -s^2 + u."""
    return -(s**2) + u[:, None]


def pendulum_field(s: np.ndarray, u: np.ndarray, k: float = 1.0) -> np.ndarray:
    """Gravity pendulum with external force: s1' = s2, s2' = -k sin s1 + u."""
    return np.stack([s[:, 1], -k * np.sin(s[:, 0]) + u], axis=1)


def solution(task: str, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Solutions (n, k') of `antiderivative`, `nonlinear` or `pendulum` (its first state) for inputs u (n, k) on x.

    The two nonlinear tasks use every second point of x as a step, so k' = (k + 1) / 2 there.
    """
    if task == "antiderivative":
        return antiderivative(x, u)
    fields = {"nonlinear": (nonlinear_field, 1), "pendulum": (pendulum_field, 2)}
    if task not in fields:
        raise ValueError(f"task {task!r}: one of antiderivative, nonlinear, pendulum")
    field, states = fields[task]
    return runge_kutta(field, np.zeros((len(u), states)), u, x[::2])[:, :, 0]


def ode_triples(
    n: int,
    *,
    task: str = "antiderivative",
    n_sensors: int = 100,
    length_scale: float = 0.2,
    generator: torch.Generator | None = None,
) -> Triples:
    """n triples (u at the sensors (n, m), location (n, 1), solution there (n, 1)) with one random location each.

    A location is a point of the fine grid, where the reference solution is known without interpolation.
    """
    space = gaussian_field(length_scale, 1001)
    features = space.random(n, generator)
    at_sensors = space.evaluate(features, np.linspace(0, 1, n_sensors))
    if task == "antiderivative":  # linear: integrate the basis, not every function
        x, integrals = space.x, antiderivative(space.x, space.basis)
        place = torch.randint(len(x), (n,), generator=generator).numpy()
        values = np.einsum("nm,mn->n", features, integrals[:, place])
    else:
        x, s = space.x[::2], solution(task, space.x, features @ space.basis)
        place = torch.randint(len(x), (n,), generator=generator).numpy()
        values = s[np.arange(n), place]
    return as_float32(at_sensors), as_float32(x[place][:, None]), as_float32(values[:, None])
