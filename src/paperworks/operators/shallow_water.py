"""Shallow water on a rectangle with a flat bottom: finite volumes of second order, batched over samples.

h_t + div(h u) = 0,  (h u)_t + div(h u u) + grad(g h^2 / 2) = 0. MUSCL reconstruction with the minmod limiter,
Rusanov fluxes, Heun's strong-stability-preserving steps. Mass is conserved to rounding inside walls.
"""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from paperworks.nn import check_shape

Boundary = Literal["wall", "periodic", "open"]


def solve_shallow_water(
    state: Tensor,
    *,
    interval: float,
    frames: int,
    spacing: float,
    g: float = 1.0,
    dt: float | None = None,
    boundary: Boundary = "wall",
) -> Tensor:
    """Trajectories of depth and momentum.

    Args:
        state: (n, 3, nx, ny) cell means of h, h u, h v; u runs along the first axis of space.
        interval: time between frames, divided into equal steps of at most `dt`.
        frames: number of frames, the first at time 0.
        spacing: width of a cell.
        g: gravity.
        dt: largest time step; default 0.15 spacings, stable while |u| + sqrt(g h) stays below 3.
        boundary: `wall` reflects, `open` lets waves out, `periodic`.

    Returns:
        (n, frames, 3, nx, ny).

    Raises:
        ValueError: a depth became negative or infinite: the step is too long.
    """
    check_shape("state", state, ("n", 3, "nx", "ny"))
    count = max(1, math.ceil(interval / (dt or 0.15 * spacing) - 1e-9))
    step = interval / count
    out = state.new_empty(len(state), frames, *state.shape[1:])
    out[:, 0] = state
    for frame in range(1, frames):
        for _ in range(count):
            first = state + step * rate(state, spacing, g, boundary)
            state = (state + first + step * rate(first, spacing, g, boundary)) / 2
        out[:, frame] = state
    if not (torch.isfinite(state).all() and (state[:, 0] > 0).all()):
        raise ValueError(f"a depth became negative or infinite with dt = {step:g}; take a smaller dt")
    return out


def rate(state: Tensor, spacing: float, g: float = 1.0, boundary: Boundary = "wall") -> Tensor:
    """d/dt of the cell means (n, 3, nx, ny). The y direction is the x direction of the transposed state."""
    swapped = state.transpose(-1, -2)[:, [0, 2, 1]]
    along_y = _along_x(swapped, g, boundary).transpose(-1, -2)[:, [0, 2, 1]]
    return (_along_x(state, g, boundary) + along_y) / spacing


def _along_x(state: Tensor, g: float, boundary: Boundary) -> Tensor:
    """Differences of the fluxes along x."""
    cells = _with_ghosts(state, boundary)
    difference = cells[:, :, 1:] - cells[:, :, :-1]
    before, after = difference[:, :, :-1], difference[:, :, 1:]
    slope = torch.where(before * after > 0, torch.where(before.abs() < after.abs(), before, after), 0.0)
    inner = cells[:, :, 1:-1]
    left, right = (inner + slope / 2)[:, :, :-1], (inner - slope / 2)[:, :, 1:]
    (flux_left, fast_left), (flux_right, fast_right) = _flux(left, g), _flux(right, g)
    flux = (flux_left + flux_right - torch.maximum(fast_left, fast_right) * (right - left)) / 2
    return flux[:, :, :-1] - flux[:, :, 1:]


def _flux(state: Tensor, g: float) -> tuple[Tensor, Tensor]:
    """The flux along x, and |u| + sqrt(g h)."""
    h, momentum = state[:, 0], state[:, 1]
    u = momentum / h
    flux = torch.stack([momentum, momentum * u + g / 2 * h * h, state[:, 2] * u], 1)
    return flux, (u.abs() + (g * h).sqrt())[:, None]


def _with_ghosts(state: Tensor, boundary: Boundary) -> Tensor:
    """Two more cells at both ends of x."""
    if boundary == "periodic":
        return torch.cat([state[:, :, -2:], state, state[:, :, :2]], 2)
    if boundary == "open":
        return pad(state, (0, 0, 2, 2), mode="replicate")
    if boundary == "wall":
        mirror = torch.tensor([1.0, -1.0, 1.0], dtype=state.dtype, device=state.device)[:, None, None]
        return torch.cat([mirror * state[:, :, [1, 0]], state, mirror * state[:, :, [-1, -2]]], 2)
    raise ValueError(f"boundary: wall, periodic or open, given {boundary!r}")
