"""KAN layers: splines against scipy, sums over edges, and functions they must represent exactly."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch.nn import functional as F

from paperworks.layers import KAN, BSplineActivation, BSplineKANLayer, ChebyKANLayer, RBFKANLayer, ReLUKANLayer
from paperworks.layers.kan import bspline_basis

GRID = 5


def knots(order, low=-1.0, high=1.0):
    return low + (high - low) / GRID * np.arange(-order, GRID + order + 1)


@pytest.mark.parametrize("order", [0, 1, 2, 3, 4, 5])
def test_basis_is_that_of_scipy(order):
    x = np.linspace(-1, 1, 203)[1:-1]
    ours = bspline_basis(torch.from_numpy(x), GRID, order).numpy()
    np.testing.assert_allclose(ours, BSpline.design_matrix(x, knots(order), order).toarray(), atol=1e-13)
    assert ((ours > 1e-14).sum(1) <= order + 1).all()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_basis_sums_to_one_on_the_grid_ends_included_and_fades_beyond(order):
    inside = torch.linspace(-1, 1, 101)
    basis = bspline_basis(inside, GRID, order)
    assert basis.min() >= -1e-6
    torch.testing.assert_close(basis.sum(-1), torch.ones(101), rtol=0, atol=2e-6)
    far = torch.tensor([-1 - 2 / GRID * order, 1 + 2 / GRID * order, 40.0, -1e6])
    assert bspline_basis(far, GRID, order).abs().max() < 1e-5


def test_derivative_is_a_difference_of_lower_splines():
    x = torch.linspace(-0.99, 0.99, 50, dtype=torch.float64, requires_grad=True)
    basis, h = bspline_basis(x, GRID, 3), 2 / GRID
    lower = bspline_basis(x.detach(), GRID, 2)  # B'_j = (B_{j, k-1} - B_{j+1, k-1}) / h
    padded = F.pad(lower, (1, 1))
    expected = (padded[:, :-1] - padded[:, 1:]) / h
    for j in range(GRID + 3):
        (slope,) = torch.autograd.grad(basis[:, j].sum(), x, retain_graph=True)
        torch.testing.assert_close(slope, expected[:, j], rtol=0, atol=1e-10)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_polynomials_up_to_the_order_are_reproduced(order):
    x = torch.linspace(-1, 1, 60, dtype=torch.float64)
    basis = bspline_basis(x, GRID, order)
    for degree, exact in ((order, True), (order + 1, False)):
        fit = basis @ torch.linalg.lstsq(basis, (x**degree)[:, None]).solution
        assert (float((fit[:, 0] - x**degree).abs().max()) < 1e-10) is exact


def test_layer_is_the_sum_over_its_edges():
    torch.manual_seed(0)
    layer = BSplineKANLayer(3, 2, scaler=True).double()
    layer.spline_scaler.data.normal_()
    x = torch.rand(6, 3, dtype=torch.float64) * 2 - 1
    slow = torch.zeros(6, 2, dtype=torch.float64)
    for q in range(2):
        for p in range(3):
            coefficients = (layer.spline_weight[q, p] * layer.spline_scaler[q, p]).detach().numpy()
            spline = BSpline(knots(3), coefficients, 3)(x[:, p].numpy())
            slow[:, q] += layer.base_weight[q, p] * F.silu(x[:, p]) + torch.from_numpy(spline)
    torch.testing.assert_close(layer(x), slow)


def test_without_splines_it_is_a_linear_layer_of_silu():
    layer = BSplineKANLayer(4, 3)
    layer.spline_weight.data.zero_()
    x = torch.randn(5, 4)
    torch.testing.assert_close(layer(x), F.linear(F.silu(x), layer.base_weight))


def test_additive_function_is_fitted_exactly_by_one_layer():
    rng = np.random.default_rng(0)
    f, g = (BSpline(knots(3), rng.normal(size=GRID + 3), 3) for _ in range(2))
    x = torch.rand(300, 2, dtype=torch.float64) * 2 - 1
    y = torch.from_numpy(f(x[:, 0].numpy()) + g(x[:, 1].numpy()))
    layer = BSplineKANLayer(2, 1, base="none").double()
    design = bspline_basis(x, GRID, 3).flatten(1)
    layer.spline_weight.data.copy_(torch.linalg.lstsq(design, y[:, None], driver="gelsd").solution.view(1, 2, -1))
    assert (layer(x)[:, 0] - y).abs().max() < 1e-9


def test_relu_bump_has_height_one_in_its_middle_and_ends_at_its_phases():
    layer = ReLUKANLayer(1, 1, grid_size=4, order=3)
    layer.linear.weight.data.zero_()
    layer.linear.bias.data.zero_()
    layer.linear.weight.data[0, 2] = 1.0
    low, high = layer.low[0, 2].item(), layer.high[0, 2].item()
    assert high - low == pytest.approx(4 / 4)
    at = torch.tensor([[low], [high], [low - 1], [(low + high) / 2], [low + 0.2], [high - 0.2]])
    out = layer(at)[:, 0]
    assert out[:3].abs().max() < 1e-6
    assert float(out[3]) == pytest.approx(1.0, abs=1e-5)
    assert float(out[4]) == pytest.approx(float(out[5]), abs=1e-5)


def test_chebyshev_rows_are_cosines_and_gaussians_are_gaussians():
    layer = ChebyKANLayer(1, 5, degree=4)
    layer.weight.data.copy_(torch.eye(5)[:, None])
    x = torch.randn(7, 1)
    angle = torch.arccos(torch.tanh(x))
    torch.testing.assert_close(layer(x), torch.cos(angle * torch.arange(5)), rtol=1e-4, atol=1e-5)
    rbf = RBFKANLayer(3, 4)
    x = torch.randn(6, 3)
    hills = torch.exp(-(((rbf.norm(x)[..., None] - torch.linspace(-2, 2, 8)) / (4 / 7)) ** 2)).flatten(1)
    torch.testing.assert_close(rbf(x), hills @ rbf.spline.weight.T + rbf.base(F.silu(x)))


def test_spline_activation_starts_as_silu():
    x = torch.linspace(-1.9, 1.9, 50)[:, None]
    assert (BSplineActivation(1)(x) - F.silu(x)).abs().max() < 1e-3


def test_count_is_that_of_efficient_kan_and_relu_kan():
    def count(net):
        return sum(p.numel() for p in net.parameters())

    assert count(KAN((784, 64, 10), options={"grid_size": 3, "scaler": True})) == 406_528
    assert count(KAN((784, 64, 10), "relu", options={"grid_size": 3, "norm": True})) == 316_842
    assert count(KAN((784, 64, 10), "relu", options={"grid_size": 3})) == 315_146
    assert count(KAN((2, 5, 1))) == 135


def test_wrong_options_are_refused():
    for call in (
        lambda: KAN((2,)),
        lambda: KAN((2, 1), "other"),
        lambda: KAN((2, 1), "relu", hidden_range=2.0),
        lambda: BSplineKANLayer(2, 1, base="other"),
        lambda: BSplineKANLayer(2, 1, low=1.0, high=0.0),
        lambda: ChebyKANLayer(2, 1, degree=0),
        lambda: RBFKANLayer(2, 1, grid_size=1),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()
