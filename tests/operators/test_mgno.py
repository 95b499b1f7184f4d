"""MgNO's mathematics: linearity, boundaries by symmetry, classical multigrid as a special case, the authors' names."""

import math

import pytest
import torch
import torch.nn.functional as F

from paperworks.measure import count_parameters
from paperworks.operators import MgConv, MgNO
from paperworks.operators.mgno import difference_h1, fourier_h1, mgno_laptop, relative_l2
from paperworks.operators.mgno.model import coarse_size, prolongation_kernels

LEVELS = ((1, 1), (2, 1), (2, 0))


def randomised(net):
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return net.double()


def symmetrised(net):
    """The cycle with kernels that are their own mirror images."""
    for parameter in net.parameters():
        parameter.data = parameter.data + parameter.data.flip(2)
        parameter.data = parameter.data + parameter.data.flip(3)
    return net


@pytest.mark.parametrize("boundary", ["dirichlet", "periodic", "neumann"])
@pytest.mark.parametrize("restrict", ["data", "residual"])
@pytest.mark.parametrize(("ndim", "sizes"), [(1, (21,)), (2, (16, 9)), (3, (6, 5, 8))])
def test_cycle_is_linear(boundary, restrict, ndim, sizes):
    cycle = randomised(MgConv(2, 3, LEVELS, boundary, restrict, ndim=ndim))
    a, b = torch.randn(2, 2, *sizes).double(), torch.randn(2, 2, *sizes).double()
    torch.testing.assert_close(cycle(2 * a - 3 * b), 2 * cycle(a) - 3 * cycle(b))
    assert cycle(torch.zeros_like(a)).abs().max() == 0


def test_a_bias_or_a_norm_is_not_linear():
    a = torch.randn(2, 2, 8, 8).double()
    for options in (dict(bias=True), dict(norm="field")):
        cycle = randomised(MgConv(2, 3, LEVELS, **options))
        assert (cycle(2 * a) - 2 * cycle(a)).abs().max() > 1e-2


@pytest.mark.parametrize("boundary", ["dirichlet", "periodic", "neumann"])
@pytest.mark.parametrize("kernels", [(4, 4), (3, 4), (3, 3)])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("n", [31, 32, 33, 45, 46])
def test_any_size_is_given_back(n, kernels, boundary, padded):
    cycle = MgConv(1, 1, LEVELS, boundary, kernels=kernels, padded=padded)
    assert cycle(torch.randn(1, 1, n, 64 - n)).shape == (1, 1, n, 64 - n)


def test_authors_kernels_for_the_published_grids():
    assert prolongation_kernels(211, 6) == [3, 4, 3, 3, 4]
    assert prolongation_kernels(256, 6) == [4] * 5
    assert prolongation_kernels(101, 5, padded=False) == [3, 4, 4, 3]
    assert [coarse_size(211), coarse_size(101, padded=False)] == [106, 50]


@pytest.mark.parametrize("restrict", ["data", "residual"])
def test_periodic_cycle_commutes_with_shifts_by_a_coarsest_cell(restrict):
    for kernels in ((4, 4), (3, 3), (4, 3)):
        cycle = randomised(MgConv(1, 2, LEVELS, "periodic", restrict, kernels=kernels))
        f = torch.randn(2, 1, 16, 24).double()
        torch.testing.assert_close(cycle(f.roll((4, -8), (2, 3))), cycle(f).roll((4, -8), (2, 3)))
        assert (cycle(f.roll(1, 2)) - cycle(f).roll(1, 2)).abs().max() > 1e-3


def test_the_released_prolongation_does_not_wrap():
    cycle = randomised(MgConv(1, 2, LEVELS, "periodic", legacy=True))
    f = torch.randn(2, 1, 16, 16).double()
    moved = (cycle(f.roll(4, 2)) - cycle(f).roll(4, 2)).abs()
    assert moved.max() > 1e-2


@pytest.mark.parametrize("restrict", ["data", "residual"])
def test_neumann_cycle_is_the_periodic_one_on_the_even_continuation(restrict):
    n, options = 17, dict(restrict=restrict, kernels=(3, 3))
    walls = symmetrised(randomised(MgConv(1, 2, LEVELS, "neumann", **options)))
    circle = MgConv(1, 2, LEVELS, "periodic", **options).double()
    circle.load_state_dict(walls.state_dict())
    f = torch.randn(2, 1, n, n).double()
    whole = torch.cat([f, f[:, :, 1:-1].flip(2)], 2)
    whole = torch.cat([whole, whole[..., 1:-1].flip(3)], 3)
    torch.testing.assert_close(circle(whole)[..., :n, :n], walls(f))


