"""DeepONet's mathematics, and the tasks that it is tested on."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.operators import FNN, GRF, Chebyshev, DeepONet, MIONet, PODDeepONet, PowerSeries
from paperworks.operators.ode_data import antiderivative, gaussian_field, ode_triples, solution


def trained_like(net: nn.Module) -> nn.Module:
    """All parameters drawn at random, biases too."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return net


@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("strategy", ["split_both", "split_branch", "split_trunk", "independent"])
def test_aligned_equals_triples_on_the_product(stacked, outputs, strategy):
    net = DeepONet((5, 8, 6), (2, 8, 6), "tanh", stacked=stacked, num_outputs=outputs, multi_output=strategy)
    trained_like(net)
    u, y = torch.randn(4, 5), torch.rand(7, 2)
    triples = net(u.repeat_interleave(7, 0), y.repeat(4, 1)).view(4, 7, outputs)
    torch.testing.assert_close(net.grid(u, y), triples, rtol=1e-5, atol=1e-6)


def test_stacked_branch_is_as_many_separate_nets():
    net = trained_like(DeepONet((5, 8, 6), (1, 8, 6), "tanh", stacked=True))
    u = torch.randn(3, 5)
    stack = net.branches[0]
    for k in range(6):
        x = torch.tanh(u @ stack.weights[0][k] + stack.biases[0][k])
        x = x @ stack.weights[1][k] + stack.biases[1][k]
        torch.testing.assert_close(net.branch(u)[:, 0, k], x[:, 0])


def test_output_is_the_inner_product_plus_b0():
    net = trained_like(DeepONet((5, 8, 6), (2, 8, 6)))
    u, y = torch.randn(3, 5), torch.rand(3, 2)
    trunk = y
    for layer in net.trunks[0].layers:  # every layer of the trunk is activated, its last included
        trunk = torch.relu(layer(trunk))
    branch = net.branches[0].layers[1](torch.relu(net.branches[0].layers[0](u)))
    torch.testing.assert_close(net(u, y)[:, 0], (branch * trunk).sum(-1) + net.b0)


def test_linear_branch_without_bias_is_linear_in_u():
    net = trained_like(DeepONet((5, 6), (1, 8, 6), bias=False)).double()
    u, v, y = torch.randn(3, 5).double(), torch.randn(3, 5).double(), torch.rand(3, 1).double()
    torch.testing.assert_close(net(2 * u - 3 * v, y), 2 * net(u, y) - 3 * net(v, y))


def test_gradient_of_b0_is_twice_the_mean_residual():
    net = trained_like(DeepONet((5, 8, 6), (1, 8, 6)))
    u, y, s = torch.randn(9, 5), torch.rand(9, 1), torch.randn(9, 1)
    residual = net(u, y) - s
    residual.square().mean().backward()
    torch.testing.assert_close(net.b0.grad, 2 * residual.detach().mean(0))


def test_zero_last_branch_layer_gives_the_constant_b0():
    net = trained_like(DeepONet((5, 8, 6), (1, 8, 6)))
    nn.init.zeros_(net.branches[0].layers[-1].weight)
    nn.init.zeros_(net.branches[0].layers[-1].bias)
    assert torch.all(net(torch.randn(4, 5), torch.rand(4, 1)) == net.b0)


def test_derivative_in_y_equals_finite_difference():
    net = trained_like(DeepONet((5, 8, 6), (1, 8, 6), "tanh")).double()
    u, y = torch.randn(4, 5).double(), torch.rand(4, 1).double().requires_grad_()
    (slope,) = torch.autograd.grad(net(u, y).sum(), y)
    h = 1e-5
    with torch.no_grad():
        difference = (net(u, y + h) - net(u, y - h)) / (2 * h)
    torch.testing.assert_close(slope, difference, rtol=1e-6, atol=1e-8)


def test_permuting_sensors_with_branch_columns_changes_nothing():
    net = trained_like(DeepONet((5, 8, 6), (1, 8, 6)))
    u, y, order = torch.randn(4, 5), torch.rand(4, 1), torch.randperm(5)
    before = net(u, y)
    first = net.branches[0].layers[0].weight
    first.data = first.data[:, order]
    torch.testing.assert_close(net(u[:, order], y), before)


def test_transforms_are_applied():
    net = trained_like(DeepONet((5, 6), (2, 6)))
    net.input_transform = lambda y: torch.cat([torch.sin(2 * math.pi * y), torch.cos(2 * math.pi * y)], -1)
    net.output_transform = lambda u, y, values: values * 0
    u, y = torch.randn(4, 5), torch.rand(4, 1)
    net.output_transform, plain = None, net(u, y)
    torch.testing.assert_close(net(u, y + 1), net(u, y), rtol=1e-4, atol=1e-4)
    assert torch.all(plain == 0)


