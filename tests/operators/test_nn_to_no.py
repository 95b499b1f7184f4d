"""Function-space layers: exact on their own grid, one limit on finer ones; and the pixel kernel, which has none."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from paperworks.operators.nn_to_no import (
    CoordinateEmbedding,
    DifferentialConv,
    IntegralNorm,
    InterpolatedConv,
    InterpolateInOut,
    KernelIntegral,
    KernelUNet,
    LocalIntegralConv,
    LocalIntegralConvTranspose,
    LocalNO,
    PolarIntegralConv2d,
    QuadratureAttention,
    Resample,
    ResidualOperator,
    TransferConv,
    ball_neighbours,
    fourier_resample,
    grid_coordinates,
    local_convs,
    rotary,
)
from paperworks.operators.nn_to_no.local_convs import fourier_correlation, hat_basis
from paperworks.operators.quadrature_attention import trapezoid_weights

DOUBLE = torch.float64


def grid(n, dtype=DOUBLE):
    return torch.arange(n, dtype=dtype) / n


def wave(n, dtype=DOUBLE):
    x = grid(n, dtype)
    return (torch.sin(2 * math.pi * x) + 0.5 * torch.cos(6 * math.pi * x))[None, None]


def wave_2d(n, m=None):
    x, y = grid(n)[:, None], grid(m or n)[None]
    return (torch.sin(2 * math.pi * (x + 2 * y)) + torch.cos(4 * math.pi * x))[None, None]


def errors(layer, sizes, f=wave, finest=512):
    """Largest differences from the finest grid at shared points."""
    with torch.no_grad():
        best = layer(f(finest))
        steps = [finest // n for n in sizes]
        cut = [best[(..., *[slice(None, None, s)] * (best.ndim - 2))] for s in steps]
        return [float((layer(f(n)) - there).abs().max()) for n, there in zip(sizes, cut, strict=True)]


# local integrals


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_on_its_own_grid_a_local_integral_is_the_convolution(ndim):
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[ndim]
    layer = LocalIntegralConv(4, 6, 3, 1 / 8, ndim=ndim, groups=2)
    pixel = kind(4, 6, 3, padding=1, padding_mode="circular", groups=2)
    pixel.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, *[8] * ndim)
    assert torch.equal(layer(x), pixel(x))


def test_a_grid_that_is_fine_along_one_axis_only():
    """Axis by axis: rows on the nodes, columns resampled, equals the separable product of both."""
    layer = LocalIntegralConv(1, 1, 3, (1 / 8, 1 / 8), ndim=2, bias=False).double()
    a, b = torch.randn(3, dtype=DOUBLE), torch.randn(3, dtype=DOUBLE)
    layer.weight.data.copy_(a[:, None] * b)
    row = LocalIntegralConv(1, 1, 3, 1 / 8, ndim=1, bias=False).double()
    for rows, columns in ((8, 24), (24, 8), (16, 24)):
        x = torch.randn(1, 1, rows, columns, dtype=DOUBLE)
        row.weight.data.copy_(b)
        y = row(x.flatten(0, 2)[:, None]).reshape(rows, columns)
        row.weight.data.copy_(a)
        y = row(y.T[:, None]).reshape(columns, rows).T
        torch.testing.assert_close(layer(x)[0, 0], y)


@pytest.mark.parametrize("size", [8, 16, 40, 100])
def test_constants_stay_constants_on_every_grid(size):
    layer = LocalIntegralConv(1, 1, 5, 1 / 8, ndim=1).double()
    expected = (layer.weight.sum() + layer.bias).item()
    torch.testing.assert_close(
        layer(torch.ones(1, 1, size, dtype=DOUBLE)), torch.full((1, 1, size), expected, dtype=DOUBLE)
    )


def test_a_local_integral_converges_at_second_order_and_a_pixel_kernel_does_not():
    layer = LocalIntegralConv(1, 1, 5, 1 / 16, ndim=1).double()
    found = errors(layer, (32, 64, 128), finest=2048)
    assert found[0] / found[1] > 3.5
    assert found[1] / found[2] > 3.5
    pixel = nn.Conv1d(1, 1, 5, padding=2, padding_mode="circular").double()
    pixel.weight.data.copy_(layer.weight)
    away = errors(pixel, (32, 64, 128), finest=2048)
    assert min(away) > 5 * max(found)
    assert away[1] > 0.1  # its limit is pointwise: another operator


def test_hats_that_no_grid_point_falls_into_are_left_out():
    basis, first = hat_basis([-1 / 64, 0.0, 1 / 64], 1 / 64, 1 / 32)
    assert first == 0
    torch.testing.assert_close(basis, torch.tensor([[0.0], [1.0], [0.0]]))


def test_shifts_by_whole_cells_commute():
    layer, x = LocalIntegralConv(2, 3, 5, 1 / 10, ndim=2), torch.randn(1, 2, 24, 30)
    torch.testing.assert_close(layer(x.roll((5, -7), (2, 3))), layer(x).roll((5, -7), (2, 3)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("points", "taps", "first"), [((12,), (5,), (-2,)), ((6, 9), (7, 4), (-3, 0)), ((5,), (13,), (-6,))]
)
def test_products_of_modes_are_the_sum(points, taps, first):
    """Also where the kernel is longer than the circle."""
    x, kernel = torch.randn(2, 4, *points, dtype=DOUBLE), torch.randn(6, 2, *taps, dtype=DOUBLE)
    y = torch.zeros(2, 6, *points, dtype=DOUBLE)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in taps]).reshape(-1, len(taps)):
        shift = [-(int(j) + f) for j, f in zip(place, first, strict=True)]
        moved = x.roll(shift, list(range(2, x.ndim))).unflatten(1, (2, 2))
        taken = kernel[(..., *place.tolist())].unflatten(0, (2, 3))
        y += torch.einsum("bgi...,goi->bgo...", moved, taken).flatten(1, 2)
    torch.testing.assert_close(fourier_correlation(x, kernel, first), y)


def test_the_fast_path_equals_the_slow_one():
    layer = LocalIntegralConv(2, 3, 9, 1 / 16, ndim=2).double()
    x = torch.randn(1, 2, 96, 96, dtype=DOUBLE)
    kernel, first, last = layer.kernel(x.shape[2:])
    assert kernel.shape[2:] == (59, 59)  # goes through Fourier space
    slow = F.conv2d(F.pad(x, [-first[1], last[1], -first[0], last[0]], mode="circular"), kernel, layer.bias)
    torch.testing.assert_close(layer(x), slow)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (4, 2, 1), (3, 3, 0), (6, 2, 2)])
def test_strided_and_transposed_on_their_own_grid(kernel, stride, padding):
    x = torch.randn(2, 4, 12)
    pixel = nn.Conv1d(4, 6, kernel, stride, padding)
    layer = LocalIntegralConv(4, 6, kernel, 1 / 12, ndim=1, stride=stride, padding_mode="zeros", origin=padding)
    layer.load_state_dict(pixel.state_dict())
    torch.testing.assert_close(layer(x), pixel(x))
    assert layer(torch.randn(1, 4, 24)).shape == (1, 6, 24 // stride)
    back = nn.ConvTranspose1d(4, 6, kernel, stride, padding, groups=2)
    up = LocalIntegralConvTranspose(4, 6, kernel, 1 / (12 * stride), ndim=1, stride=stride, origin=padding, groups=2)
    up.load_state_dict(back.state_dict())
    torch.testing.assert_close(up(x), back(x))
    assert up(torch.randn(1, 4, 24)).shape == (1, 6, 24 * stride)


def test_transposed_integral_has_a_limit():
    up = LocalIntegralConvTranspose(1, 1, 4, 1 / 32, ndim=1, stride=2, origin=1, bias=False).double()
    with torch.no_grad():
        best = up(wave(1024))
        away = [
            float((up(wave(n)) - best[..., :: 1024 // n])[..., n // 2 : -n // 2].abs().max()) for n in (64, 128, 256)
        ]
    assert away[0] > 3 * away[1] > 9 * away[2]
    expected = wave(2048)[0, 0, 1024] * up.weight.sum() / 2  # each coarse point stands for two fine ones
    torch.testing.assert_close(best[0, 0, 1024], expected, rtol=0.2, atol=0.2)


# differences


def test_a_differential_kernel_tends_to_the_derivative():
    layer = DifferentialConv(1, 1, 3, ndim=1).double()
    layer.weight.data.copy_(torch.tensor([[[-0.5, 0.2, 0.7]]]))
    found = []
    for n in (32, 64, 128, 256):
        x = grid(n)
        exact = 1.2 * 2 * math.pi * torch.cos(2 * math.pi * x)
        found.append((layer(torch.sin(2 * math.pi * x)[None, None]) - exact).abs().max().item())
    torch.testing.assert_close(torch.tensor(found), torch.tensor([0.132, 0.0628, 0.0310, 0.0154]), rtol=0.02, atol=0)


def test_differences_of_constants_vanish_and_second_order_of_straight_lines_too():
    x = torch.arange(12.0)[None, None, :]
    first = DifferentialConv(1, 2, 3, ndim=1)
    assert first(torch.ones(1, 1, 12)).abs().max() < 1e-4
    second = DifferentialConv(1, 2, 5, ndim=1, order=2, padding_mode="replicate", domain_length=12.0)
    assert second(x)[..., 3:-3].abs().max() < 1e-4
    bent = second(x**2)[..., 3:-3]
    torch.testing.assert_close(bent, bent[..., :1].expand_as(bent), rtol=1e-3, atol=1e-3)
    assert bent.abs().min() > 1e-3


def test_second_order_converges_to_a_multiple_of_the_second_derivative():
    layer = DifferentialConv(1, 1, 5, ndim=1, order=2).double()
    found = []
    for n in (64, 128):
        x = torch.sin(2 * math.pi * grid(n))[None, None]
        y = layer(x)
        k = (y * x).sum() / (x * x).sum()
        found.append(((y - k * x).abs().max() / y.abs().max()).item())
    assert found[1] < 0.6 * found[0] < 0.1


def test_mean_and_differences_are_the_pixel_kernel_on_its_grid():
    layer = DifferentialConv(3, 4, 5, ndim=1, base_resolution=20, keep_mean=True, bias=True)
    pixel = nn.Conv1d(3, 4, 5, padding=2, padding_mode="circular")
    pixel.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(layer(x), pixel(x))
    found = errors(
        DifferentialConv(1, 1, 3, ndim=1, base_resolution=16, keep_mean=True).double(), (64, 128), finest=4096
    )
    assert found[0] > 1.8 * found[1]


def test_cells_that_are_not_cubes_are_refused():
    with pytest.raises(ValueError, match="as long as wide"):
        DifferentialConv(1, 1)(torch.randn(1, 1, 8, 12))
    with pytest.raises(ValueError, match="odd number above the order"):
        DifferentialConv(1, 1, 3, order=3)


# resized kernels, discs


def test_a_resized_kernel_is_itself_on_its_grid_and_scales_its_taps():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    layer, x = InterpolatedConv(conv, (8, 8)), torch.randn(1, 2, 8, 8)
    assert torch.equal(layer(x), conv(x))
    constant = nn.Conv1d(1, 1, 3, padding=1, bias=False)
    constant.weight.data.fill_(1 / 3)
    y = InterpolatedConv(constant, (8,))(torch.ones(1, 1, 16))
    torch.testing.assert_close(y[..., 4:-4], torch.ones(1, 1, 8))
    assert next(layer.parameters()) is conv.weight


@pytest.mark.parametrize("shape", [(2, 4), (3, 4), (4, 3)])
def test_a_disc_is_one_integral_on_every_grid(shape):
    layer = PolarIntegralConv2d(1, 1, shape, radius=0.3, domain_length=1.0).double()
    expected = (layer.weight.sum() + layer.bias).item()
    for n in (16, 24):
        y = layer(torch.ones(1, 1, n, n, dtype=DOUBLE))
        torch.testing.assert_close(y, torch.full_like(y, expected))
        hats = layer.hats((n, n))
        assert (hats.sum((1, 2)) - 1).abs().max() < 1e-12
        assert hats[..., 0, :].abs().max() > 0  # no row of zeros around
    found = errors(layer, (16, 32, 64), wave_2d, finest=128)
    assert found[0] > 3 * found[2]


def test_the_released_disc_keeps_its_pixels_and_so_loses_its_radius():
    frozen = PolarIntegralConv2d(1, 1, (2, 4), 0.25, domain_length=1.0, released_layout=True, base_resolution=16)
    frozen = frozen.double()
    assert frozen.weight.shape[-1] == 5  # one weight more than hats
    ours = PolarIntegralConv2d(1, 1, (2, 4), 0.25, domain_length=1.0, released_layout=True).double()
    ours.load_state_dict(frozen.state_dict())
    torch.testing.assert_close(frozen(wave_2d(16)), ours(wave_2d(16)))
    away, kept = errors(frozen, (16, 32), wave_2d, finest=64), errors(ours, (16, 32), wave_2d, finest=64)
    assert away[1] > 5 * kept[1]


# through Fourier space


@pytest.mark.parametrize(("n", "m"), [(9, 16), (16, 9), (8, 24), (24, 8), (15, 7)])
def test_resampling_is_exact_for_what_both_grids_carry(n, m):
    def field(size):
        return torch.sin(2 * math.pi * grid(size)) + 0.3 * torch.cos(6 * math.pi * grid(size))

    torch.testing.assert_close(fourier_resample(field(n), [m]), field(m))
    plane = field(n)[:, None] * field(m)
    torch.testing.assert_close(fourier_resample(plane, [m, n]), field(m)[:, None] * field(n))


@pytest.mark.parametrize("n", [8, 9])
def test_resampling_keeps_every_value_of_the_coarse_grid(n):
    x = torch.randn(n, dtype=DOUBLE)
    torch.testing.assert_close(fourier_resample(x, [3 * n])[::3], x)
    torch.testing.assert_close(fourier_resample(fourier_resample(x, [3 * n]), [n]), x)


@pytest.mark.parametrize("ndim", [1, 2])
def test_a_transfer_function_is_the_kernel_on_its_grid_and_the_same_multiplier_elsewhere(ndim):
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[ndim]
    for base in (8, 9):
        conv = kind(2, 4, 5, padding=2, padding_mode="circular", groups=2).double()
        layer, x = TransferConv(conv, (base,) * ndim), torch.randn(1, 2, *[base] * ndim, dtype=DOUBLE)
        torch.testing.assert_close(layer(x), conv(x))
        smooth = fourier_resample(fourier_resample(x, [5] * ndim), [base] * ndim)
        fine = fourier_resample(smooth, [3 * base] * ndim)
        torch.testing.assert_close(layer(fine), fourier_resample(layer(smooth), [3 * base] * ndim))


def test_interpolation_around_a_network():
    net = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular").double()
    wrapped, x = InterpolateInOut(net, 16), wave(16)
    assert torch.equal(wrapped(x), net(x))
    torch.testing.assert_close(wrapped(wave(64))[..., ::4], net(x))
    fine = wave(64) + torch.cos(2 * math.pi * 20 * grid(64))  # above what 16 points carry
    torch.testing.assert_close(wrapped(fine), wrapped(wave(64)))


def test_resample_keeps_its_ratio():
    half = Resample(0.5)
    torch.testing.assert_close(half(wave(32)), wave(16))
    assert Resample(2.0, "linear")(torch.randn(1, 2, 6, 8)).shape == (1, 2, 12, 16)
    with pytest.raises(ValueError, match="fourier or linear"):
        Resample(2.0, "cubic")


# points


def test_a_kernel_integral_on_a_ball_is_the_plain_sum():
    torch.manual_seed(0)
    points, queries, f = torch.rand(20, 2), torch.rand(5, 2), torch.randn(3, 20, 4)
    w = torch.rand(20)
    for transform in ("linear", "nonlinear"):
        layer = KernelIntegral(4, 2, 0.4, (8,), transform)
        expected = torch.zeros(3, 5, 4)
        for i, x in enumerate(queries):
            for j, y in enumerate(points):
                if (x - y).norm() <= 0.4:
                    for b in range(3):
                        given = [y, x, f[b, j]] if transform == "nonlinear" else [y, x]
                        k = layer.kernel[1](F.gelu(layer.kernel[0](torch.cat(given))))
                        expected[b, i] += k * f[b, j] * w[j]
        torch.testing.assert_close(layer(f, points, queries, w), expected, rtol=1e-4, atol=1e-5)


def test_a_kernel_integral_has_a_limit_and_mean_reduction_too():
    layer = KernelIntegral(1, 1, 0.25, (8,)).double()
    query = torch.tensor([[0.5], [0.31]], dtype=DOUBLE)

    def at(n, weighted):
        x = (torch.arange(n, dtype=DOUBLE) + 0.5)[:, None] / n
        w = torch.full((n,), 1 / n, dtype=DOUBLE) if weighted else None
        return layer(torch.sin(3 * x)[None], x, query, w)

    for weighted in (True, False):
        near = [(at(n, weighted) - at(20_000, weighted)).abs().max() for n in (50, 1_600)]
        assert near[1] < 0.2 * near[0] + 1e-4


def test_neighbours_in_chunks_are_all_neighbours():
    points = torch.rand(50, 3)
    pairs = ball_neighbours(points, points[:30], 0.3, chunk=7)
    near = torch.cdist(points[:30], points) <= 0.3
    assert torch.equal(torch.stack(pairs, 1), near.nonzero())


# attention, positions, norms


def test_attention_with_halved_weights_of_doubled_points():
    for kind in ("softmax", "galerkin"):
        layer = QuadratureAttention(8, 2, kind).double()
        x, w = torch.randn(2, 9, 8, dtype=DOUBLE), torch.rand(9, dtype=DOUBLE)
        there = layer(x.repeat_interleave(2, 1), w.repeat_interleave(2) / 2, query=x)
        torch.testing.assert_close(there, layer(x, w))
        assert layer(x, w, query=torch.randn(2, 4, 8, dtype=DOUBLE)).shape == (2, 4, 8)


def test_equal_points_need_no_weights_in_galerkin_attention():
    layer, x = QuadratureAttention(8, 2, "galerkin"), torch.randn(2, 10, 8)
    torch.testing.assert_close(layer(x), layer(x, torch.full((10,), 0.1)), rtol=1e-4, atol=1e-5)


def test_rotated_products_depend_on_differences_only():
    q, k = torch.randn(2, 1, 1, 5, 12, dtype=DOUBLE)
    at = torch.rand(5, 3, dtype=DOUBLE)
    scores = rotary(q, at, min_frequency=1.0) @ rotary(k, at, min_frequency=1.0).mT
    moved = rotary(q, at + 0.7, min_frequency=1.0) @ rotary(k, at + 0.7, min_frequency=1.0).mT
    torch.testing.assert_close(moved, scores)
    torch.testing.assert_close(rotary(q, at).norm(dim=-1), q.norm(dim=-1))
    assert (rotary(q, at, 1.0) @ rotary(k, at + 0.7, 1.0).mT - scores).abs().max() > 1e-2
    with pytest.raises(ValueError, match="pairs on 2 axes"):
        rotary(torch.randn(1, 1, 5, 6), torch.rand(5, 2))


def test_coordinates_are_the_same_at_shared_points_of_every_grid():
    for layer in (CoordinateEmbedding(2), CoordinateEmbedding(2, frequencies=2)):
        coarse, fine = layer(torch.zeros(1, 1, 8, 8)), layer(torch.zeros(1, 1, 24, 24))
        assert coarse.shape[1] == 1 + layer.extra_channels
        torch.testing.assert_close(fine[..., ::3, ::3], coarse, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="cannot carry the frequency"):
        CoordinateEmbedding(1, frequencies=3)(torch.zeros(1, 1, 8))
    torch.testing.assert_close(grid_coordinates((5,), endpoint=True), torch.linspace(0, 1, 5)[None])


def test_a_norm_of_functions_is_group_norm_on_a_uniform_grid_and_the_same_elsewhere_with_weights():
    norm = IntegralNorm(4, 2).double()
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    x = torch.randn(2, 4, 5, 6, dtype=DOUBLE)
    torch.testing.assert_close(norm(x, torch.ones(5, 6, dtype=DOUBLE)), norm(x))
    torch.testing.assert_close(norm(x), F.group_norm(x, 2, norm.weight, norm.bias))
    one = IntegralNorm(1).double()

    def at(x):
        return one(torch.exp(x)[None, None], trapezoid_weights(x))[0, 0, -1]

    fine, skewed = torch.linspace(0, 1, 4001, dtype=DOUBLE), torch.linspace(0, 1, 401, dtype=DOUBLE) ** 2
    torch.testing.assert_close(at(skewed), at(fine), rtol=1e-4, atol=1e-4)
    plain = one(torch.exp(skewed)[None, None])[0, 0, -1]
    assert (plain - at(fine)).abs() > 0.1


# networks


@pytest.mark.parametrize("conv", ["integral", "differential", "spectral"])
def test_networks_agree_between_grids_and_the_pixel_network_does_not(conv):
    options = dict(width=8, n_blocks=2, kernel_size=5, base_resolution=32, n_modes=5)
    torch.manual_seed(0)
    net = ResidualOperator(conv=conv, spacing=1 / 32, **options).double()
    pixel = ResidualOperator(conv="pixel", **options).double()
    if conv == "integral":
        pixel.load_state_dict(net.state_dict())
        torch.testing.assert_close(pixel(wave(32)), net(wave(32)))
    found, away = errors(net, (64, 128)), errors(pixel, (64, 128))
    assert found[1] < 0.6 * found[0] + 1e-12
    assert found[1] < 0.5 * away[1]


def test_places_are_the_same_on_every_grid():
    torch.manual_seed(0)
    options = dict(in_channels=2, width=6, n_blocks=2, kernel_size=5, spacing=1 / 8, ndim=2, padding_mode="replicate")
    net = ResidualOperator(**options, coordinates=True).double()
    field = lambda n: torch.ones(1, 2, n, n, dtype=torch.float64)  # noqa: E731
    with torch.no_grad():
        net.convs = torch.nn.ModuleList(nn.Identity() for _ in net.convs)  # pointwise layers alone: exact on any grid
        torch.testing.assert_close(net(field(32))[..., ::2, ::2], net(field(16)))
    assert net(field(16)).std() > 1e-3


def refined(net):
    """Differences from 128 points at 32 and 64: away from the seam where coordinates jump, and everywhere."""
    with torch.no_grad():
        y = [net(wave_2d(n)) for n in (32, 64, 128)]
    away = [(a - y[2][..., :: 128 // n, :: 128 // n]).abs() for a, n in zip(y[:2], (32, 64), strict=True)]
    inside = [float(a[..., n // 4 : -n // 4, n // 4 : -n // 4].max()) for a, n in zip(away, (32, 64), strict=True)]
    return inside, [float(a.max()) for a in away]


def test_local_kernels_make_a_fourier_network_that_refines():
    torch.manual_seed(0)
    both = (True, True)
    net = LocalNO(1, 1, 4, (6, 6), 2, differential=(False,) * 2, integral=both, radius=0.3).double().eval()
    inside, everywhere = refined(net)
    assert inside[1] < 0.6 * inside[0]
    assert everywhere[1] < 0.8 * everywhere[0]


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate", "reflect"])
def test_a_large_kernel_on_a_padded_field_is_the_direct_sum(padding_mode, monkeypatch):
    """Products of Fourier modes, whose wrapping around is cut off, in values and gradients."""
    layer = LocalIntegralConv(3, 2, 7, 1 / 8, padding_mode=padding_mode).double()  # 13 x 13 taps on 16 points an axis
    x = torch.randn(2, 3, 16, 14, dtype=torch.float64, requires_grad=True)
    assert local_convs.large_kernel(layer.kernel((16, 14))[0], (28, 26), 1, (1, 1), worth=15)
    results = []
    for fast in (True, False):
        monkeypatch.setattr(local_convs, "large_kernel", lambda *_, fast=fast, **__: fast)
        y = layer(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    assert results[0][0].shape == (2, 2, 16, 14)
    for ours, direct in zip(*results, strict=True):
        torch.testing.assert_close(ours, direct)


def test_differences_of_the_grid_channels_grow_at_the_seam():
    """The released network takes circular differences of features that know i / n, which jumps there."""
    layer = DifferentialConv(1, 1, 3, ndim=1, base_resolution=16)
    nn.init.ones_(layer.weight)
    with torch.no_grad():
        seam = [layer(grid_coordinates((n,))[None])[0, 0, 0].abs().item() for n in (32, 128, 512)]
    torch.testing.assert_close(
        torch.tensor([seam[1] / seam[0], seam[2] / seam[1]]), torch.full((2,), 4.0), rtol=0.1, atol=0
    )


@pytest.mark.parametrize(("kernel_size", "base"), [(3, 12), (5, 12), (9, 16)])
def test_the_resized_unet_takes_every_grid_on_which_its_kernels_stay_odd_and_refuses_the_others(kernel_size, base):
    net = KernelUNet(
        width=2, multipliers=(1, 2), kernel_size=kernel_size, n_blocks=1, interpolate=True, base_resolution=base
    )
    for points in range(base // 2, 2 * base + 1):
        half = (kernel_size // 2) * points % base
        u = torch.randn(1, 1, points, base)
        if 2 * half < base:
            assert net(u).shape == u.shape
        else:
            with pytest.raises(ValueError, match="u: expected rows and columns"):
                net(u)
    with pytest.raises(ValueError, match="kernel_size: an odd number"):
        KernelUNet(kernel_size=4)


def test_a_unet_with_resized_kernels_is_the_unet_on_its_grid():
    torch.manual_seed(0)
    pixel = KernelUNet(width=2, multipliers=(1, 2), kernel_size=3, n_blocks=1)
    resized = KernelUNet(width=2, multipliers=(1, 2), kernel_size=3, n_blocks=1, interpolate=True, base_resolution=16)
    resized.load_official(pixel.state_dict())
    x = torch.randn(1, 1, 16, 16)
    assert torch.equal(resized(x), pixel(x))
    with pytest.raises(ValueError, match="not the weights of this configuration"):
        KernelUNet(width=3, multipliers=(1,), n_blocks=1).load_official(pixel.state_dict())


@pytest.mark.parametrize("layer", [LocalIntegralConv(2, 3, 3, 0.1), DifferentialConv(2, 3), PolarIntegralConv2d(2, 3)])
def test_wrong_shapes_are_refused_in_words(layer):
    with pytest.raises(ValueError, match=r"x: expected shape \(batch, 2, .*given \(1, 3, 8, 8\)"):
        layer(torch.randn(1, 3, 8, 8))


def test_wrong_options_are_refused_in_words():
    for wrong, message in (
        (lambda: ResidualOperator(conv="dense"), "pixel, integral, differential or spectral"),
        (lambda: LocalIntegralConv(1, 1, 3, 0.1, padding_mode="wrap"), "circular, zeros"),
        (lambda: LocalIntegralConv(1, 1, 3, (0.1, 0.2, 0.3)), "one number or 2"),
        (lambda: KernelIntegral(2, 1, 0.1, transform="cubic"), "one of linear"),
        (lambda: KernelIntegral(2, 1, 0.1, out_channels=3), "diagonal"),
        (lambda: QuadratureAttention(5, 2), "do not divide 5 channels"),
        (lambda: IntegralNorm(3, 2), "do not divide 3 channels"),
        (lambda: LocalNO(n_layers=2), "2 entries each"),
        (lambda: InterpolateInOut(nn.Identity(), 8, "cubic"), "fourier or linear"),
    ):
        with pytest.raises(ValueError, match=message):
            wrong()
