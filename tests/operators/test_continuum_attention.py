"""Continuum attention: quadrature, the two patch operators in and out of Fourier space, any resolution."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from paperworks.measure import count_parameters
from paperworks.operators import (
    FourierAttentionNeuralOperator,
    TransformerNeuralOperator,
    ViTNeuralOperator,
)
from paperworks.operators.continuum_attention import encoder, line_data, patch_fourier, scattered_weights
from paperworks.operators.continuum_attention.encoder import ContinuumAttention, EncoderLayer, point_weights
from paperworks.operators.continuum_attention.line_data import (
    LINE_TASKS,
    draw_lorenz,
    half_dense_grid,
    lorenz_states,
    random_grid,
    skewed_grid,
    uniform_grid,
    varied_grid,
)
from paperworks.operators.continuum_attention.losses import relative_h1, relative_l2
from paperworks.operators.continuum_attention.patch_fourier import PatchModes, PatchSpectralConv, mix
from paperworks.operators.continuum_attention.patch_operators import (
    FourierAttention,
    PatchAttention,
    patchify,
    unpatchify,
    with_coordinates,
)
from paperworks.operators.fno import SpectralConv
from paperworks.operators.quadrature_attention import quadrature_attention, trapezoid_weights


def double(module):
    return module.double().eval()


def tno(**options):
    torch.manual_seed(0)
    made = TransformerNeuralOperator(**{**dict(d_model=16, heads=2, layers=2, ff=24), **options})
    with torch.no_grad():
        for layer in made.layers:  # so that the softmax is not flat
            layer.attention.query_key_value.weight.mul_(4)
    return double(made)


# Attention over points


def test_equal_scores_give_the_mean_over_the_domain():
    s = torch.tensor([0.0, 0.1, 0.4, 1.0], dtype=torch.float64)
    nothing = torch.zeros(1, 1, 4, 1, dtype=torch.float64)
    value = (s**2).view(1, 1, 4, 1)
    mean = quadrature_attention(nothing, nothing, value, trapezoid_weights(s))
    torch.testing.assert_close(mean, torch.full_like(mean, 0.374), rtol=1e-14, atol=0)
    torch.testing.assert_close(quadrature_attention(nothing, nothing, value), torch.full_like(mean, 0.2925))


def test_equal_weights_are_the_stock_encoder():
    torch.manual_seed(0)
    stock = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, activation="gelu", batch_first=True).double()
    state = {f"encoder.layers.0.{name}": tensor for name, tensor in stock.state_dict().items()}
    ours = tno(layers=1, coord_dim=2)
    ends = {"linear_in_position": ours.lift, "linear_out": ours.project}
    for name, part in ends.items():
        state |= {f"{name}.{kind}": tensor for kind, tensor in part.state_dict().items()}
    ours.load_official(state)
    u, coords = torch.randn(3, 7, 1).double(), torch.rand(7, 2).double()
    lifted = ours.lift(torch.cat([u, coords.expand(3, 7, 2)], -1))
    for weights in (None, torch.full((7,), 0.3).double()):
        torch.testing.assert_close(ours(u, coords, weights), ours.project(stock(lifted)), rtol=1e-10, atol=1e-10)


def test_a_point_split_in_two_changes_nothing():
    model, coords = tno(coord_dim=2), torch.rand(9, 2).double()
    u, weights = torch.randn(2, 9, 1).double(), torch.rand(9).double() + 0.1
    index = torch.tensor([0, 1, 2, 3, 3, 4, 5, 6, 7, 8])
    halved = weights[index]
    halved[3:5] /= 2
    split = model(u[:, index], coords[index], halved)
    torch.testing.assert_close(split, model(u, coords, weights)[:, index], rtol=1e-10, atol=1e-12)


def test_points_may_come_in_any_order():
    model, coords, u = tno(), torch.rand(9, 1).double(), torch.randn(2, 9, 1).double()
    order = torch.randperm(9)
    torch.testing.assert_close(model(u[:, order], coords[order]), model(u, coords)[:, order], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(point_weights(coords).sum(), coords.max() - coords.min())


def test_rows_of_different_length_are_padded_with_weight_zero():
    model, coords = tno(), torch.rand(2, 9, 1).double().sort(dim=1).values
    u = torch.randn(2, 9, 1).double()
    weights = torch.stack([point_weights(coords[0]), torch.zeros(9).double()])
    weights[1, :6] = point_weights(coords[1, :6])
    both = model(u, coords, weights)
    torch.testing.assert_close(both[0], model(u[:1], coords[0])[0], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(both[1, :6], model(u[1:, :6], coords[1, :6])[0], rtol=1e-10, atol=1e-12)


def test_a_row_without_any_point_gives_no_nan():
    model, coords, u = tno(), torch.rand(2, 5, 1).double(), torch.randn(2, 5, 1).double()
    weights = torch.stack([torch.ones(5), torch.zeros(5)]).double()
    assert torch.isfinite(model(u, coords, weights)[0]).all()
    assert torch.isfinite(model(u, coords, weights)[1]).all()


def smooth_attention(points, query, weighted):
    """One attention whose functions are known everywhere: q, k, v sampled at `points`."""
    k = torch.stack([torch.sin(3 * points), torch.cos(2 * points)], -1)[None, None]
    v = torch.exp(points)[None, None, :, None]
    q = torch.tensor([[[[query, 1.0]]]], dtype=torch.float64)
    return quadrature_attention(q, k, v, trapezoid_weights(points) if weighted else None).item()


def test_attention_converges_to_the_integral_on_any_grid_and_plain_softmax_to_another():
    nodes, gauss = np.polynomial.legendre.leggauss(60)
    y, w = (nodes + 1) / 2, gauss / 2
    density = w * np.exp((2.0 * np.sin(3 * y) + np.cos(2 * y)) / math.sqrt(2))
    exact = float((density * np.exp(y)).sum() / density.sum())
    errors, plain = [], []
    for n in (33, 65, 129):
        skewed = torch.linspace(0, 1, n, dtype=torch.float64) ** 2
        errors.append(abs(smooth_attention(skewed, 2.0, True) - exact))
        plain.append(abs(smooth_attention(skewed, 2.0, False) - exact))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    assert errors[2] < 4e-5
    assert min(plain) > 0.05


def test_the_operator_converges_on_uneven_grids_as_on_even_ones():
    model = tno()
    u = lambda x: torch.sin(5 * x) + x**2  # noqa: E731

    def at_ends(n, power):
        x = torch.linspace(0, 1, n, dtype=torch.float64)[:, None] ** power
        return model(u(x)[None], x)[0, [0, -1]].detach()

    exact = at_ends(2_049, 1)
    for power in (1, 2):
        errors = [(at_ends(n, power) - exact).abs().max() for n in (33, 65, 129)]
        assert float(errors[0] / errors[1]) == pytest.approx(4, rel=0.3)
        assert errors[2] < 1e-3 * exact.abs().max()
    model.quadrature = "none"
    assert (at_ends(513, 2) - at_ends(513, 1)).abs().max() > 20 * errors[2]


def test_gradients_with_weights_are_right():
    attention = double(ContinuumAttention(4, 2))
    weights = torch.tensor([0.1, 0.5, 0.2]).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention(x, weights), x)


def test_initial_condition_replaces_the_first_token_alone():
    model = tno(out_channels=2, initial_condition=True)
    u, coords, initial = torch.randn(2, 6, 1).double(), torch.rand(6, 1).double().sort(0).values, torch.randn(2, 2)
    assert model(u, coords, None, initial.double()).shape == (2, 6, 2)
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.output.weight.zero_()
    one, other = (model(u, coords, None, start.double()) for start in (initial, initial + 1))
    assert torch.equal(one[:, 1:], other[:, 1:])
    assert not torch.allclose(one[:, 0], other[:, 0])
    with pytest.raises(ValueError, match="needs an initial condition"):
        model(u, coords)


def test_scattered_weights_are_shares_of_the_box():
    axis = torch.linspace(0, 1, 5).double()
    grid = torch.cartesian_prod(axis, axis)
    expected = torch.outer(trapezoid_weights(axis), trapezoid_weights(axis)).flatten()
    torch.testing.assert_close(scattered_weights(grid), expected, rtol=0.03, atol=0)


# Patches


def test_patches_are_cut_and_put_together():
    field = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    cut = patchify(field, 4)
    assert cut.shape == (2, 3, 2, 16, 3)
    assert torch.equal(cut[:, :, 1, 6], field[1, :, 2:4, 6:9].permute(1, 2, 0))
    assert torch.equal(unpatchify(cut, 4), field)
    with pytest.raises(ValueError, match="a multiple of 4"):
        patchify(field[..., :11], 4)


def test_coordinates_run_from_0_to_1_the_last_axis_first():
    grown = with_coordinates(torch.zeros(2, 1, 3, 5))
    assert torch.equal(grown[1, 1, 2], torch.linspace(0, 1, 5))
    assert torch.equal(grown[1, 2, :, 2], torch.linspace(0, 1, 3))


@pytest.mark.parametrize(("height", "width", "modes"), [(8, 8, (3, 3)), (8, 6, (4, 4)), (5, 7, (2, 3)), (4, 4, (3, 5))])
@pytest.mark.parametrize("whole", [0, 256])
def test_narrow_transforms_are_the_fast_ones(height, width, modes, whole, monkeypatch):
    monkeypatch.setattr(patch_fourier, "WHOLE", whole)
    x = torch.randn(height, width, 2, 3, 4, dtype=torch.float64)
    kept = PatchModes(height, width, modes)
    z = kept.transform(x).unflatten(0, (len(kept.rows), -1)).unflatten(3, (2, 3))
    full = torch.fft.rfft2(x.permute(2, 3, 4, 0, 1))[..., kept.rows, :][..., kept.columns]
    torch.testing.assert_close(torch.complex(z[:, :, 0], z[:, :, 1]), full.permute(3, 4, 0, 1, 2))
    coefficients = torch.randn(len(kept.rows) * len(kept.columns), 2, 6, 4, dtype=torch.float64)
    spectrum = torch.zeros(2, 3, 4, height, width // 2 + 1, dtype=torch.complex128)
    shown = torch.complex(coefficients[:, 0], coefficients[:, 1]).unflatten(0, (len(kept.rows), -1))
    for i, row in enumerate(kept.rows.tolist()):
        for j, column in enumerate(kept.columns.tolist()):
            spectrum[:, :, :, row, column] = shown[i, j].view(2, 3, 4)
    back = torch.fft.irfft2(spectrum, s=(height, width)).permute(3, 4, 0, 1, 2)
    torch.testing.assert_close(kept.inverse(coefficients, 2), back)


def test_patch_convolution_is_the_wings_spectral_convolution():
    patch, whole = double(PatchSpectralConv(3, 5, (3, 2))), double(SpectralConv(3, 5, (3, 2)))
    whole.weight.data.copy_(patch.weight.movedim(2, -1))
    x = torch.randn(8, 6, 2, 4, 3, dtype=torch.float64)
    expected = whole(x.permute(2, 3, 4, 0, 1).flatten(0, 1)).unflatten(0, (2, 4)).permute(3, 4, 0, 1, 2)
    torch.testing.assert_close(patch(x), expected)


def in_space(attention, x):
    """Fourier attention step by step in physical space."""
    height, width, batch, patches, _ = x.shape
    kept = PatchModes(height, width, attention.modes)
    weights = kept.of_weight(attention.query_key_value)
    q, k, v = (
        kept.inverse(mix(kept.transform(x), weights[..., i, :]).mT, batch).unflatten(-1, (attention.heads, -1))
        for i in range(3)
    )
    scores = torch.einsum("xybphd,xybqhd->bhpq", q, k) / (height * width * patches)
    mixed = torch.einsum("bhpq,xybqhd->xybphd", scores.softmax(-1), v)
    return attention.output(mixed.flatten(-2)), scores


@pytest.mark.parametrize(("height", "width", "modes"), [(8, 8, (3, 3)), (8, 6, (4, 4)), (5, 7, (2, 3)), (4, 4, (3, 5))])
def test_attention_in_fourier_space_equals_physical_space(height, width, modes):
    torch.manual_seed(0)
    attention = double(FourierAttention(6, 2, modes))
    attention.query_key_value.data.copy_(3 * torch.randn_like(attention.query_key_value))
    x = torch.randn(height, width, 2, 4, 6, dtype=torch.float64)
    slow, scores = in_space(attention, x)
    assert scores.softmax(-1).std() > 0.1
    torch.testing.assert_close(attention(x), slow, rtol=1e-9, atol=1e-9)


def test_all_modes_with_one_real_matrix_are_a_pointwise_map():
    conv, matrix = double(PatchSpectralConv(3, 4, (4, 5))), torch.randn(3, 4, dtype=torch.float64)
    conv.weight.data.zero_()
    conv.weight.data[:, :, 0] = matrix
    x = torch.randn(8, 8, 2, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(conv(x), x @ matrix)


def test_pointwise_patch_attention_is_the_inner_product_of_functions():
    torch.manual_seed(0)
    attention = double(PatchAttention(6, 2))
    attention.query_key_value.weight.data.mul_(9)
    x = torch.randn(4, 3, 2, 5, 6, dtype=torch.float64)
    q, k, v = attention.query_key_value(x).unflatten(-1, (3, 2, 3)).unbind(-3)
    scores = torch.einsum("xybphd,xybqhd->bhpq", q, k) / (4 * 3 * 5)
    assert scores.softmax(-1).std() > 0.1
    mixed = torch.einsum("bhpq,xybqhd->xybphd", scores.softmax(-1), v)
    torch.testing.assert_close(attention(x), attention.output(mixed.flatten(-2)))


@pytest.mark.parametrize("shape", [(6,), (7, 2, 6), (2, 3, 4, 5, 6)])
def test_a_layer_in_pieces_is_the_layer(shape, monkeypatch):
    """Without gradients the feed-forward part is taken a few points at a time."""
    monkeypatch.setattr(encoder, "CACHED", 4)
    layer = double(EncoderLayer(nn.Linear(6, 6), 6, 10))
    x = torch.randn(shape, dtype=torch.float64)
    for each in (x, torch.randn(9, 6, dtype=torch.float64)[::2]):
        with torch.no_grad():
            pieces = layer(each)
        torch.testing.assert_close(pieces, layer(each).detach())


@pytest.mark.parametrize("kind", [PatchAttention, FourierAttention])
def test_one_patch_attends_to_itself(kind):
    attention = double(kind(6, 2, *([(2, 2)] if kind is FourierAttention else [])))
    x = torch.randn(4, 4, 2, 1, 6, dtype=torch.float64)
    if kind is PatchAttention:
        value = attention.query_key_value(x)[..., 12:]
    else:
        kept = PatchModes(4, 4, (2, 2))
        value = kept.inverse(mix(kept.transform(x), attention.query_key_value[..., 2, :]).mT, 2)
    torch.testing.assert_close(attention(x), attention.output(value))


def test_scores_of_patches_do_not_change_with_the_resolution():
    """The same functions on patches of four times the pixels: the softmax keeps its temperature."""
    torch.manual_seed(0)
    fourier, pointwise = double(FourierAttention(6, 2, (2, 2))), double(PatchAttention(6, 2))
    fourier.query_key_value.data.copy_(torch.randn_like(fourier.query_key_value))
    pointwise.query_key_value.weight.data.mul_(5)
    coarse = PatchModes(8, 8, (2, 2))
    z = torch.randn(8, 2, 2 * 4, 6, dtype=torch.float64)
    x8 = coarse.inverse(z, 2)
    x16 = PatchModes(16, 16, (2, 2)).inverse(4 * z, 2)
    torch.testing.assert_close(x16[::2, ::2], x8)
    for attention in (fourier, pointwise):
        torch.testing.assert_close(attention(x16)[::2, ::2], attention(x8), rtol=1e-9, atol=1e-9)


def operators():
    torch.manual_seed(0)
    sizes = dict(d_model=12, heads=2, layers=2, ff=16)
    made = [
        FourierAttentionNeuralOperator(1, 1, 4, (2, 2), 0, **sizes),
        ViTNeuralOperator(1, 1, 4, (2, 2), 4, **sizes),
    ]
    with torch.no_grad():
        for model in made:
            for name, parameter in model.named_parameters():
                if "query_key_value" in name or "smooth" in name or name == "lift.weight":
                    parameter.mul_(4)
    return [model.double().eval() for model in made]


@pytest.mark.parametrize("which", [0, 1], ids=["FANO", "ViTNO"])
def test_an_operator_runs_on_grids_it_was_not_built_for(which):
    """On a smooth input, outputs at common points approach each other as the grid is refined."""
    model = operators()[which]

    def output(n):
        x = torch.arange(n, dtype=torch.float64) / n
        field = torch.sin(2 * math.pi * x)[:, None] * torch.cos(4 * math.pi * x) + x[:, None]
        with torch.no_grad():
            out = model(field[None, None])[0, 0]
        return out[:: n // 32, :: n // 32]

    sizes = (32, 64, 128)
    results = [output(n) for n in sizes]
    jumps = [(b - a).norm() / b.norm() for a, b in pairwise(results)]
    assert jumps[0] < 0.1
    assert jumps[1] < 0.6 * jumps[0]
    assert model(torch.randn(1, 1, 16, 24).double()).shape == (1, 1, 16, 24)


def test_modes_that_a_coarse_patch_cannot_carry_are_left_out():
    conv = double(PatchSpectralConv(2, 2, (3, 3)))
    smaller = double(PatchSpectralConv(2, 2, (2, 3)))
    smaller.weight.data.copy_(conv.weight[[0, 1, 4, 5]])
    x = torch.randn(4, 4, 1, 3, 2, dtype=torch.float64)
    torch.testing.assert_close(conv(x), smaller(x))


def test_wrong_states_are_refused():
    with pytest.raises(ValueError, match="not the weights of this configuration"):
        tno().load_official({})
    for model in operators():
        with pytest.raises(ValueError, match="not the weights of this configuration"):
            model.load_official({"linear_in.weight": torch.zeros(1)})


def test_complex_weights_count_as_two():
    assert count_parameters(PatchSpectralConv(3, 4, (2, 5))) == 2 * (2 * 2 * 5) * 12


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: TransformerNeuralOperator(quadrature="simpson"), "trapezoid or none"),
        (lambda: TransformerNeuralOperator(d_model=10, heads=4), "must divide d_model"),
        (lambda: FourierAttentionNeuralOperator(modes=(0, 2)), "at least one an axis"),
    ],
)
def test_wrong_arguments_are_refused(build, told):
    with pytest.raises(ValueError, match=told):
        build()


# Losses and data


def test_relative_l2_is_an_integral():
    x = torch.linspace(0, 1, 401, dtype=torch.float64)
    for grid in (x, x**2):
        error = relative_l2((2 * grid)[None, :, None], grid[None, :, None] ** 2, trapezoid_weights(grid))
        # |2x - x^2|^2 = 8/15 and |x^2|^2 = 1/5 over [0, 1]
        torch.testing.assert_close(error, torch.tensor([(8 / 3) ** 0.5]).double(), rtol=1e-4, atol=0)


def test_relative_h1_weighs_values_and_slopes():
    x = torch.arange(6.0).double()
    plane = (2 * x[:, None] + x)[None, None]
    error = relative_h1(plane + 0.5 * x, plane)
    rms = lambda field: field.square().mean().sqrt()  # noqa: E731
    expected = (rms(0.5 * x.expand(6, 6)) + 0.5) / (rms(plane) + 5**0.5)
    torch.testing.assert_close(error, expected[None])


def drawn(task, n=3):
    found = LINE_TASKS[task]
    return found, found.draw(n, torch.Generator().manual_seed(0))


def test_poisson_pairs_solve_their_equation():
    task, functions = drawn("poisson")
    h = 1e-3
    x = torch.linspace(0.1, 0.9, 5).double()
    u, v = task.evaluate(functions.double(), x)
    beside = [task.evaluate(functions, x + d)[1].double() for d in (-20 * h, 20 * h)]
    second = (beside[0] + beside[1] - 2 * v.double()) / (20 * h) ** 2
    torch.testing.assert_close(-second, math.pi**2 * u.double(), rtol=0.05, atol=0.3)
    ends = task.evaluate(functions, torch.tensor([0.0, 1.0]))[1]
    torch.testing.assert_close(ends, torch.zeros_like(ends), rtol=0, atol=1e-6)


def test_controlled_ode_solves_its_equation():
    task, functions = drawn("controlled_ode")
    t, h = torch.linspace(0, 1.9, 7).double(), 1e-3
    (u, v), (u1, v1) = task.evaluate(functions, t), task.evaluate(functions, t + h)
    middle = torch.sin((v + v1) / 2) * (u1 - u)
    torch.testing.assert_close(v1 - v, middle, rtol=0.02, atol=2e-6)
    start = task.evaluate(functions, torch.zeros(1))[1]
    torch.testing.assert_close(start, torch.ones_like(start))


def test_lorenz_trajectories_are_solved_and_interpolated_to_fourth_order(monkeypatch):
    times = torch.linspace(0, 1, 30).double()
    fine = lorenz_states(draw_lorenz(2, torch.Generator().manual_seed(0)), times)
    errors = []
    for steps in (100, 200):
        monkeypatch.setattr(line_data, "LORENZ_STEPS", steps)
        coarse = lorenz_states(draw_lorenz(2, torch.Generator().manual_seed(0)), times)
        errors.append(float((coarse - fine).abs().max()))
    assert errors[0] / errors[1] > 10
    assert errors[1] < 0.02


def test_grids_hold_both_ends_and_grow():
    generator = torch.Generator().manual_seed(0)
    grids = [uniform_grid(16), skewed_grid(16), half_dense_grid(16)]
    grids += [random_grid(16, generator), *(varied_grid(16, generator) for _ in range(8))]
    for grid in grids:
        assert len(grid) == 16
        assert grid[0] == 0
        assert grid[-1] == 1
        assert (grid.diff() > 0).all()
    assert (half_dense_grid(16) < 0.5).sum() == 12