def test_own_modules_work_and_say_that_they_cannot_be_saved(tmp_path):
    branch = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(6, 4))
    net = DeepONet.from_modules(branch, nn.Linear(1, 4), n_sensors=5, n_dims=1, p=4)
    assert net.grid(torch.randn(3, 1, 5), torch.rand(7, 1)).shape == (3, 7, 1)
    with pytest.raises(ValueError, match="state_dict"):
        net.save_pretrained(tmp_path)


def test_triples_and_grids_are_not_mixed_up():
    net = DeepONet((5, 6), (1, 6))
    with pytest.raises(ValueError, match=r"grid\(u, y\)"):
        net(torch.randn(4, 5), torch.rand(7, 1))
    with pytest.raises(ValueError, match=r"trunk_sizes: must end in 6"):
        DeepONet((5, 6), (1, 7))


def test_pod_basis_reproduces_training_outputs():
    outputs = torch.randn(40, 3).double() @ torch.randn(3, 20).double() + torch.randn(20).double()
    net = PODDeepONet((5, 8, 3), 20).double().set_basis(outputs)
    target = outputs - net.mean
    coefficients = torch.linalg.lstsq(net.basis, target.T).solution
    torch.testing.assert_close(net.basis @ coefficients, target.T)
    assert "basis" in net.state_dict()


def test_mionet_with_a_constant_second_branch_is_a_deeponet():
    mio = trained_like(MIONet(((5, 8, 6), (4, 8, 6)), (1, 8, 6)))
    second = mio.branches[1].layers[-1]
    nn.init.zeros_(second.weight)
    nn.init.ones_(second.bias)
    deep = DeepONet((5, 8, 6), (1, 8, 6))
    deep.branches[0], deep.trunks[0], deep.b0 = mio.branches[0], mio.trunk, mio.b0
    u, y = torch.randn(3, 5), torch.rand(3, 1)
    torch.testing.assert_close(mio(u, torch.randn(3, 4), y), deep(u, y))


def test_baseline_sees_u_and_y():
    net = trained_like(FNN(5, 1, (8,), activation="tanh"))
    u, y = torch.randn(3, 5), torch.rand(3, 1)
    torch.testing.assert_close(net(u, y), net.net(torch.cat([u, y], -1)))


@pytest.mark.parametrize(("u", "exact"), [
    (lambda x: x, lambda y: y**2 / 2),
    (lambda x: np.sin(np.pi * x), lambda y: (1 - np.cos(np.pi * y)) / np.pi),
    (lambda x: np.ones_like(x), lambda y: y),
])  # fmt: skip
def test_antiderivative_of_known_functions(u, exact):
    x = np.linspace(0, 1, 1001)
    assert np.abs(antiderivative(x, u(x)[None])[0] - exact(x)).max() < 1e-9


def test_nonlinear_ode_and_pendulum_against_known_solutions():
    x = np.linspace(0, 1, 401)
    tanh = solution("nonlinear", x, np.ones((1, 401)))[0]  # s' = 1 - s^2, s(0) = 0
    assert np.abs(tanh - np.tanh(x[::2])).max() < 1e-9
    weak = solution("pendulum", x, np.full((1, 401), 1e-6))[0]  # small angles: s'' = -s + u
    assert np.abs(weak - 1e-6 * (1 - np.cos(x[::2]))).max() < 1e-15


def test_field_has_the_kernels_covariance():
    space = gaussian_field(0.2)
    u = space.evaluate(space.random(4000, torch.Generator().manual_seed(0)), np.array([0.3, 0.5]))
    products = u[:, 0] * u[:, 1]  # a lag of one length scale
    error = products.std() / math.sqrt(len(products))
    assert abs(products.mean() - math.exp(-0.5)) < 3 * error
    assert abs(u.var() - 1) < 0.1


def test_field_keeps_the_kernel_to_rounding():
    space = GRF(0.2, n_grid=300)
    kernel = np.exp(-((space.x[:, None] - space.x) ** 2) / 0.08)
    assert np.abs(space.basis.T @ space.basis - kernel).max() < 1e-9
    assert len(space.basis) < 40


def test_polynomial_spaces():
    x = np.linspace(0, 1, 9)
    assert np.allclose(Chebyshev(3).evaluate(np.array([[0.0, 0.0, 1.0]]), x), 2 * (2 * x - 1) ** 2 - 1)
    assert np.allclose(PowerSeries(3).evaluate(np.array([[1.0, 0.0, 2.0]]), x), 1 + 2 * x**2)
    assert np.abs(Chebyshev(20).random(50)).max() <= 1


def test_triples_are_reproducible_and_right():
    a, b = (ode_triples(5, n_sensors=7, generator=torch.Generator().manual_seed(1)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    u, y, s = ode_triples(2000, n_sensors=1001, generator=torch.Generator().manual_seed(2))
    place = (y[:, 0] * 1000).round().long()
    cumulative = torch.cumulative_trapezoid(u.double(), dx=1e-3, dim=1)
    cumulative = torch.cat([torch.zeros(2000, 1, dtype=torch.float64), cumulative], 1)
    assert (cumulative[torch.arange(2000), place] - s[:, 0]).abs().max() < 1e-5
