"""Counts against hand calculation."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paperworks.measure import add_operations, count_operations, count_parameters, match_width, saved_bytes


def test_parameters_count_shared_once_and_complex_twice():
    net = nn.Module()
    net.a = nn.Linear(3, 4)
    net.b = net.a
    net.c = nn.Parameter(torch.zeros(5, dtype=torch.complex64))
    net.frozen = nn.Parameter(torch.zeros(7), requires_grad=False)
    assert count_parameters(net) == 3 * 4 + 4 + 10
    assert count_parameters(net, trainable_only=False) == 3 * 4 + 4 + 10 + 7


@pytest.mark.parametrize(("m", "k", "n"), [(2, 3, 5), (64, 32, 16)])
def test_a_product_costs_two_m_k_n_forwards_and_twice_that_backwards(m, k, n):
    a, b = torch.randn(m, k, requires_grad=True), torch.randn(k, n, requires_grad=True)
    assert count_operations(lambda: a @ b, backward=False) == 2 * m * k * n
    assert count_operations(lambda: (a @ b).sum()) == 6 * m * k * n
    assert a.grad is None


def test_an_input_without_gradient_costs_one_product_less():
    a, b = torch.randn(2, 3), torch.randn(3, 5, requires_grad=True)
    assert count_operations(lambda: (a @ b).sum()) == 4 * 2 * 3 * 5


def test_a_convolution_costs_its_taps():
    x, w = torch.randn(2, 3, 8, 8), torch.randn(5, 3, 3, 3)
    assert count_operations(lambda: F.conv2d(x, w, padding=1), backward=False) == 2 * 2 * 5 * 8 * 8 * 3 * 9


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda r: F.conv1d(r(2, 4, 9), r(6, 2, 3), groups=2), 2 * (2 * 6 * 7) * 2 * 3),
        (lambda r: F.conv2d(r(1, 3, 9, 9), r(5, 3, 3, 3), stride=2), 2 * (5 * 4 * 4) * 3 * 9),
        (lambda r: F.conv_transpose2d(r(2, 3, 5, 5), r(3, 4, 3, 3)), 2 * (2 * 3 * 5 * 5) * 4 * 9),
        (lambda r: F.linear(r(2, 3, 4), r(5, 4), r(5)), 2 * 2 * 3 * 4 * 5),
        (lambda r: torch.einsum("bij,bjk->bik", r(2, 3, 4), r(2, 4, 5)), 2 * 2 * 3 * 4 * 5),
        (lambda r: F.scaled_dot_product_attention(r(1, 2, 10, 8), r(1, 2, 3, 8), r(1, 2, 3, 8)), 4 * 2 * 10 * 3 * 8),
    ],
)
def test_grouped_strided_transposed_and_batched_operators(call, expected):
    assert count_operations(lambda: call(torch.randn), backward=False) == expected


def test_a_network_costs_the_sum_of_its_layers_and_a_step_three_times_that_less_the_first_inputs_gradient():
    net, x = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 4)), torch.randn(7, 6)
    first, second = 2 * 7 * 6 * 10, 2 * 7 * 10 * 4
    assert count_operations(lambda: net(x), backward=False) == first + second
    assert count_operations(lambda: net(x).sum()) == 2 * first + 3 * second
    with torch.no_grad():  # a count is of training, wherever it is asked for
        assert count_operations(lambda: net(x).sum()) == 2 * first + 3 * second


def test_attention_costs_two_products_forwards_and_five_backwards():
    q, k, v = (torch.randn(2, 4, 10, 8, requires_grad=True) for _ in range(3))
    forward = 2 * (2 * 2 * 4 * 10 * 10 * 8)
    attend = F.scaled_dot_product_attention
    assert count_operations(lambda: attend(q, k, v), backward=False) == forward
    assert count_operations(lambda: attend(q, k, v).sum()) == forward + 5 * (2 * 2 * 4 * 10 * 10 * 8)


def test_other_operators_can_be_told():
    x = torch.randn(4, requires_grad=True)

    def step():
        add_operations(10, "spline")
        return x.sum()

    counted = count_operations(step)
    assert counted == 30
    assert counted.counter == "torch FlopCounterMode plus spline"
    assert count_operations(step, backward=False) == 10
    add_operations(10, "spline")  # outside a count: no effect


def test_gradients_that_were_there_stay():
    net = nn.Linear(2, 1)
    net(torch.ones(1, 2)).sum().backward()
    before = net.weight.grad.clone()
    count_operations(lambda: net(torch.randn(3, 2)).sum())
    assert torch.equal(net.weight.grad, before)


def test_saved_bytes_of_a_known_graph():
    """tanh keeps its output, the second product its input (the same storage), the first product x; no parameter."""
    x, net = torch.randn(16, 8), nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
    assert saved_bytes(lambda: net(x).sum()) == 4 * (16 * 8 + 16 * 32)
    assert saved_bytes(lambda: net(x).sum(), exclude=[x]) == 4 * 16 * 32


def test_saved_bytes_see_what_checkpointing_spares():
    """With the middle recomputed, only its input (16 x 8 floats) is kept."""
    from torch.utils.checkpoint import checkpoint

    x, first = torch.randn(16, 8), nn.Linear(8, 8)
    middle = nn.Sequential(nn.Tanh(), nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    whole = saved_bytes(lambda: middle(first(x)).sum(), exclude=[x])
    spared = saved_bytes(lambda: checkpoint(middle, first(x), use_reentrant=False).sum(), exclude=[x])
    assert whole == 4 * (16 * 8 + 16 * 64)
    assert spared == 4 * 16 * 8


@pytest.mark.parametrize("target", [10, 100, 1_000, 54_321])
def test_match_width_is_the_nearest(target):
    def build(width):
        return nn.Sequential(nn.Linear(3, width), nn.Linear(width, width))

    width = match_width(build, target)
    sizes = {w: count_parameters(build(w)) for w in range(max(1, width - 2), width + 3)}
    assert abs(sizes[width] - target) == min(abs(size - target) for size in sizes.values())
