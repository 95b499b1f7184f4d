"""Attention as an integral: identities that hold for every grid, and its limit."""

import pytest
import torch

from paperworks.operators.quadrature_attention import linear_attention, quadrature_attention, trapezoid_weights

BOTH = pytest.mark.parametrize("attention", [quadrature_attention, linear_attention])


def heads(points=7, dim=4):
    return [torch.randn(2, 3, points, dim, dtype=torch.float64) for _ in range(3)]


@BOTH
def test_doubling_every_point_and_halving_the_weights_changes_nothing(attention):
    q, k, v = heads()
    w = torch.rand(7, dtype=torch.float64)
    twice = [t.repeat_interleave(2, -2) for t in (k, v)]
    torch.testing.assert_close(attention(q, *twice, w.repeat_interleave(2) / 2), attention(q, k, v, w))


@BOTH
def test_a_point_of_weight_zero_is_not_there(attention):
    q, k, v = heads()
    w = torch.rand(7, dtype=torch.float64)
    without = [t[..., 1:, :] for t in (k, v)]
    torch.testing.assert_close(attention(q, k, v, torch.cat([w[:1] * 0, w[1:]])), attention(q, *without, w[1:]))


@BOTH
def test_order_of_points_does_not_matter(attention):
    q, k, v = heads()
    w, order = torch.rand(7, dtype=torch.float64), torch.randperm(7)
    shuffled = attention(q, k[..., order, :], v[..., order, :], w[order])
    torch.testing.assert_close(shuffled, attention(q, k, v, w))


@BOTH
def test_a_grid_a_row_is_each_row_alone(attention):
    q, k, v = heads()
    w = torch.rand(2, 7, dtype=torch.float64)
    together = attention(q, k, v, w)
    for row in (0, 1):
        torch.testing.assert_close(together[row], attention(q[row], k[row], v[row], w[row]))


def test_slow_plain_formulas():
    q, k, v = heads()
    w = torch.rand(7, dtype=torch.float64)
    e = (q @ k.mT / 2).exp() * w
    torch.testing.assert_close(quadrature_attention(q, k, v, w), e @ v / e.sum(-1, keepdim=True))
    slow = torch.stack([(q @ k.mT)[..., j : j + 1] * w[j] * v[..., j : j + 1, :] for j in range(7)]).sum(0)
    torch.testing.assert_close(linear_attention(q, k, v, w), slow)


def test_equal_values_come_back_and_the_scale_of_weights_does_not_matter():
    q, k, v = heads()
    w = torch.rand(7, dtype=torch.float64)
    same = v[..., :1, :].expand_as(v)
    torch.testing.assert_close(quadrature_attention(q, k, same, w), v[..., :1, :].expand(2, 3, 7, 4))
    torch.testing.assert_close(quadrature_attention(q, k, v, 5 * w), quadrature_attention(q, k, v, w))
    torch.testing.assert_close(quadrature_attention(q, k, v, torch.ones_like(w)), quadrature_attention(q, k, v))


def sampled(x):
    """Keys and values that are smooth functions of x, one head."""
    return torch.stack([x, x**2], -1)[None, None], torch.stack([torch.sin(3 * x), torch.exp(x)], -1)[None, None]


@BOTH
def test_a_skewed_grid_has_the_same_limit_only_with_weights(attention):
    q = torch.tensor([[[[1.0, -2.0]]]], dtype=torch.float64)
    fine = torch.linspace(0, 1, 20_001, dtype=torch.float64)
    limit = attention(q, *sampled(fine), trapezoid_weights(fine))
    errors = []
    for points in (33, 65):
        x = torch.linspace(0, 1, points, dtype=torch.float64) ** 2
        errors.append(float((attention(q, *sampled(x), trapezoid_weights(x)) - limit).abs().max()))
    assert errors[0] < 4e-3
    assert errors[0] / errors[1] > 3.5  # second order
    skewed = torch.linspace(0, 1, 2_001, dtype=torch.float64) ** 2
    assert (attention(q, *sampled(skewed)) - limit).abs().max() > 0.05  # equal weights: another limit


def test_trapezoid_weights():
    x = torch.tensor([0.0, 0.1, 0.4, 1.0])
    torch.testing.assert_close(trapezoid_weights(x), torch.tensor([0.05, 0.2, 0.45, 0.3]))
    torch.testing.assert_close(trapezoid_weights(x, period=1.5).sum(), torch.tensor(1.5))
    torch.testing.assert_close(trapezoid_weights(torch.arange(8) / 8, period=1.0), torch.full((8,), 1 / 8))
    with pytest.raises(ValueError, match="at least 2"):
        trapezoid_weights(x[:1])


def test_wrong_weights_are_refused():
    q, k, v = heads()
    for wrong in (torch.ones(6), torch.ones(3, 7), torch.ones(2, 1, 7)):
        with pytest.raises(ValueError, match=r"weights: expected shape \(7,\) or \(2, 7\)"):
            quadrature_attention(q, k, v, wrong)
