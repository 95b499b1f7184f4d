"""The vorticity solver: exact solutions, conservation, symmetry, order, and the accuracy its users rely on."""

import math
import statistics
import time

import pytest
import torch

from paperworks.operators.navier_stokes import (
    NavierStokes,
    fno_forcing,
    grid,
    kolmogorov_forcing,
    poseidon_forcing,
    solve_vorticity,
)
from paperworks.operators.pde_data import simulate
from paperworks.operators.random_fields import periodic_field, turbulent_vorticity
from paperworks.operators.spectral_grid import resample

TAU = 2 * math.pi


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize(("scheme", "error"), [("ab2cn", 1e-8), ("eulercn", 1e-8), ("ifrk4", 1e-14)])
def test_taylor_green_decays_as_it_must(scheme, error):
    x, y = grid(16, TAU)
    w = (2 * torch.cos(x) * torch.cos(y))[None]
    last = solve_vorticity(w, nu=0.05, interval=1.0, frames=2, dt=0.01, length=TAU, scheme=scheme)[:, 1]
    exact = w * math.exp(-2 * 0.05)
    assert (last - exact).abs().max() < 2 * error


def test_kolmogorov_flow_stays_in_its_laminar_state():
    k, nu, drag = 4, 0.05, 0.1
    _, y = grid(32, TAU)
    w = (-k * torch.cos(k * y) / (nu * k**2 + drag)).expand(1, 32, 32)
    forcing = kolmogorov_forcing(32, k)
    equation = NavierStokes(32, nu=nu, drag=drag, forcing=forcing, length=TAU)
    assert equation.time_derivative(equation.coefficients(w)).abs().max() < 1e-10
    for scheme in ("ab2cn", "eulercn", "ifrk4"):
        last = solve_vorticity(
            w, nu=nu, drag=drag, forcing=forcing, interval=1.0, frames=2, dt=0.01, length=TAU, scheme=scheme
        )[:, 1]
        assert (last - w).abs().max() < 1e-10


def test_basdevants_form_is_the_advective_form():
    w = turbulent_vorticity(2, 32)
    equation = NavierStokes(32, nu=0.0, length=TAU)
    state = equation.coefficients(w)
    assert relative(equation.advection(state), equation.advective_form(state)) < 1e-13
    single = NavierStokes(32, nu=0.0, length=TAU, dtype=torch.float32)
    assert relative(single.advection(state.float()), equation.advection(state).float()) < 2e-6


def test_velocity_is_divergence_free_and_its_curl_is_the_vorticity():
    equation = NavierStokes(24, nu=0.0, length=3.0)
    w = resample(periodic_field(2, 12), 24, 2)
    velocity = torch.fft.rfft2(equation.velocity(equation.coefficients(w)))
    u, v = velocity[:, 0], velocity[:, 1]
    assert (equation.kx * u + equation.ky * v).abs().max() < 1e-12
    curl = torch.fft.irfft2(1j * (equation.kx * v - equation.ky * u), (24, 24))
    torch.testing.assert_close(curl, w)


def energy_and_enstrophy(equation, state):
    velocity, w = equation.velocity(state), equation.grid(state)
    return velocity.square().sum((1, 2, 3)), w.square().sum((1, 2))


def drift(scheme, dt):
    """Relative changes of energy and enstrophy over a time of 0.2 without viscosity; and the latter's leading term.

    The local error -5/12 dt^3 w_ttt of Adams-Bashforth turns <w, w_t> = 0 into a change of the enstrophy <w, w> by
    5/4 dt^2 times that of <w_t, w_t>; what is left falls with the third power of the step.
    """
    equation = NavierStokes(24, nu=0.0, length=TAU)
    state = equation.coefficients(turbulent_vorticity(2, 24))
    step, before = equation.stepper(scheme, dt), energy_and_enstrophy(equation, state)
    speed = [equation.grid(equation.advection(state)).square().sum((1, 2))]
    for _ in range(round(0.2 / dt)):
        state = step(state)
    after = energy_and_enstrophy(equation, state)
    speed.append(equation.grid(equation.advection(state)).square().sum((1, 2)))
    energy, enstrophy = (b / a - 1 for a, b in zip(before, after, strict=True))
    return energy, enstrophy, enstrophy - 5 / 4 * dt**2 * (speed[1] - speed[0]) / before[1]


