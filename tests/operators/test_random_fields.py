"""Random fields have the spectrum their formula says, and keep their coefficients across resolutions."""

import math

import numpy as np
import pytest
import torch

from paperworks.operators.random_fields import (
    half_plane,
    neumann_field,
    periodic_field,
    random_sines,
    turbulent_vorticity,
)
from paperworks.operators.spectral_grid import resample

DRAWS = 2000


def within_four_sigma(samples, expected):
    """Means of (DRAWS, k) samples against their expectation, each within four standard errors."""
    error = samples.std(0) / math.sqrt(len(samples))
    return bool(((samples.mean(0) - expected).abs() < 4 * error).all())


@pytest.mark.parametrize(("amplitude", "doubled"), [("current", 1), ("released", 2)])
def test_periodic_spectrum_is_that_of_the_covariance(amplitude, doubled):
    w = periodic_field(DRAWS, 16, amplitude=amplitude, seed=3)
    power = torch.fft.rfft2(w, norm="forward").abs().square()[:, :8, 1:8].flatten(1)
    kx, ky = torch.arange(8.0)[:, None].double(), torch.arange(1.0, 8)[None].double()
    sigma = 7**1.5
    expected = doubled * sigma**2 * (4 * math.pi**2 * (kx**2 + ky**2) + 49) ** -2.5
    assert within_four_sigma(power, expected.flatten())
    assert w.mean((1, 2)).abs().max() < 1e-14


@pytest.mark.parametrize(("amplitude", "variance"), [("current", 0.5), ("released", 1.0)])
def test_periodic_field_is_distributed_like_the_public_script(amplitude, variance):
    """The script: real parts of inverse transforms of coefficients that are independent at k and at -k."""
    k = torch.fft.fftfreq(16, 1 / 16).double()
    scale = 2**0.5 * 7**1.5 * (4 * math.pi**2 * (k[:, None] ** 2 + k**2) + 49) ** -1.25
    scale[0, 0] = 0
    draws = torch.randn(2, DRAWS, 16, 16).double() * variance**0.5 * scale
    theirs = torch.fft.ifft2(torch.complex(draws[0], draws[1]), norm="forward").real
    ours = periodic_field(DRAWS, 16, amplitude=amplitude)
    powers = [field.square().mean((1, 2)) for field in (ours, theirs)]
    error = math.hypot(*(float(power.std()) for power in powers)) / math.sqrt(DRAWS)
    assert abs(powers[0].mean() - powers[1].mean()) < 4 * error
    assert abs(powers[0].mean() - variance * 2 * 0.0343) < 0.003


def test_periodic_field_of_one_dimension_has_the_covariance_of_burgers_data():
    u = periodic_field(DRAWS, 32, dim=1, alpha=2, tau=5, sigma=25)
    power = torch.fft.rfft(u, norm="forward").abs().square()[:, 1:16]
    k = torch.arange(1.0, 16).double()
    assert within_four_sigma(power, 625 * (4 * math.pi**2 * k**2 + 25) ** -2)


def test_phases_are_uniform_and_modes_independent():
    c = torch.fft.rfft2(periodic_field(DRAWS, 12), norm="forward")
    a, b = c[:, 1, 2], c[:, -1, 2]
    for product in ((a * a).real, (a * b).real, (a * b.conj()).real, (a * b.conj()).imag):
        assert abs(product.mean()) < 4 * product.std() / math.sqrt(DRAWS)


def test_neumann_spectrum_and_boundary():
    g = neumann_field(DRAWS, 9, n_modes=4)
    x = np.linspace(0, 1, 9)
    weight = np.full(9, 1 / 8)
    weight[[0, -1]] /= 2  # the trapezoidal rule integrates products of these cosines exactly
    phi = np.stack([np.cos(np.pi * k * x) * (math.sqrt(2) if k else 1) for k in range(4)])
    c = torch.einsum("kx,nxy,ly->nkl", torch.from_numpy(phi * weight), g, torch.from_numpy(phi * weight))
    k = torch.arange(4.0).double()
    expected = 9.0 * (math.pi**2 * (k[:, None] ** 2 + k**2) + 9) ** -2
    expected[0, 0] = 0
    power = c.square().flatten(1)
    assert power[:, 0].max() < 1e-20
    assert within_four_sigma(power[:, 1:], expected.flatten()[1:])
    line = neumann_field(1, 2001, dim=1, n_modes=6)[0]
    assert abs(line[1] - line[0]) < 1e-4 * (line.max() - line.min())


