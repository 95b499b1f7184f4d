"""Straight-through estimators: exact signs, and gradients of the surrogates."""

import math

import pytest
import torch

from paperworks.nn.straight_through import ESTIMATORS, binary_sign, scaled_sign, sign, square_wave, surrogate

GRID = torch.linspace(-2.5, 2.5, 401, dtype=torch.float64)[1::2]  # no kink of a surrogate among them


def gradient(function, x):
    x = x.clone().requires_grad_()
    function(x).backward(torch.linspace(1, 2, len(x), dtype=x.dtype))
    return x.grad


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_forward_is_the_sign_and_backward_the_surrogates_gradient(estimator):
    assert torch.equal(binary_sign(GRID, estimator), torch.sign(GRID))
    ours = gradient(lambda x: binary_sign(x, estimator, steepness=3.0), GRID)
    torch.testing.assert_close(ours, gradient(lambda x: surrogate(x, estimator, 3.0), GRID))


@pytest.mark.parametrize("estimator", ["clip", "polynomial", "tanh"])
def test_surrogates_run_from_minus_one_to_one(estimator):
    ends = surrogate(torch.tensor([-20.0, 0.0, 20.0]), estimator)
    torch.testing.assert_close(ends, torch.tensor([-1.0, 0.0, 1.0]))


def test_polynomial_slope_is_a_hat():
    slope = gradient(lambda x: binary_sign(x, "polynomial"), GRID) / torch.linspace(1, 2, len(GRID), dtype=GRID.dtype)
    torch.testing.assert_close(slope, (2 - 2 * GRID.abs()).clamp(min=0))


def test_zeros_of_either_sign():
    zeros = torch.tensor([0.0, -0.0])
    assert sign(zeros).tolist() == [1, 1]
    assert sign(zeros, 0).tolist() == [0, 0]
    assert binary_sign(zeros, of_zero=0).tolist() == [0, 0]
    assert binary_sign(zeros, of_zero=-1).tolist() == [-1, -1]
    assert square_wave(zeros, 20.0).tolist() == [1, 1]
    with pytest.raises(ValueError, match="of_zero"):
        sign(zeros, 2)


def test_square_wave_is_periodic_and_has_the_sines_gradient():
    omega = 20.0
    w = torch.randn(200, dtype=torch.float64)
    assert torch.equal(square_wave(w + 2 * math.pi / omega, omega), square_wave(w, omega))
    assert torch.equal(square_wave(w + math.pi / omega, omega), -square_wave(w, omega))
    torch.testing.assert_close(
        gradient(lambda x: square_wave(x, omega), w), gradient(lambda x: torch.sin(omega * x), w)
    )


def test_low_frequency_is_the_plain_sign():
    w = torch.linspace(-3, 3, 100)
    assert torch.equal(square_wave(w, 1.0), torch.sign(w))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dims", [(1,), (1, 2, 3)])
def test_scaled_sign_is_the_division_and_then_the_sign(estimator, dims):
    torch.manual_seed(0)
    x = (0.7 * torch.randn(3, 4, 5, 6, dtype=torch.float64) + 0.2)[:, :, : 1 if len(dims) == 1 else 5].contiguous()
    outward = torch.randn_like(x)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours = scaled_sign(a, dims, estimator)
    plain = binary_sign(b / (b.var(dims, keepdim=True) + 1e-5).sqrt(), estimator)
    assert torch.equal(ours, plain)
    ours.backward(outward)
    plain.backward(outward)
    torch.testing.assert_close(a.grad, b.grad)


def test_vmap_and_wrong_names():
    x = torch.randn(4, 6)
    assert torch.equal(torch.vmap(binary_sign)(x), binary_sign(x))
    slopes = torch.vmap(torch.func.grad(lambda row: (binary_sign(row, "polynomial") * row.detach()).sum()))(x)
    torch.testing.assert_close(slopes, (2 - 2 * x.abs()).clamp(min=0) * x)
    with pytest.raises(ValueError, match="identity, clip, polynomial, tanh"):
        binary_sign(x, "soft")
    with pytest.raises(ValueError, match="identity"):
        scaled_sign(x, (1,), "soft")
