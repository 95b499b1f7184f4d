"""Derivatives of tanh networks without nested differentiation, and the plain PINN."""

import math

import pytest
import torch

from paperworks.operators import EulerianPINN, TransportEquation
from paperworks.operators.jets import mlp_jet, periodic_jet
from paperworks.operators.pinn import named_equation, size_of, tanh_network

PERIOD, T_MAX = 3.0, 0.7


def places(n=7):
    drawn = torch.Generator().manual_seed(1)
    return PERIOD * torch.rand(n, generator=drawn).double(), T_MAX * torch.rand(n, generator=drawn).double()


def random_network(depth=3, width=6):
    torch.manual_seed(0)
    net = tanh_network(3, width, depth).double()
    for parameter in net.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return net


def nested(net, x, t, period=PERIOD, t_max=T_MAX):
    """w, w_x, w_t, w_xx by differentiating automatically three times over: slow, and plainly right."""
    x, t = x.clone().requires_grad_(), t.clone().requires_grad_()
    angle = 2 * math.pi / period * x
    w = net(torch.stack([torch.cos(angle), torch.sin(angle), t / t_max], -1))[:, 0]
    w_x, w_t = torch.autograd.grad(w.sum(), (x, t), create_graph=True)
    (w_xx,) = torch.autograd.grad(w_x.sum(), x, create_graph=True)
    return torch.stack([w, w_x, w_t, w_xx])


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize(
    ("directions", "second", "rows"),
    [("xt", True, [0, 1, 2, 3]), ("xt", False, [0, 1, 2]), ("t", False, [0, 2]), ("x", True, [0, 1, 3])],
)
def test_jets_and_their_gradients_are_those_of_nested_differentiation(depth, directions, second, rows):
    net, (x, t) = random_network(depth), places()
    fast = mlp_jet(net, periodic_jet(x, t, PERIOD, T_MAX, directions, second), second)
    slow = nested(net, x, t)[rows]
    torch.testing.assert_close(fast, slow, rtol=1e-11, atol=1e-12)
    weight = torch.randn(fast.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    gradients = [
        torch.autograd.grad((weight * value).sum() + value.pow(3).mean(), list(net.parameters()))
        for value in (fast, slow)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)


def test_a_value_of_the_jet_is_the_networks():
    net, (x, t) = random_network(), places()
    start = periodic_jet(x, t, PERIOD, T_MAX, "xt", True)
    for second in (True, False):
        jet = mlp_jet(net, start if second else start[:3], second)
        torch.testing.assert_close(jet[0], net(start[0])[:, 0])


def pinn(**options):
    torch.manual_seed(0)
    return EulerianPINN(period=PERIOD, t_max=T_MAX, width=6, depth=2, **options).double()


def test_residual_is_the_equations():
    x, t = places()
    for name, viscosity in (("convection", 0.0), ("burgers", 0.3), ("reaction", 0.2)):
        net = pinn(equation=name, speed=2.0, viscosity=viscosity, offset=0.5)
        w, w_x, w_t, w_xx = nested(net.net, x, t)
        w = w + 0.5
        speed = {"convection": 2.0, "burgers": w, "reaction": 2 * w * (1 - w)}[name]
        expected = w_t + speed * w_x - viscosity * w_xx
        torch.testing.assert_close(net.residual(torch.stack([x, t], -1)), expected)


def test_the_moving_frame_changes_the_network_and_not_the_equation():
    x, t = places()
    points = torch.stack([x, t], -1)
    still, moving = pinn(speed=2.0), pinn(speed=2.0, frame_speed=2.0)
    torch.testing.assert_close(moving(points), still(torch.stack([x - 2 * t, t], -1)))
    # in the frame of the waves the residual of convection is the time derivative alone
    _, _, w_t, _ = nested(still.net, x - 2 * t, t)
    torch.testing.assert_close(moving.residual(points), w_t)


def test_coefficients_of_ones_own(tmp_path):
    equation = TransportEquation(lambda x, t, w: torch.sin(x) + t * w, lambda x, t, w: 0.1 + w.square())
    torch.manual_seed(0)
    net = EulerianPINN.from_equation(equation, period=PERIOD, t_max=T_MAX, width=6, depth=2).double()
    x, t = places()
    w, w_x, w_t, w_xx = nested(net.net, x, t)
    expected = w_t + (torch.sin(x) + t * w) * w_x - (0.1 + w**2) * w_xx
    torch.testing.assert_close(net.residual(torch.stack([x, t], -1)), expected)
    with pytest.raises(ValueError, match="state_dict"):
        net.save_pretrained(tmp_path / "net")


def test_predictions_are_periodic_and_on_the_grid_asked_for():
    net = pinn()
    x, t = torch.linspace(0, 1, 5).double(), torch.linspace(0, T_MAX, 3).double()
    torch.testing.assert_close(net.predict(x + PERIOD, t), net.predict(x, t), rtol=0, atol=1e-12)
    one = net(torch.tensor([[x[3], t[1]]]))
    assert float(net.predict(x, t)[1, 3]) == pytest.approx(one.item(), abs=1e-12)


def test_loss_is_residual_and_initial_condition():
    net = pinn()
    points, x0, w0 = torch.stack(places(), -1), torch.rand(4).double(), torch.rand(4).double()
    residual = net.residual(points)
    start = net(torch.stack([x0, torch.zeros(4).double()], -1))[:, 0] - w0
    expected = residual.square().mean() + 7 * start.square().mean()
    torch.testing.assert_close(net.loss(points, x0, w0, initial_weight=7), expected)
    torch.testing.assert_close(
        net.loss(points, x0, w0, initial_weight=7, form="norm"), residual.norm() + 7 * start.norm()
    )


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: named_equation("heat"), "equation 'heat': one of convection, burgers, reaction"),
        (lambda: named_equation("burgers", viscosity=-1), "viscosity: a number from 0, given -1"),
        (lambda: EulerianPINN(period=0), "period: a number above 0, given 0"),
        (lambda: size_of(torch.ones(1), "l1"), "form 'l1': one of mean_square, norm"),
        (lambda: EulerianPINN().residual(torch.ones(3, 1)), r"points: expected shape \(batch, 2\), given \(3, 1\)"),
        (lambda: EulerianPINN().predict(torch.ones(3, 1), torch.ones(1)), r"x: expected shape \(n\), given \(3, 1\)"),
        (lambda: EulerianPINN().load_official({"other.weight": torch.ones(1)}), "given .*other.weight"),
        (lambda: EulerianPINN().load_official({}), "'input.weight' is missing"),
    ],
)
def test_what_cannot_be_is_refused_in_words(call, told):
    with pytest.raises(ValueError, match=told):
        call()