def test_without_viscosity_energy_and_enstrophy_are_kept_to_the_scheme_s_order():
    coarse, fine = (drift("ab2cn", dt) for dt in (0.005, 0.0025))
    for a, b, order in zip(coarse, fine, (2, 2, 3), strict=True):
        assert b.abs().max() < 1e-4
        assert (a.abs().max() / b.abs().max()).log2() > order - 0.3
    coarse, fine = (drift("ifrk4", dt) for dt in (0.02, 0.01))
    for a, b in zip(coarse[:2], fine[:2], strict=True):
        assert b.abs().max() < 1e-5
        assert (a.abs().max() / b.abs().max()).log2() > 3.7


@pytest.mark.parametrize("scheme", ["ab2cn", "eulercn", "ifrk4"])
def test_mean_vorticity_stays_zero_and_shifts_commute_with_time(scheme):
    w = periodic_field(2, 16, amplitude="released")
    run = lambda w: solve_vorticity(w, nu=1e-3, interval=1.0, frames=2, dt=0.05, scheme=scheme)[:, 1]  # noqa: E731
    last = run(w)
    assert last.mean((1, 2)).abs().max() < 1e-15
    torch.testing.assert_close(run(w.roll((3, 5), (1, 2))), last.roll((3, 5), (1, 2)), rtol=0, atol=1e-13)


def test_samples_do_not_see_each_other_and_may_have_their_own_viscosity():
    w = periodic_field(3, 16, amplitude="released")
    kw = dict(interval=1.0, frames=2, dt=0.05, forcing=fno_forcing(16))
    together = solve_vorticity(w, nu=torch.tensor([1e-3, 1e-2, 1e-1]), **kw)
    for i, nu in enumerate((1e-3, 1e-2, 1e-1)):
        torch.testing.assert_close(together[i : i + 1], solve_vorticity(w[i : i + 1], nu=nu, **kw))


@pytest.mark.parametrize(
    ("scheme", "steps", "order"),
    [("ab2cn", (0.04, 0.02), 2), ("eulercn", (0.02, 0.01), 1), ("ifrk4", (0.2, 0.1), 4)],
)
def test_order_of_convergence(scheme, steps, order):
    w = turbulent_vorticity(1, 24)
    kw = dict(nu=1e-2, interval=0.4, frames=2, length=TAU, drag=0.1, forcing=kolmogorov_forcing(24, 2))
    exact = solve_vorticity(w, dt=0.005, scheme="ifrk4", **kw)[:, 1]
    coarse, fine = (relative(solve_vorticity(w, dt=dt, scheme=scheme, **kw)[:, 1], exact) for dt in steps)
    assert abs(math.log2(coarse / fine) - order) < 0.4


def fno_run(w, nu, dt, scheme="ab2cn", time=10.0):
    """The last state of an FNO trajectory, on the wave numbers of 32^2."""
    forcing = fno_forcing(w.shape[-1])
    last = solve_vorticity(w, nu=nu, interval=time, frames=2, dt=dt, forcing=forcing, scheme=scheme)[:, 1]
    return resample(last.double(), 32, 2)


def median_error(found, truth):
    """Over samples, of the relative error."""
    return float(((found - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1)).median())


@pytest.fixture(scope="module")
def released():
    """Initial fields of the released data, on 128^2."""
    return periodic_field(3, 128, amplitude="released")


@pytest.fixture(scope="module")
def reference(released):
    """At time 10, of the fourth order: its own error is below 3e-8."""
    return fno_run(released, 1e-3, 0.05, "ifrk4")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "dt", "error"),
    [
        (torch.float64, 0.01, 1e-6),
        (torch.float32, 0.01, 1e-6),
        (torch.float32, 0.02, 4e-6),
        (torch.float32, 0.05, 2.5e-5),
    ],
)
def test_accuracy_on_the_fno_set(released, reference, dtype, dt, error):
    assert median_error(fno_run(resample(released, 64, 2).to(dtype), 1e-3, dt), reference) < error


@pytest.mark.slow
def test_accuracy_where_the_flow_is_less_viscous(released):
    """At a viscosity of 1e-4 a grid of 64^2 no longer holds all of the flow, and its error is more than the step's."""
    truth = fno_run(released, 1e-4, 0.025, "ifrk4")
    coarse, fine = (median_error(fno_run(resample(released, n, 2), 1e-4, 0.01), truth) for n in (64, 128))
    assert coarse < 2e-4
    assert fine < 6e-5


