"""The Lagrangian PINN's mathematics: closed forms, the two diffusion terms, characteristics, interpolation."""

import math
import warnings

import pytest
import torch

from paperworks.operators import EulerianPINN, LagrangianPINN, TransportEquation
from paperworks.operators.lpinn import (
    CollocationSampler,
    fit_pinn,
    lpinn_parallel,
    lpinn_released,
    periodic_interpolation,
    pinn_released,
    polish,
)
from paperworks.operators.lpinn.reference import burgers_solution, convection_solution, label_form_solution

TWO_PI = 2 * math.pi


def places(n=9):
    drawn = torch.Generator().manual_seed(1)
    return (torch.rand(n, 2, generator=drawn) * torch.tensor([TWO_PI, 1.0])).double()


def closed_form(net, x_of, w_of):
    """The net with its networks replaced by functions of (xi, t); derivatives by nested differentiation."""

    def jet(function):
        @torch.enable_grad()
        def of(xi, t, directions, second):
            xi, t = xi.clone().requires_grad_(), t.clone().requires_grad_()
            value = function(xi, t)

            def slope(of, by):
                found = (
                    torch.autograd.grad(of.sum(), by, create_graph=True, allow_unused=True)[0]
                    if of.requires_grad
                    else None
                )
                return torch.zeros_like(by) if found is None else found

            firsts = {"x": slope(value, xi), "t": slope(value, t)}
            return [value, *(firsts[d] for d in directions), *([slope(firsts["x"], xi)] if second else [])]

        return of

    net._x_jet, net._w_jet = jet(x_of), jet(w_of)
    return net.double()


@pytest.mark.parametrize("diffusion", ["eulerian", "label"])
@pytest.mark.parametrize("nu", [0.0, 0.3])
def test_convection_solves_both_forms(diffusion, nu):
    net = LagrangianPINN("convection", speed=7.0, viscosity=nu, diffusion=diffusion)
    net = closed_form(net, lambda xi, t: xi + 7 * t, lambda xi, t: torch.exp(-nu * t) * torch.sin(xi))
    for residual in net.residuals(places()):
        torch.testing.assert_close(residual, torch.zeros(9).double(), rtol=0, atol=1e-12)


def test_closed_form_of_burgers_solves_the_label_form_and_not_the_equation():
    nu, mean = 0.1, 2.0

    def x_of(xi, t):
        return xi + mean * t + (1 - torch.exp(-nu * t)) / nu * torch.sin(xi)

    def w_of(xi, t):
        return mean + torch.exp(-nu * t) * torch.sin(xi)

    found = {}
    for diffusion in ("label", "eulerian"):
        net = closed_form(LagrangianPINN("burgers", viscosity=nu, diffusion=diffusion), x_of, w_of)
        motion, found[diffusion] = net.residuals(places())
        assert motion.abs().max() < 1e-12
    assert found["label"].abs().max() < 1e-12
    assert found["eulerian"].abs().max() > 0.01


def test_diffusion_along_labels_is_the_second_derivative_in_x():
    """For w = h(X) with X = xi + a t sin xi the flux term is J h''(X), whatever the labels."""
    a, nu = 0.8, 0.5
    net = LagrangianPINN("burgers", viscosity=nu, diffusion="eulerian")
    net = closed_form(
        net, lambda xi, t: xi + a * t * torch.sin(xi), lambda xi, t: torch.sin(xi + a * t * torch.sin(xi))
    )
    points = places()
    xi, t = points.unbind(-1)
    x, j = xi + a * t * torch.sin(xi), 1 + a * t * torch.cos(xi)
    w_t = torch.cos(x) * a * torch.sin(xi)
    expected = j * (w_t + nu * torch.sin(x))
    torch.testing.assert_close(net.residuals(points)[1], expected, rtol=0, atol=1e-8)


def column(net, index):
    return lambda xi, t: net(torch.stack([xi, t], -1))[:, index]