@pytest.mark.parametrize("restrict", ["data", "residual"])
def test_dirichlet_cycle_is_the_periodic_one_on_the_odd_continuation(restrict):
    n, options = 15, dict(restrict=restrict, kernels=(3, 3))
    walls = symmetrised(randomised(MgConv(1, 2, LEVELS, "dirichlet", padded=False, **options)))
    circle = MgConv(1, 2, LEVELS, "periodic", **options).double()
    circle.load_state_dict(walls.state_dict())
    f = torch.randn(2, 1, n, n).double()
    zero = torch.zeros_like(f[:, :, :1])
    whole = torch.cat([zero, f, zero, -f.flip(2)], 2)
    zero = torch.zeros_like(whole[..., :1])
    whole = torch.cat([zero, whole, zero, -whole.flip(3)], 3)
    torch.testing.assert_close(circle(whole)[..., 1 : n + 1, 1 : n + 1], walls(f))


def classical(levels, boundary, padded):
    """The textbook V-cycle for the 5-point Laplacian: damped Jacobi, full weighting, bilinear prolongation."""
    smoothing = [(1, 1)] * (levels - 1) + [(60, 0)]
    cycle = MgConv(1, 1, smoothing, boundary, "residual", padded=padded, kernels=[4 if padded else 3] * (levels - 1))
    stencil = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    full = torch.tensor([1.0, 2, 1])
    linear = torch.tensor([0.5, 1, 0.5, 0] if padded else [0.5, 1, 0.5])
    for name, parameter in cycle.named_parameters():
        kind = name.split(".")[-2] if name.split(".")[-2] in "AS" else name.split(".")[0]
        taps = {
            "A": stencil,
            "S": 0.2 * torch.eye(3)[1][:, None] * torch.eye(3)[1],
            "R": full[:, None] * full / 4,
            "Pi": torch.zeros(3, 3),
            "P": linear[:, None] * linear,
        }[kind]
        parameter.data = taps[None, None].clone()
    return cycle.double(), stencil.double()


@pytest.mark.parametrize(
    ("n", "levels", "boundary", "padded"),
    [(16, 3, "periodic", True), (32, 4, "periodic", True), (64, 5, "periodic", True),
     (15, 3, "dirichlet", False), (31, 4, "dirichlet", False), (63, 5, "dirichlet", False)],
)  # fmt: skip
def test_classical_multigrid_is_a_special_case_and_converges_alike_on_every_grid(n, levels, boundary, padded):
    cycle, stencil = classical(levels, boundary, padded)
    error = torch.randn(1, 1, n, n, generator=torch.Generator().manual_seed(0)).double()

    def laplacian(u):
        u = F.pad(u, [1] * 4, mode="circular") if boundary == "periodic" else F.pad(u, [1] * 4)
        return F.conv2d(u, stencil[None, None])

    factors = []
    with torch.no_grad():
        for _ in range(8):
            if boundary == "periodic":
                error = error - error.mean()
            before = error.norm()
            error = error - cycle(laplacian(error))
            if boundary == "periodic":
                error = error - error.mean()
            factors.append(float(error.norm() / before))
    assert max(factors) < 0.36
    assert factors[0] < 0.2
    assert factors[-1] > 0.2  # the known rate of one step before and after, not an exact solver


def test_one_level_with_one_step_is_a_convolution():
    cycle = MgConv(2, 3, ((1, 0),))
    f = torch.randn(2, 2, 7, 8)
    torch.testing.assert_close(cycle(f), F.conv2d(f, cycle.pre[0][0].S.weight, padding=1))
    assert count_parameters(cycle) == 2 * 3 * 9


def test_a_point_reaches_the_whole_grid_when_the_levels_halve_it_away():
    f = torch.zeros(1, 1, 16, 16).double()
    f[0, 0, 3, 12] = 1
    reached = [int((randomised(MgConv(1, 1, ((1, 0),) * n))(f) != 0).sum()) for n in (1, 2, 3, 5)]
    assert reached[0] == 9
    assert reached == sorted(reached)
    assert reached[-1] == 256


def test_gradient_is_right():
    cycle = randomised(MgConv(1, 2, ((1, 1), (1, 0)), "neumann", "residual", True, "field"))
    f = torch.randn(1, 1, 4, 5).double().requires_grad_()
    assert torch.autograd.gradcheck(cycle, f)


def test_norms_by_field_and_by_grid_are_one_at_the_start():
    by_field = MgConv(1, 2, LEVELS, norm="field")
    by_grid = MgConv(1, 2, LEVELS, norm="grid", grid_size=(8, 12))
    by_grid.load_state_dict({k: v for k, v in by_field.state_dict().items() if "norm" not in k}, strict=False)
    f = torch.randn(2, 1, 8, 12)
    torch.testing.assert_close(by_grid(f), by_field(f), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"expected shape \(batch, 1, 8, 12\)"):
        by_grid(torch.randn(2, 1, 12, 8))
    assert by_field(torch.randn(2, 1, 12, 8)).shape == (2, 2, 12, 8)


