"""Shallow water: rest, mass, symmetry, and an exact dam break."""

import math

import pytest
import torch

from paperworks.operators.shallow_water import rate, solve_shallow_water


def dam(size=24, dtype=torch.float64):
    x = -2.5 + 5 / size * (torch.arange(size, dtype=dtype) + 0.5)
    depth = torch.where((x[:, None] ** 2 + x**2).sqrt() <= 0.8, 2.0, 1.0).to(dtype)
    return torch.stack([depth, torch.zeros_like(depth), torch.zeros_like(depth)])[None]


@pytest.mark.parametrize("boundary", ["wall", "periodic", "open"])
def test_a_lake_at_rest_stays(boundary):
    lake = torch.tensor([1.7, 0.0, 0.0]).double()[None, :, None, None].expand(2, 3, 6, 9).contiguous()
    assert rate(lake, 0.1, boundary=boundary).abs().max() == 0


@pytest.mark.parametrize("boundary", ["wall", "periodic"])
def test_mass_is_exact(boundary):
    state = dam() + 0.1 * torch.rand(3, 3, 24, 24).double()
    u = solve_shallow_water(state, interval=0.5, frames=3, spacing=5 / 24, boundary=boundary)
    mass = u[:, :, 0].sum((-1, -2))
    assert (mass / mass[:, :1] - 1).abs().max() < 1e-14
    if boundary == "periodic":
        momentum = u[:, :, 1:].sum((-1, -2))
        assert (momentum - momentum[:, :1]).abs().max() < 1e-11


def test_swapping_x_and_y_swaps_the_solution_exactly():
    state = dam() + 0.1 * torch.rand(1, 3, 24, 24).double()
    kw = dict(interval=0.5, frames=2, spacing=5 / 24)
    swapped = solve_shallow_water(state[:, [0, 2, 1]].mT, **kw)
    assert (swapped[:, :, [0, 2, 1]].mT - solve_shallow_water(state, **kw)).abs().max() < 1e-15
    radial = solve_shallow_water(dam(), **kw)[:, -1]
    assert (radial[:, 0] - radial[:, 0].mT).abs().max() == 0


def test_mirror_symmetry():
    radial = solve_shallow_water(dam(), interval=0.5, frames=2, spacing=5 / 24)[:, -1]
    torch.testing.assert_close(radial[:, 0], radial[:, 0].flip(1))
    torch.testing.assert_close(radial[:, 1], -radial[:, 1].flip(1))


def stoker(x, t, left=2.0, right=1.0):
    """Depths of the exact dam break on a wet bed, g = 1: a rarefaction, a plateau, a shock."""
    low, high = right, left
    for _ in range(100):  # the plateau: rarefaction and shock give the same velocity
        middle = (low + high) / 2
        behind = 2 * (math.sqrt(left) - math.sqrt(middle))
        ahead = (middle - right) * math.sqrt((middle + right) / (2 * middle * right))
        low, high = (middle, high) if behind > ahead else (low, middle)
    u = 2 * (math.sqrt(left) - math.sqrt(middle))
    shock = middle * u / (middle - right)
    fan = (2 * math.sqrt(left) - x / t) ** 2 / 9
    depth = torch.where(x < -math.sqrt(left) * t, torch.full_like(x, left), fan)
    depth = torch.where(x > (u - math.sqrt(middle)) * t, torch.full_like(x, middle), depth)
    return torch.where(x > shock * t, torch.full_like(x, right), depth)


@pytest.mark.parametrize("along", ["x", "y"])
def test_exact_dam_break(along):
    errors = []
    for size in (100, 200):
        x = -2.5 + 5 / size * (torch.arange(size).double() + 0.5)
        depth = torch.where(x < 0, 2.0, 1.0).double()
        state = torch.stack([depth, 0 * depth, 0 * depth])[None, :, :, None].expand(1, 3, size, 4)
        state = state if along == "x" else state.mT
        h = solve_shallow_water(state.contiguous(), interval=1.0, frames=2, spacing=5 / size, boundary="open")[0, -1, 0]
        line = h[:, 2] if along == "x" else h[2]
        errors.append(float((line - stoker(x, 1.0)).abs().mean()))
    assert errors[0] < 0.012
    assert errors[1] < 0.6 * errors[0]  # a shock limits the mean error to first order


def test_open_boundaries_let_a_wave_out_and_walls_do_not():
    kw = dict(interval=6.0, frames=2, spacing=5 / 24)
    left = solve_shallow_water(dam(), boundary="open", **kw)[:, -1, 0]
    kept = solve_shallow_water(dam(), boundary="wall", **kw)[:, -1, 0]
    assert left.std() < 0.2 * kept.std()
    assert left.mean() < kept.mean()


def test_a_step_that_is_too_long_is_refused_in_words():
    with pytest.raises(ValueError, match="take a smaller dt"):
        solve_shallow_water(dam(), interval=5.0, frames=2, spacing=5 / 24, dt=0.5)
    with pytest.raises(ValueError, match="boundary: wall, periodic or open"):
        rate(dam(), 0.1, boundary="closed")