def test_residuals_are_those_of_nested_differentiation():
    equation = TransportEquation(lambda x, t, w: torch.sin(x) + w, lambda x, t, w: 0.2 + 0.1 * w * w)
    for diffusion in ("eulerian", "label"):
        for x_param in ("displacement", "raw"):
            torch.manual_seed(0)
            options = dict(width=6, depth=(3, 2), diffusion=diffusion, x_param=x_param, least_jacobian=1e-3)
            net = LagrangianPINN.from_equation(equation, **options).double()
            plain = LagrangianPINN.from_equation(equation, **options).double()
            plain.load_state_dict(net.state_dict())
            closed_form(plain, column(net, 0), column(net, 1))
            for ours, theirs in zip(net.residuals(places()), plain.residuals(places()), strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def small(**options):
    torch.manual_seed(0)
    return LagrangianPINN(**{"width": 8, "depth": (3, 2), **options})


def bent(seed=0, **options):
    """A Lagrangian network whose characteristics spread and gather without crossing."""
    net = small(**options).double()
    for parameter in net.parameters():
        parameter.data.mul_(1.5)
    labels = torch.arange(200).double() * (net.period / 200)
    j = net.jacobian(labels, torch.linspace(0, 1, 11).double())
    assert 0.05 < j.min() < 0.9 < 1.1 < j.max()
    return net


def test_a_label_is_found_from_the_place_that_its_characteristic_has_reached():
    net, points = bent(), places(200)
    x, w = net(points).detach().unbind(-1)
    for turns in (0, -3, 5):
        reached = torch.stack([x + turns * net.period, points[:, 1]], -1)
        away = (net.labels_at(reached) - points[:, 0]).detach() / net.period
        torch.testing.assert_close(away, away.round(), rtol=0, atol=1e-9)
        torch.testing.assert_close(net.values_at(reached).detach(), w, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="x_param='displacement'"):
        small(x_param="raw").labels_at(places().float())


def test_the_value_at_a_place_has_the_gradient_of_both_networks():
    net, points = bent(), places(5)
    net.values_at(points).sum().backward()
    for parameter in net.parameters():
        place, step = tuple(0 for _ in parameter.shape), 1e-5
        values = []
        for sign in (1, -1):
            parameter.data[place] += sign * step
            values.append(net.values_at(points).sum().item())
            parameter.data[place] -= sign * step
        expected = (values[0] - values[1]) / (2 * step)
        found = 0.0 if parameter.grad is None else float(parameter.grad[place])
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("kind", [LagrangianPINN, EulerianPINN])
def test_measurements_add_their_misfit_to_the_loss(kind):
    torch.manual_seed(0)
    net = kind("burgers", viscosity=0.1, width=8).double()
    points, x0 = places(), places()[:, 0]
    measured = torch.cat([places(4), torch.ones(4, 1).double()], 1)
    plain = net.loss(points, x0, torch.sin(x0))
    misfit = (net.values_at(measured[:, :2]) - 1).square().mean()
    both = net.loss(points, x0, torch.sin(x0), measured=measured, measured_weight=7.0)
    torch.testing.assert_close(both, plain + 7 * misfit)
    exact = torch.cat([measured[:, :2], net.values_at(measured[:, :2]).detach()[:, None]], 1)
    torch.testing.assert_close(net.loss(points, x0, torch.sin(x0), measured=exact), plain)
    alone = net.loss(points, x0[:0], x0[:0], measured=measured, measured_weight=7.0)
    torch.testing.assert_close(alone, net.loss(points, x0[:0], x0[:0]) + 7 * misfit)
    with pytest.raises(ValueError, match="measured: expected shape"):
        net.loss(points, x0, x0, measured=measured[:, :2])


@pytest.mark.parametrize("kind", [LagrangianPINN, EulerianPINN])
def test_a_network_of_an_equation_of_ones_own_is_not_saved_as_a_configuration(kind, tmp_path):
    net = kind.from_equation(TransportEquation(lambda x, t, w: w), width=4)
    assert isinstance(net, kind)
    with pytest.raises(ValueError, match="save its state_dict"):
        net.save_pretrained(tmp_path)


def test_labels_are_initial_positions_exactly():
    xi = torch.linspace(0, TWO_PI, 50)
    assert torch.equal(small().characteristics(xi, torch.zeros(1))[0], xi)
    raw = small(x_param="raw").characteristics(torch.tensor([0.0, TWO_PI]), torch.zeros(1))[0]
    assert float(raw[1] - raw[0]) == pytest.approx(0, abs=1e-5)  # and so cannot be both 0 and 2 pi


def test_predictions_are_periodic_and_give_the_network_back_at_the_start():
    net = small().double()
    x, t = torch.linspace(0, 3, 40).double(), torch.tensor([0.0, 0.4]).double()
    torch.testing.assert_close(net.predict(x + TWO_PI, t), net.predict(x, t), rtol=0, atol=1e-12)
    at_start = net(torch.stack([x, torch.zeros_like(x)], -1))[:, 1]
    torch.testing.assert_close(net.predict(x, t)[0], at_start, rtol=0, atol=1e-4)


def test_interpolation_is_of_second_order_wherever_the_positions_lie():
    x = torch.linspace(0, TWO_PI, 301).double()
    errors = []
    for n in (64, 128):
        labels = torch.arange(n).double() * (TWO_PI / n)
        places = labels + 40.7 + 0.3 * torch.sin(labels)  # rotated by many periods, unevenly spaced
        found = periodic_interpolation(places[None], torch.sin(places)[None], x, TWO_PI)[0]
        errors.append(float((found - torch.sin(x)).abs().max()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] < 1e-3


def test_jacobian_is_that_of_the_characteristics_and_tells_when_they_cross():
    net = small().double()
    xi, t = torch.linspace(0, 6, 30).double(), torch.tensor([0.5]).double()
    step = 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        j = net.jacobian(xi, t)
    difference = (net.characteristics(xi + step, t) - net.characteristics(xi - step, t)) / (2 * step)
    torch.testing.assert_close(j, difference, rtol=0, atol=1e-7)
    inviscid = closed_form(small(equation="burgers"), lambda xi, t: xi + t * torch.sin(xi), lambda xi, t: torch.sin(xi))
    labels = torch.arange(64).double() * (TWO_PI / 64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inviscid.jacobian(labels, torch.tensor([0.9]).double())  # breaks at 1
        with pytest.raises(UserWarning, match=r"cross from t = 1\.1 on"):
            inviscid.jacobian(labels, torch.tensor([0.9, 1.1, 1.3]).double())


def test_released_form_shares_its_matrices():
    net = lpinn_released()
    assert net.w_net.layers[0] is net.x_net.layers[0]
    assert net.w_net.layers[2] is net.w_net.layers[4]
    assert net.w_net.layers[-1] is net.x_net.layers[-1]
    assert len(net.w_net.layers) == 6


def test_shared_layers_are_saved_once_and_found_again(tmp_path):
    net = small(shared=True, depth=(4, 2), x_param="raw")
    net.save_pretrained(tmp_path)
    again = LagrangianPINN.from_pretrained(tmp_path)
    points = places().float()
    assert torch.equal(again(points), net(points))
    assert again.w_net.layers[3] is again.x_net.layers[2] or again.w_net.layers[3] is again.w_net.layers[2]


def official(state_of, layers, extra):
    drawn = torch.Generator().manual_seed(3)
    state = {}
    for name, (rows, columns) in {**layers, **extra}.items():
        state |= {f"{name}.weight": torch.randn(rows, columns, generator=drawn)}
        state |= {f"{name}.bias": torch.randn(rows, generator=drawn)}
    return state_of, state


def test_authors_weights_go_where_they_belong():
    square, net = (50, 50), lpinn_released()
    _, state = official(None, {"input": (50, 3), "hidden1": square, "hidden2": square, "output": (1, 50)},
                        {"hidden3": square, "hiddenae": square})  # fmt: skip
    net.load_official(state)
    xi, t = torch.tensor([0.3]), torch.tensor([0.6])
    h = torch.stack([torch.cos(xi), torch.sin(xi), t], -1)
    linear = lambda x, name: x @ state[f"{name}.weight"].T + state[f"{name}.bias"]  # noqa: E731
    h = torch.tanh(linear(torch.tanh(linear(h, "input")), "hidden1"))
    position = linear(h, "output")
    for _ in range(3):
        h = torch.tanh(linear(h, "hidden2"))
    expected = torch.cat([position, linear(h, "output")], -1)
    torch.testing.assert_close(net(torch.stack([xi, t], -1)), expected)
    with pytest.raises(ValueError, match=r"given .*surprise"):
        net.load_official({**state, "surprise": torch.ones(1)})
    with pytest.raises(ValueError, match="shared=True"):
        lpinn_parallel().load_official(state)
    baseline = pinn_released()
    with pytest.raises(ValueError, match=r"hidden4\.weight' is missing"):
        baseline.load_official({n: v for n, v in state.items() if "ae" not in n})


def test_burgers_reference_is_galilean_and_solves_the_equation():
    moving = burgers_solution(64, 6, mean=5.0, viscosity=0.1, phase=0.7)
    still = burgers_solution(64, 6, mean=0.0, viscosity=0.1, phase=0.7, fine=256)
    k = torch.fft.rfftfreq(64, 1 / 64).double()
    t = torch.linspace(0, 1, 6).double()[:, None]
    shifted = 5 + torch.fft.irfft(torch.fft.rfft(still) * torch.exp(-1j * k * 5 * t), 64)
    torch.testing.assert_close(moving, shifted, rtol=0, atol=1e-6)  # shifted on the coarse grid
    # Cole-Hopf: w = -2 nu (log theta)_x, and theta spreads as heat does
    x, nu = torch.arange(64).double() * (TWO_PI / 64), 0.1
    theta = torch.exp((torch.cos(x + 0.7) - 1) / (2 * nu))
    heat = torch.fft.irfft(torch.fft.rfft(theta) * torch.exp(-nu * k**2 * t), 64)
    slope = torch.fft.irfft(1j * k * torch.fft.rfft(heat), 64)
    torch.testing.assert_close(still[-1], (-2 * nu * slope / heat)[-1], rtol=0, atol=1e-5)


def test_label_form_misses_the_solution_by_what_the_analysis_says():
    """Relative to w - C, t in [0, 1]: 3.5 % over all times and 10.3 % at t = 1 for nu = 0.05."""
    x, t = torch.arange(256).double() * (TWO_PI / 256), torch.linspace(0, 1, 51).double()
    truth = burgers_solution(256, 51, mean=0.0, viscosity=0.05)
    found = label_form_solution(x, t, mean=0.0, viscosity=0.05)
    assert float((found - truth).norm() / truth.norm()) == pytest.approx(0.035, abs=5e-4)
    assert float((found - truth)[-1].norm() / truth[-1].norm()) == pytest.approx(0.103, abs=1e-3)


def test_convection_solution_decays_and_moves():
    x, t = torch.linspace(0, 6, 5), torch.tensor([0.0, 2.0])
    found = convection_solution(x, t, speed=3.0, viscosity=0.1, phase=0.2)
    torch.testing.assert_close(found[0], torch.sin(x + 0.2))
    torch.testing.assert_close(found[1], math.exp(-0.2) * torch.sin(x - 6 + 0.2))


def test_sampler_is_a_function_of_the_step():
    sampler = CollocationSampler(torch.sin, period=2.0, t_max=3.0, n_points=500, n_initial=20, seed=4)
    points, x0, w0 = sampler(7)
    assert torch.equal(points, sampler(7)[0])
    assert not torch.equal(points, sampler(8)[0])
    assert points.amax(0).tolist() == pytest.approx([2.0, 3.0], abs=0.05)
    assert torch.equal(w0, torch.sin(x0))
    with pytest.raises(ValueError, match="at least 1"):
        CollocationSampler(torch.sin, period=1, t_max=1, n_points=0)


@pytest.mark.slow
def test_fast_convection_is_learned_by_characteristics_and_not_by_the_plain_network():
    x, t = torch.arange(64) * (TWO_PI / 64), torch.linspace(0, 1, 21)
    truth, errors = convection_solution(x, t, speed=30.0), []
    for kind in (LagrangianPINN, EulerianPINN):
        torch.manual_seed(0)
        net = kind(speed=30.0, width=20)
        fit_pinn(net, torch.sin, steps=600, lr=1e-2, n_points=128, n_initial=64)
        errors.append(float((net.predict(x, t) - truth).norm() / truth.norm()))
    assert errors[0] < 0.3 < 0.8 < errors[1]


def test_polishing_lowers_the_loss():
    net = small()
    batch = CollocationSampler(torch.sin, period=TWO_PI, t_max=1.0, n_points=64, n_initial=16)(0)
    before = net.loss(*batch).item()
    assert polish(net, batch, 15) < 0.2 * before


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (dict(diffusion="lagrangian"), "diffusion 'lagrangian': one of eulerian, label"),
        (dict(x_param="polar"), "x_param 'polar': one of displacement, raw"),
        (dict(depth=(4,)), "depth: tanh layers of the w-network and of the X-network"),
        (dict(shared=True, depth=(4, 3)), r"depth: \(3 or more, 2\) where layers are shared, given \(4, 3\)"),
        (dict(t_max=-1.0), "t_max: a number above 0, given -1"),
    ],
)
def test_what_cannot_be_is_refused_in_words(options, told):
    with pytest.raises(ValueError, match=told):
        LagrangianPINN(**options)