def authors_cycle(state, f, counts, residual, prefix=""):
    """The released V-cycle with zero padding, from its own names."""

    def conv(name, x, stride=1):
        bias = state.get(f"{prefix}{name}.bias")
        return F.conv2d(x, state[f"{prefix}{name}.weight"], bias, stride, 1)

    data, fields = [], []
    for level, (pre, _) in enumerate(counts):
        start = 0
        if level == 0:
            u = conv("layer0.0.S", f)
            start = 1
        else:
            carried = f - conv(f"layer{level}.0.A", u) if residual else f
            f, u = conv(f"layer{level}.0.R", carried, 2), conv(f"layer{level}.0.Pi", u, 2)
        for i in range(start, pre):
            at = f"layer{level}.{i if level == 0 else i + 1}"
            u = u + conv(f"{at}.S", f - conv(f"{at}.A", u))
        data.append(f)
        fields.append(u)
    for level in range(len(counts) - 2, -1, -1):
        up = F.conv_transpose2d(u, state[f"{prefix}RTlayers.{level}.weight"], stride=2, padding=1)
        u = fields[level] + up
        for i in range(counts[level][1]):
            at = f"post_smooth_layer{level}.{i}"
            u = u + conv(f"{at}.S", data[level] - conv(f"{at}.A", u))
    return u


def authors_state(channels_f, channels_u, counts, residual, prefix=""):
    """A random state dict with the released names and shapes, dead post-smoothing on the coarsest level included."""
    generator, state = torch.Generator().manual_seed(3), {}

    def add(name, *shape):
        state[f"{prefix}{name}.weight"] = 0.2 * torch.randn(*shape, generator=generator)

    for level, (pre, post) in enumerate(counts):
        for i in range(pre):
            place = i if level == 0 else i + 1
            add(f"layer{level}.{place}.S", channels_u, channels_f, 3, 3)
            if level or i:
                add(f"layer{level}.{place}.A", channels_f, channels_u, 3, 3)
        for i in range(post):
            add(f"post_smooth_layer{level}.{i}.S", channels_u, channels_f, 3, 3)
            add(f"post_smooth_layer{level}.{i}.A", channels_f, channels_u, 3, 3)
        if level:
            add(f"layer{level}.0.R", channels_f, channels_f, 3, 3)
            add(f"layer{level}.0.Pi", channels_u, channels_u, 3, 3)
            add(f"RTlayers.{level - 1}", channels_u, channels_u, 4, 4)
            if residual:
                add(f"layer{level}.0.A", channels_f, channels_u, 3, 3)
    return state


@pytest.mark.parametrize("residual", [False, True])
def test_official_names_and_cycle(residual):
    counts = ((2, 1), (1, 2), (2, 1))
    state = authors_state(2, 3, counts, residual)
    cycle = MgConv(2, 3, ((2, 1), (1, 2), (2, 0)), restrict="residual" if residual else "data").load_official(state)
    f = torch.randn(2, 2, 16, 12)
    torch.testing.assert_close(cycle(f), authors_cycle(state, f, counts, residual), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="not the weights"):
        cycle.load_official({**state, "layer9.0.S.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="not the weights"):
        cycle.load_official({name: tensor for name, tensor in state.items() if name != "layer1.0.Pi.weight"})


def test_official_names_and_network():
    counts, generator, state = ((1, 0), (2, 0)), torch.Generator().manual_seed(4), {}
    for i, before in enumerate((1, 3)):
        state |= authors_state(before, 3, counts, False, f"conv_list.{i}.")
        state[f"linear_list.{i}.weight"] = 0.5 * torch.randn(3, before, 1, 1, generator=generator)
        state[f"linear_list.{i}.bias"] = torch.randn(3, generator=generator)
    state["linear.weight"] = torch.randn(1, 3, 1, 1, generator=generator)
    net = MgNO(1, 1, 3, 2, counts).load_official({**state, "normalizer.mean": torch.zeros(8, 8)})
    given = torch.randn(2, 1, 8, 8)
    u = given
    for i in range(2):
        skip = F.conv2d(u, state[f"linear_list.{i}.weight"], state[f"linear_list.{i}.bias"])
        u = F.gelu(authors_cycle(state, u, counts, False, f"conv_list.{i}.") + skip)
    torch.testing.assert_close(net(given), F.conv2d(u, state["linear.weight"]), rtol=1e-4, atol=1e-5)


def test_network_takes_grids_it_was_not_built_for_and_predicts_increments():
    net = MgNO(2, 2, 4, 2, LEVELS, boundary="periodic", cycle_norm="field", layer_norm="field", residual_output=True)
    for n in (16, 23, 64):
        u = torch.randn(1, 2, n, n + 1)
        torch.nn.init.zeros_(net.head.weight)
        assert torch.equal(net(u), u)


def test_heads():
    u = torch.randn(2, 1, 9, 9)
    assert MgNO(1, 2, 4, 1, LEVELS, head="cycle")(u).shape == (2, 2, 9, 9)
    hidden = MgNO(1, 2, 4, 1, LEVELS, head_hidden=5)
    assert [tuple(p.shape[:2]) for p in hidden.head.parameters()] == [(5, 4), (5,), (2, 5)]


def test_laptop_size():
    assert count_parameters(mgno_laptop()) == 114_811


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(smoothing=((0, 0), (1, 0))), "at least one pre step"),
        (dict(smoothing=((1, 0), (1, 1))), "coarsest level has no post"),
        (dict(smoothing=((1, 1),)), "pre steps only"),
        (dict(boundary="open"), "one of dirichlet, periodic, neumann"),
        (dict(restrict="error"), "data or residual"),
        (dict(cycle_norm="batch"), "field, or grid"),
        (dict(cycle_norm="grid"), "with a grid_size"),
        (dict(layer_norm="grid"), "with a grid_size"),
        (dict(kernels=(4, 5)), "3 or 4"),
        (dict(ndim=4), "1, 2 or 3"),
        (dict(activation="swish"), "one of gelu"),
        (dict(head="linear"), "pointwise or cycle"),
        (dict(out_channels=3, residual_output=True), "must be 1"),
    ],
)
def test_bad_arguments_are_refused_in_words(options, match):
    with pytest.raises(ValueError, match=match):
        MgNO(**{"smoothing": LEVELS, **options})