@pytest.mark.slow
def test_accuracy_of_the_fourth_order_scheme():
    w = periodic_field(2, 64, amplitude="current")
    kw = dict(nu=1e-3, interval=1.0, frames=2, forcing=fno_forcing(64), scheme="ifrk4")
    exact = solve_vorticity(w, dt=0.005, **kw)[:, 1]
    assert relative(solve_vorticity(w, dt=0.1, **kw)[:, 1], exact) < 4e-8
    assert relative(solve_vorticity(w, dt=0.05, **kw)[:, 1], exact) < 4e-9


def test_the_script_s_scheme_is_of_first_order_and_far_from_the_second():
    """Of the same equation, so both close in on one flow; at equal steps Euler's method is far off."""
    w = periodic_field(2, 32, amplitude="released")
    kw = dict(nu=1e-3, interval=1.0, frames=2, forcing=fno_forcing(32))
    exact = solve_vorticity(w, dt=0.05, scheme="ifrk4", **kw)[:, 1]
    coarse, fine = (relative(solve_vorticity(w, dt=dt, scheme="eulercn", **kw)[:, 1], exact) for dt in (0.01, 0.001))
    assert coarse < 6e-4
    assert fine < 6e-5
    assert 9 < coarse / fine < 11
    assert coarse > 50 * relative(solve_vorticity(w, dt=0.01, **kw)[:, 1], exact)
    again = simulate("navier_stokes", 2, seed=3, size=16, frames=2, scheme="eulercn", dt=0.01, simulated_size=32)
    other = simulate("navier_stokes", 2, seed=3, size=16, frames=2, dt=0.01, simulated_size=32)
    assert torch.equal(again.fields[:, 0], other.fields[:, 0])
    assert 1e-6 < relative(again.fields[:, 1], other.fields[:, 1]) < 1e-3


@pytest.mark.slow
def test_a_step_costs_at_most_seven_times_its_own_transforms():
    """Medians of interleaved rounds: one Adams-Bashforth step of 16 samples at 64^2 against its 2 + 2 transforms."""
    equation = NavierStokes(64, nu=1e-3, length=TAU, dtype=torch.float32)
    state, step = equation.coefficients(turbulent_vorticity(16, 64)), None
    step = equation.stepper("ab2cn", 0.01)
    fields = torch.randn(16, 2, 64, 64)
    spectra = torch.fft.rfft2(fields)

    def transforms():
        torch.fft.irfft2(spectra, (64, 64))
        torch.fft.rfft2(fields)

    times = {"step": [], "transforms": []}
    for _ in range(30):
        for name, call in (("step", lambda: step(state)), ("transforms", transforms)):
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    assert statistics.median(times["step"]) < 7 * statistics.median(times["transforms"])


def test_warm_up_is_time_that_passes_unseen():
    w = turbulent_vorticity(1, 16)
    kw = dict(nu=1e-2, dt=0.01, length=TAU, scheme="ifrk4")
    late = solve_vorticity(w, interval=0.1, frames=2, warm_up=0.2, **kw)
    torch.testing.assert_close(late, solve_vorticity(w, interval=0.1, frames=4, **kw)[:, 2:])


def test_forcings():
    x, y = grid(8)
    torch.testing.assert_close(
        fno_forcing(8)[2, 3], 0.1 * (torch.sin(TAU * (x[2] + y[0, 3])) + torch.cos(TAU * (x[2] + y[0, 3])))[0]
    )
    torch.testing.assert_close(poseidon_forcing(8)[2, 3], 0.1 * math.sin(TAU * 5 / 8) * torch.ones(()).double())
    assert kolmogorov_forcing(8, 2)[5, 0] == -2


def test_a_step_that_is_too_long_is_refused_in_words():
    w = 30 * turbulent_vorticity(1, 32)
    with pytest.raises(ValueError, match="take a smaller dt"):
        solve_vorticity(w, nu=1e-4, interval=10.0, frames=2, dt=0.5, length=TAU)
    with pytest.raises(ValueError, match="scheme: ab2cn, ifrk4 or eulercn"):
        solve_vorticity(w, nu=1e-4, interval=10.0, frames=2, dt=0.5, scheme="euler")
    with pytest.raises(ValueError, match=r"w: expected shape \(n, 32, 32\), given \(32, 32\)"):
        NavierStokes(32, nu=1.0).coefficients(w[0])