@pytest.mark.parametrize("dim", [1, 2])
def test_a_seed_gives_the_same_periodic_field_at_every_resolution(dim):
    fine = periodic_field(3, 48, dim=dim, seed=5)
    for size in (16, 17, 32):
        torch.testing.assert_close(resample(fine, size, dim), periodic_field(3, size, dim=dim, seed=5))
    low = periodic_field(3, 24, dim=dim, seed=5, k_max=5)  # the very function, at every point of the coarser grid
    torch.testing.assert_close(
        low[(..., *[slice(None, None, 2)] * dim)], periodic_field(3, 12, dim=dim, seed=5, k_max=5)
    )


@pytest.mark.parametrize("dim", [1, 2])
def test_a_seed_gives_the_same_neumann_field_at_every_resolution(dim):
    fine = neumann_field(3, 33, dim=dim, n_modes=9, seed=5)
    coarse = neumann_field(3, 17, dim=dim, n_modes=9, seed=5)
    torch.testing.assert_close(fine[(..., *[slice(None, None, 2)] * dim)], coarse)
    weight = torch.full((17,), 1 / 16).double()
    weight[[0, -1]] /= 2
    more = neumann_field(3, 17, dim=dim, n_modes=10, seed=5) - coarse  # the next shell alone, so no low cosine is in it
    for _ in range(dim):
        more = more @ (weight * torch.cos(math.pi * 3 * torch.linspace(0, 1, 17).double()))
    assert more.abs().max() < 1e-14


@pytest.mark.parametrize("make", [
    lambda n, first: periodic_field(n, 12, seed=1, first=first),
    lambda n, first: neumann_field(n, 12, seed=1, first=first),
    lambda n, first: turbulent_vorticity(n, 12, seed=1, first=first),
    lambda n, first: random_sines(torch.linspace(0, 1, 9).expand(n, -1), seed=1, first=first),
])  # fmt: skip
def test_sample_i_does_not_depend_on_how_many_are_drawn(make):
    assert torch.equal(make(5, 0)[3:], make(2, 3))
    assert not torch.equal(make(1, 0), make(1, 1))


def test_half_plane_holds_one_of_each_pair_in_rising_shells():
    kx, ky = half_plane(3)
    pairs = set(zip(kx.tolist(), ky.tolist(), strict=True))
    assert len(pairs) == 24
    assert not any((-a, -b) in pairs for a, b in pairs)
    shells = np.maximum(abs(kx), abs(ky))
    assert (np.diff(shells) >= 0).all()
    assert np.array_equal(np.stack(half_plane(2)), np.stack([kx[:12], ky[:12]]))


@pytest.mark.parametrize("spectrum", ["gaussian", "mcwilliams"])
def test_turbulence_has_speed_one_and_its_spectrum(spectrum):
    w = turbulent_vorticity(DRAWS // 4, 32, spectrum=spectrum)
    c = torch.fft.rfft2(w, norm="forward")
    k = torch.arange(1.0, 12).double()
    line = c[:, 0, 1:12].abs().square().mean(0)
    shape = k**4 * torch.exp(-2 * (k / 4) ** 2) if spectrum == "gaussian" else k**3 / (1 + (k / 6) ** 4)
    ratio = line / shape
    assert (ratio / ratio.mean() - 1).abs().max() < 0.3
    kx, ky = torch.fft.fftfreq(32, 1 / 32).double()[:, None], torch.fft.rfftfreq(32, 1 / 32).double()
    k2 = (kx**2 + ky**2).clamp_min(1)
    twice = torch.full((17,), 2.0).double()
    twice[0] = 1
    speed = (c.abs().square() / k2 * twice).sum((1, 2)).sqrt()
    torch.testing.assert_close(speed, torch.ones_like(speed))


def test_sines_are_functions_of_x():
    x = torch.linspace(0, 1, 101).double()
    u = random_sines(x.expand(4, -1), seed=2, special=0)
    torch.testing.assert_close(random_sines(x.expand(4, -1) + 1, seed=2, special=0), u)
    torch.testing.assert_close(random_sines(x[::2].expand(4, -1), seed=2, special=0), u[:, ::2])
    special = random_sines(x.expand(200, -1), seed=2, special=0.5)
    one_signed = ((special >= 0).all(1) | (special <= 0).all(1)).double().mean()
    assert 0.4 < one_signed < 0.75
    assert ((special == 0).double().mean(1) > 0.4).any()


def test_what_a_grid_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="k_max: a grid of 8 points holds wave numbers up to 3, given 4"):
        periodic_field(1, 8, k_max=4)
    with pytest.raises(ValueError, match="dim: 1 or 2"):
        periodic_field(1, 8, dim=3)
    with pytest.raises(ValueError, match="amplitude: current or released"):
        periodic_field(1, 8, amplitude="new")
