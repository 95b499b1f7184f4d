"""Burgers against the Cole-Hopf transform; advection against shifted functions."""

import math

import numpy as np
import pytest
import torch

from paperworks.operators.advection import solve_advection
from paperworks.operators.burgers import solve_burgers
from paperworks.operators.random_fields import periodic_field
from paperworks.operators.spectral_grid import resample


def cole_hopf(x, t, nu):
    """u(t) of u(0) = sin 2 pi x is -2 nu phi_x / phi, where phi obeys the heat equation."""
    n = 1024
    grid = np.arange(n) / n
    c = np.fft.rfft(np.exp(-(1 - np.cos(2 * np.pi * grid)) / (4 * np.pi * nu))) / n
    k = 2 * np.pi * np.arange(len(c))
    c = 2 * c * np.exp(-nu * k**2 * t)
    c[0] /= 2
    wave = np.exp(1j * k * x[:, None])
    return torch.from_numpy(-2 * nu * ((wave * 1j * k) @ c).real / (wave @ c).real)


def test_cole_hopf():
    x = torch.arange(256).double() / 256
    u = solve_burgers(torch.sin(2 * math.pi * x)[None], nu=0.05, interval=0.25, frames=3, dt=1e-3)
    for frame, t, error in ((0, 0.0, 2e-12), (1, 0.25, 1e-10), (2, 0.5, 5e-12)):  # steepest at 0.25
        assert (u[0, frame] - cole_hopf(x.numpy(), t, 0.05)).abs().max() < error


def test_order_is_four_and_the_mean_is_kept():
    u = periodic_field(2, 32, dim=1, alpha=2, tau=5, sigma=25) + 0.3
    kw = dict(nu=0.01, interval=0.5, frames=2)
    exact = solve_burgers(u, dt=1e-3, **kw)[:, 1]
    coarse, fine = ((solve_burgers(u, dt=dt, **kw)[:, 1] - exact).norm() for dt in (0.05, 0.025))
    assert abs(math.log2(coarse / fine) - 4) < 0.4
    torch.testing.assert_close(exact.mean(1), u.mean(1))


def test_energy_falls_and_the_maximum_does_not_rise():
    u = solve_burgers(periodic_field(4, 128, dim=1, alpha=2, tau=5, sigma=25), nu=0.05, interval=0.05, frames=6)
    assert (u.square().mean(-1).diff(dim=1) < 0).all()
    assert (u.amax(-1).diff(dim=1) < 1e-6).all()


def test_each_sample_has_its_own_viscosity_and_shifts_commute():
    u = periodic_field(2, 64, dim=1, alpha=2, tau=5, sigma=25)
    kw = dict(interval=0.1, frames=2)
    both = solve_burgers(u, nu=torch.tensor([0.1, 0.02]), **kw)
    torch.testing.assert_close(both[1:], solve_burgers(u[1:], nu=0.02, **kw))
    torch.testing.assert_close(solve_burgers(u.roll(9, 1), nu=0.02, **kw)[1:], both[1:].roll(9, 2))


def test_resolved_data_do_not_depend_on_the_grid():
    u = periodic_field(2, 256, dim=1, alpha=2, tau=5, sigma=25, k_max=20)
    fine = solve_burgers(u, nu=0.1, interval=1.0, frames=2, dt=2e-3)
    coarse = solve_burgers(resample(u, 128, 1), nu=0.1, interval=1.0, frames=2, dt=2e-3)
    torch.testing.assert_close(resample(fine, 128, 1), coarse, rtol=0, atol=1e-9)


def test_a_step_that_is_too_long_is_refused_in_words():
    with pytest.raises(ValueError, match="take a smaller dt"):
        solve_burgers(50 * torch.randn(1, 64).double(), nu=1e-4, interval=10.0, frames=2, dt=0.1)


@pytest.mark.parametrize("size", [16, 17])
def test_advection_is_the_exact_shift(size):
    x = 3.0 / size * torch.arange(size).double()
    wave = lambda x: torch.sin(2 * math.pi / 3 * x) + 0.3 * torch.cos(2 * math.pi / 3 * 5 * x + 1)  # noqa: E731
    t = torch.tensor([0.0, 0.37, 12.5], dtype=torch.float64)
    u = solve_advection(wave(x).expand(2, -1), beta=torch.tensor([0.8, -2.0], dtype=torch.float64), t=t, length=3.0)
    for i, beta in enumerate((0.8, -2.0)):
        for frame in range(3):
            torch.testing.assert_close(u[i, frame], wave(x - beta * float(t[frame])), rtol=0, atol=1e-12)


def test_advection_by_whole_cells_rolls():
    u = periodic_field(3, 20, dim=1)
    torch.testing.assert_close(solve_advection(u, beta=1.0, t=torch.tensor([0.15]).double())[:, 0], u.roll(3, 1))