def test_too_many_levels_for_the_grid_are_said():
    with pytest.raises(ValueError, match="take fewer levels"):
        MgConv(1, 1, ((1, 0),) * 4, "neumann")(torch.randn(1, 1, 8, 8))
    with pytest.raises(ValueError, match="take fewer levels"):
        MgConv(1, 1, ((1, 0),) * 4, padded=False)(torch.randn(1, 1, 14, 20))


def field(n, kx, ky):
    x = torch.arange(n).double() * 2 * math.pi / n
    return (torch.cos(kx * x)[:, None] * torch.cos(ky * x))[None, None]


def test_relative_errors_of_a_scaled_field():
    truth = torch.randn(3, 2, 9, 8).double()
    for error in (relative_l2, difference_h1, fourier_h1):
        torch.testing.assert_close(error(1.25 * truth, truth), torch.full((3,), 0.25).double())


def test_fourier_h1_weighs_modes():
    truth = field(64, 1, 0)  # weight 1 + 1
    for k, weight in (((3, 4), 1 + 25), ((25, 4), 1 + 16), ((25, 21), 1), ((0, 31), 1)):
        share = field(64, *k).square().sum() / truth.square().sum()
        expected = 0.1 * (weight * share / 2).sqrt()
        torch.testing.assert_close(fourier_h1(truth + 0.1 * field(64, *k), truth)[0], expected)
    whole = fourier_h1(truth + 0.1 * field(64, 32, 32), truth, cut=None)  # twice the square of the first mode
    torch.testing.assert_close(whole[0], 0.1 * torch.tensor(1.0 + 2 * 32**2).sqrt().double())


def test_fourier_h1_equals_the_whole_transform():
    a, b = torch.randn(2, 1, 30, 45).double(), torch.randn(2, 1, 30, 45).double()
    k = torch.meshgrid(torch.fft.fftfreq(30, 1 / 30), torch.fft.fftfreq(45, 1 / 45), indexing="ij")
    weight = (1 + sum((part.abs() * (part.abs() < 20)) ** 2 for part in k)).sqrt()

    def norm(u):
        return (torch.fft.fft2(u).abs() * weight).flatten(1).norm(dim=1)

    torch.testing.assert_close(fourier_h1(a, b), norm(a - b) / norm(b))


def test_difference_h1_seminorm_ignores_a_constant_and_the_norm_does_not():
    truth = torch.randn(2, 1, 8, 8).double()
    assert difference_h1(truth + 3, truth, value_weight=0).max() < 1e-12
    assert difference_h1(truth + 3, truth).min() > 0.1
    ramp = torch.linspace(0, 1, 11).double().expand(1, 1, 11, 11)
    # the gradient of x is 1: its energy over 11 x 10 differences, and that of the values
    energy = 11 * 10 + (2 * math.pi) ** 2 * ramp.square().sum()
    offset = (2 * math.pi) ** 2 * 121
    torch.testing.assert_close(difference_h1(ramp + 1, ramp)[0], (offset / energy).sqrt())
