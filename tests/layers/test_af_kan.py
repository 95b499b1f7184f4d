"""AF-KAN: supports, shifts, scaling, attention, and the fast path against formulas written out."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from paperworks.layers import AFKAN, AFKANLayer
from paperworks.layers.af_kan.model import ACTIVATIONS, FUNCTIONS
from paperworks.layers.af_kan.study import BUILDS, build
from paperworks.measure import count_parameters


def plain(layer, x, reduction, func_norm, function, activation):
    """The layer as the paper writes it, scaling first and every sum afterwards."""
    a = ACTIVATIONS[activation](x[..., None] - layer.phase_low)
    b = ACTIVATIONS[activation](layer.phase_high - x[..., None])
    found = FUNCTIONS[function](a, b)
    if func_norm == "sample":
        found = torch.stack([(row - row.min()) / (row.max() - row.min()) for row in found])
    elif func_norm == "batch":
        found = F.normalize(found, p=2, dim=None)
        found = (found - found.min()) / (found.max() - found.min())
    if reduction == "multistep":
        u = layer.gk_linear(found)[..., 0]
    elif reduction == "global_attn":
        weight = (layer.gk_linear(found) / layer.temperature.clamp_min(1)).softmax(-2)
        u = (found * weight).sum(-1)
    else:
        score = (layer.conv(found.transpose(1, 2)) / layer.temperature.clamp_min(1)).softmax(1)
        u = (found * score.transpose(1, 2)).sum(-1)
    return F.linear(ACTIVATIONS[activation](layer.norm(u)), layer.weight)


@pytest.mark.parametrize("func_norm", ["sample", "batch", "none"])
@pytest.mark.parametrize("reduction", ["global_attn", "spatial_attn", "multistep"])
def test_fast_path_is_the_formula(reduction, func_norm):
    for function in FUNCTIONS:
        for activation in ("silu", "relu", "tanh"):
            torch.manual_seed(0)
            layer = AFKANLayer(6, 4, 3, 3, activation, function, reduction, "layer", func_norm).double()
            layer.phase_low.data += 0.1 * torch.randn(6, dtype=torch.float64)
            x = torch.rand(5, 6, dtype=torch.float64)
            expected = plain(layer, x, reduction, func_norm, function, activation)
            torch.testing.assert_close(layer(x), expected, rtol=1e-8, atol=1e-10)


def test_relu_bumps_have_the_support_and_height_of_relu_kan():
    g, k = 4, 3
    layer = AFKANLayer(1, 1, g, k, "relu", "quad1").double()
    x = torch.linspace(-1.5, 2.5, 4001, dtype=torch.float64)[:, None]
    found = layer.functions(x)[:, 0]
    for j in range(g + k):
        low, high = layer.phase_low[j].item(), layer.phase_high[j].item()
        inside = (x[:, 0] > low + 1e-6) & (x[:, 0] < high - 1e-6)
        assert (found[inside, j] > 0).all()
        assert found[~inside, j].abs().max() < 1e-12
        middle = layer.functions(torch.tensor([[(low + high) / 2]], dtype=torch.float64))[0, 0, j]
        assert float(middle) == pytest.approx(((k + 1) / (2 * g)) ** 4)
        assert float(middle) * (4 * g * g / (k + 1) ** 2) ** 2 == pytest.approx(1.0)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_functions_are_shifts_of_one_and_mirror_themselves(activation):
    layer = AFKANLayer(1, 1, 3, 3, activation, "quad2").double()
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)[:, None]
    here, shifted = layer.functions(x)[:, 0], layer.functions(x + 1 / 3)[:, 0]
    torch.testing.assert_close(shifted[:, 1:], here[:, :-1])
    mirrored = layer.functions(layer.phase_low[2] + layer.phase_high[2] - x)[:, 0, 2]
    torch.testing.assert_close(mirrored, here[:, 2])


def test_a_row_alone_gives_what_it_gives_among_others_only_when_scaled_by_sample():
    torch.manual_seed(0)
    x = torch.rand(16, 8)
    differs = {}
    for func_norm in ("sample", "batch"):
        layer = AFKANLayer(8, 4, func_norm=func_norm)
        differs[func_norm] = float((layer(x)[:1] - layer(x[:1])).abs().max())
    assert differs["sample"] < 1e-6
    assert differs["batch"] > 1e-3


def test_without_attention_weights_inputs_count_alike():
    layer = AFKANLayer(5, 5, norm="none", func_norm="none").double()
    layer.gk_linear.weight.data.zero_()
    layer.weight.data.copy_(torch.eye(5))
    x = torch.rand(3, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(x), F.silu(layer.functions(x).sum(-1) / 5))


def test_functions_that_are_all_equal_do_not_divide_by_zero():
    layer = AFKANLayer(3, 2, activation="relu")
    out = layer(torch.full((2, 3), 50.0))
    assert torch.isfinite(out).all()
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


def test_gradients_and_the_bias_that_softmax_cancels():
    layer = AFKANLayer(4, 3, dead_bias=True).double()
    x = torch.rand(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))
    before = layer(x)
    (before * torch.randn_like(before)).sum().backward()
    assert all(p.grad.abs().sum() > 1e-9 for n, p in layer.named_parameters() if n != "gk_linear.bias")
    assert layer.gk_linear.bias.grad.abs().max() < 1e-12
    layer.gk_linear.bias.data += 7.0
    torch.testing.assert_close(layer(x), before)


def test_temperature_has_no_gradient_below_its_clamp():
    layer = AFKANLayer(4, 3)
    layer.temperature.data.fill_(0.5)
    layer(torch.rand(3, 4)).square().sum().backward()
    assert float(layer.temperature.grad) == 0.0


def official(widths, k=6):
    state = {}
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        shapes = {"phase_low": (k,), "phase_high": (k,), "temperature": (), "base_weight": (n_out, n_in),
                  "base_weight_bias": (1, n_out), "norm.weight": (n_in,), "norm.bias": (n_in,),
                  "gk_linear.weight": (1, k), "gk_linear.bias": (1,), "conv1d.weight": (k, 1, 3), "conv1d.bias": (k,),
                  "query_self.weight": (k, k), "mh_attn.in_proj_weight": (3 * k, k)}  # fmt: skip
        state |= {f"rk_layers.{i}.{name}": torch.randn(shape) for name, shape in shapes.items()}
    return state


def test_official_names_are_taken_and_unknown_ones_refused():
    state = official((5, 4, 3))
    net = AFKAN((5, 4, 3), dead_bias=True, func_norm="batch").load_official(state)
    assert torch.equal(net.layers[1].weight, state["rk_layers.1.base_weight"])
    AFKAN((5, 4, 3), reduction="spatial_attn").load_official(state)
    with pytest.raises(ValueError, match="unknown"):
        AFKAN((5, 4, 3), dead_bias=True).load_official({**state, "rk_layers.0.other": torch.zeros(1)})
    with pytest.raises(ValueError, match="missing"):
        AFKAN((5, 4, 3), dead_bias=True).load_official({n: t for n, t in state.items() if "phase_low" not in n})
    with pytest.raises(ValueError, match="shape"):
        AFKAN((5, 4, 2), dead_bias=True).load_official(state)


@pytest.mark.parametrize("option", ["activation", "function", "reduction", "norm", "func_norm"])
def test_unknown_names_are_refused(option):
    with pytest.raises(ValueError, match=option):
        AFKANLayer(2, 2, **{option: "other"})


def test_arms_have_equal_parameters():
    target = count_parameters(build("af_kan", 64, 52))
    for arm in BUILDS:
        assert abs(count_parameters(build(arm, 64, 52)) / target - 1) < 0.05
    assert count_parameters(build("bspline_kan_wide", 64, 52)) > 6 * target
