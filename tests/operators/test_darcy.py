"""The Darcy solver: known solutions, the properties of its matrix, and both ways to factor it."""

import math

import numpy as np
import pytest
import torch

from paperworks.operators import darcy
from paperworks.operators.darcy import darcy_coefficient, darcy_matrix, solve_darcy
from paperworks.operators.random_fields import neumann_field


def unit_coefficient_solution(size):
    """The double sine series of -Laplacian u = 1."""
    x = np.linspace(0, 1, size)
    odd = np.arange(1, 400, 2)
    sines = np.sin(np.pi * odd[:, None] * x)
    weights = 16 / (np.pi**4 * odd[:, None] * odd * (odd[:, None] ** 2 + odd**2))
    return torch.from_numpy(sines.T @ weights @ sines)


def test_constant_coefficient_gives_the_sine_series():
    u = solve_darcy(torch.ones(1, 65, 65))[0]
    exact = unit_coefficient_solution(65)
    assert abs(exact.max() - 0.0737) < 1e-4
    assert (u - exact).abs().max() < 2e-5
    torch.testing.assert_close(solve_darcy(torch.full((1, 65, 65), 4.0))[0], u / 4)


def test_manufactured_solution_converges_with_the_square_of_the_spacing():
    """a = 1 + x y / 2 + x^2, u = sin(pi x) sin(2 pi y)."""
    errors = []
    for size in (17, 33):
        x = torch.linspace(0, 1, size).double()[:, None]
        y = x.T
        sx, cx, sy, cy = (f(math.pi * k * z) for k, z in ((1, x), (2, y)) for f in (torch.sin, torch.cos))
        a = 1 + x * y / 2 + x**2
        f = 5 * math.pi**2 * a * sx * sy - math.pi * (y / 2 + 2 * x) * cx * sy - 2 * math.pi * x / 2 * sx * cy
        errors.append(float((solve_darcy(a[None], f)[0] - sx * sy).abs().max()))
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.1


def random_coefficients(n, size, kind="piecewise"):
    return darcy_coefficient(neumann_field(n, size), kind)


def test_matrix_is_symmetric_positive_definite_and_an_m_matrix():
    for kind in ("piecewise", "lognormal"):
        matrix = darcy_matrix(random_coefficients(1, 12, kind)[0].numpy()).toarray()
        assert np.array_equal(matrix, matrix.T)
        assert np.linalg.eigvalsh(matrix).min() > 0
        assert (matrix - np.diag(np.diag(matrix)) <= 0).all()
        assert (matrix.sum(1) >= -1e-12).all()


def test_maximum_principle_and_monotonicity():
    a = random_coefficients(3, 20)
    u = solve_darcy(a)
    inner = u[:, 1:-1, 1:-1]
    assert (inner > 0).all()
    assert u[:, [0, -1]].abs().max() == 0
    assert u[:, :, [0, -1]].abs().max() == 0
    more = torch.ones(20, 20).double()
    more[5:8, 9:12] = 3.0
    assert (solve_darcy(a, more)[:, 1:-1, 1:-1] > inner).all()
    harmonic_inside = solve_darcy(a, 1.0 * (more > 1))  # without a source the largest value is not inside
    assert (harmonic_inside.flatten(1).argmax(1) == (harmonic_inside * (more > 1)).flatten(1).argmax(1)).all()


def test_both_factorisations_solve_the_same_system(monkeypatch):
    a = random_coefficients(2, 21, "lognormal")
    banded = solve_darcy(a)
    monkeypatch.setattr(darcy, "BANDED_UP_TO", 0)
    torch.testing.assert_close(solve_darcy(a), banded, rtol=1e-11, atol=0)
    for coefficient, u in zip(a.numpy(), banded.numpy(), strict=True):
        residual = darcy_matrix(coefficient) @ u[1:-1, 1:-1].ravel() * 20**2 - 1
        assert abs(residual).max() < 1e-9


def test_transposing_the_coefficient_transposes_the_solution():
    a = random_coefficients(1, 15)
    torch.testing.assert_close(solve_darcy(a.mT), solve_darcy(a).mT)


def test_coefficients():
    g = torch.tensor([-1.0, 0.0, 2.0])
    assert darcy_coefficient(g).tolist() == [3, 12, 12]
    assert darcy_coefficient(g, low=4).tolist() == [4, 12, 12]
    torch.testing.assert_close(darcy_coefficient(g, "lognormal"), g.exp())


def test_bad_coefficients_are_refused():
    with pytest.raises(ValueError, match="a: expected positive values"):
        solve_darcy(torch.zeros(1, 5, 5))
    with pytest.raises(ValueError, match=r"a: expected shape \(n, size, 6\), given \(5, 6\)"):
        solve_darcy(torch.ones(5, 6))
    with pytest.raises(ValueError, match=r"a: expected a square, given 5 x 6"):
        solve_darcy(torch.ones(1, 5, 6))
