"""A user's own network turned into an operator: equal on its grid, refused where it cannot be, one limit elsewhere."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from paperworks.operators.nn_to_no import IntegralNorm, discretization_report, set_quadrature, to_operator
from paperworks.operators.nn_to_no.converted_layers import LocalMaximum, LocalMean, QuadratureMultiheadAttention
from paperworks.operators.quadrature_attention import trapezoid_weights


class OwnUNet(nn.Module):
    """What a user might bring: strides, pooling, norms, transposed convolutions, a skip."""

    def __init__(self, padding_mode="circular"):
        super().__init__()
        same = dict(padding=1, padding_mode=padding_mode)
        self.enter = nn.Sequential(nn.Conv2d(1, 6, 3, **same), nn.GroupNorm(2, 6), nn.GELU())
        self.down = nn.Sequential(nn.Conv2d(6, 8, 3, **same, dilation=1), nn.AvgPool2d(2), nn.GELU())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 4, stride=2, padding=1), nn.GELU(), nn.ConvTranspose2d(8, 8, 2, 2))
        self.up = nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1)
        self.leave = nn.Conv2d(12, 1, 1)

    def forward(self, x):
        first = self.enter(x)
        low = self.down(first)
        low = low + self.deep(low)
        return self.leave(torch.cat([first, self.up(low)], 1))


def plane(n):
    x = torch.arange(n, dtype=torch.float64) / n
    return (torch.sin(2 * math.pi * x)[:, None] * torch.cos(4 * math.pi * x) + torch.sin(2 * math.pi * x))[None, None]


@pytest.mark.parametrize("conv", ["integral", "differential", "spectral", "interpolation"])
def test_on_its_own_grid_nothing_changes_and_the_users_network_is_not_touched(conv):
    torch.manual_seed(0)
    net = OwnUNet().double()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    kinds = [type(part) for part in net.modules()]
    operator, report = to_operator(net, plane(16), conv=conv)
    torch.testing.assert_close(operator(plane(16)), net(plane(16)))
    assert operator(plane(32)).shape == (1, 1, 32, 32)
    assert not report.refused, str(report)
    assert [type(part) for part in net.modules()] == kinds
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with torch.no_grad():
        next(operator.parameters()).add_(1)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("conv", ["integral", "spectral", "differential"])
def test_the_operator_refines_and_the_pixel_network_does_not(conv):
    torch.manual_seed(0)
    first = nn.Conv2d(1, 6, 5, padding=2, padding_mode="circular")
    net = nn.Sequential(first, nn.GELU(), nn.Conv2d(6, 1, 3, padding=1, padding_mode="circular")).double()
    operator = to_operator(net, plane(16), conv=conv).module
    found = discretization_report(operator, plane, [16, 32, 64, 128])
    pixel = discretization_report(net, plane, [16, 32, 64, 128])
    assert found.differences[2] < 0.6 * found.differences[1]
    assert found.differences[2] < 0.3 * pixel.differences[2] or conv == "differential"
    assert found.order > 0.8


def test_a_whole_unet_refines():
    torch.manual_seed(0)
    net = OwnUNet().double()
    operator = to_operator(net, plane(16)).module

    def inside(module, n):
        with torch.no_grad():
            y, z = module(plane(n)), module(plane(64))[..., :: 64 // n, :: 64 // n]
        return float((y - z)[..., n // 4 : -n // 4, n // 4 : -n // 4].norm() / z.norm())

    assert inside(operator, 32) < 0.6 * inside(operator, 16)
    assert inside(operator, 32) < 0.3 * inside(net, 32)


def test_pooling_over_physical_windows():
    x = torch.randn(2, 3, 12)
    for given in (nn.AvgPool1d(2), nn.AvgPool1d(4, 2, 1), nn.MaxPool1d(3, 2, 1), nn.MaxPool1d(2)):
        operator, report = to_operator(nn.Sequential(given), torch.zeros(1, 3, 12))
        torch.testing.assert_close(operator(x), given(x))
        assert isinstance(operator[0], LocalMean | LocalMaximum)
        assert report.replaced
    wide = to_operator(nn.Sequential(nn.MaxPool1d(3, 1, 1)), torch.zeros(1, 1, 12)).module
    x = torch.zeros(1, 1, 24)
    x[..., 12] = 1
    assert wide(x).sum() == 5  # two fine cells to either side make one coarse one


def test_attention_is_that_of_torch_without_weights_and_an_integral_with_them():
    torch.manual_seed(0)

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift = nn.Linear(1, 8)
            self.encoder = nn.TransformerEncoder(
                nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2, enable_nested_tensor=False
            )

        def forward(self, x):
            return self.encoder(self.lift(x.transpose(1, 2))).transpose(1, 2)

    net = Own().double().eval()
    x = torch.linspace(0, 1, 40, dtype=torch.float64)
    f = torch.sin(4 * x)[None, None]
    operator, report = to_operator(net, f)
    assert not report.refused
    assert sum(isinstance(part, QuadratureMultiheadAttention) for part in operator.modules()) == 2
    torch.testing.assert_close(operator(f), net(f))
    fine = torch.linspace(0, 1, 2_001, dtype=torch.float64)
    skewed = fine[::5] ** 2
    with torch.no_grad():
        limit = set_quadrature(operator, trapezoid_weights(fine))(torch.sin(4 * fine)[None, None])[..., -1]
        given = torch.sin(4 * skewed)[None, None]
        weighted = set_quadrature(operator, trapezoid_weights(skewed))(given)[..., -1]
        plain = set_quadrature(operator, None)(given)[..., -1]
    assert (weighted - limit).abs().max() < 1e-3
    assert (plain - limit).abs().max() > 10 * (weighted - limit).abs().max()


@pytest.mark.parametrize("batch_first", [True, False])
def test_multihead_attention_in_both_layouts(batch_first):
    given = nn.MultiheadAttention(6, 2, batch_first=batch_first, kdim=4, vdim=3).eval()
    ours = QuadratureMultiheadAttention(given).eval()
    q, k, v = torch.randn(2, 5, 6), torch.randn(2, 7, 4), torch.randn(2, 7, 3)
    if not batch_first:
        q, k, v = (t.transpose(0, 1) for t in (q, k, v))
    torch.testing.assert_close(ours(q, k, v)[0], given(q, k, v)[0])
    hidden = torch.zeros(2, 7, dtype=torch.bool)
    hidden[0, 3:] = True
    torch.testing.assert_close(ours(q, k, v, hidden)[0], given(q, k, v, hidden)[0])
    with pytest.raises(ValueError, match="no meaning on another grid"):
        ours(q, k, v, attn_mask=torch.zeros(5, 7))


def test_norms_take_quadrature_weights():
    net = nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm1d(4, affine=True))
    operator, _ = to_operator(net, torch.zeros(1, 4, 10))
    assert all(isinstance(part, IntegralNorm) for part in operator)
    x = torch.randn(2, 4, 10)
    torch.testing.assert_close(operator(x), net(x))
    set_quadrature(operator, torch.cat([torch.ones(5), torch.zeros(5)]))
    torch.testing.assert_close(operator(x)[..., :5], net(x[..., :5]))


class Table(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 16, 3))

    def forward(self, x):
        return x + self.pos_embed.transpose(1, 2)


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(16, 16)

    def forward(self, x):
        return self.map(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 3, 3, padding=1)

    def forward(self, x):
        return self.conv(x) + F.interpolate(self.conv(x[..., ::2]), scale_factor=2)


class OwnConv(nn.Conv1d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("net", "why"),
    [
        (nn.Sequential(nn.LayerNorm([3, 16])), "an affine map for each point"),
        (nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), "mixes points with channels"),
        (Table(), "table over one grid's points"),
        (Dense(), "does not run on the grid"),
        (Twice(), "several grids"),
        (nn.Sequential(nn.Conv1d(3, 3, 3)), "keep the domain"),
        (nn.Sequential(nn.Conv1d(3, 3, 3, stride=3, padding=1)), "does not divide the grid"),
        (nn.Sequential(nn.Upsample(size=32)), "to one size"),
        (nn.Sequential(OwnConv(3, 3, 3, padding=1)), "a forward pass of its own"),
        (nn.Sequential(weight_norm(nn.Conv1d(3, 3, 3, padding=1))), "parametris"),
        (nn.Sequential(nn.ConvTranspose1d(3, 3, 4, 2, 2)), "not `stride` times as fine"),
        (nn.Sequential(nn.MaxPool1d(3, 1, 1, dilation=1, ceil_mode=True)), "belong to one grid"),
        (nn.Sequential(nn.AvgPool1d(3, 1, 1, count_include_pad=False)), "not an integral"),
    ],
)
def test_what_ties_a_network_to_one_grid_is_refused_with_the_reason(net, why):
    example = torch.randn(2, 3, 16)
    operator, report = to_operator(net, example)
    assert any(why in change.why for change in report.refused), str(report)
    torch.testing.assert_close(operator(example), net(example))
    with pytest.raises(ValueError, match="cannot become an operator"):
        to_operator(net, example, strict=True)


def test_pixel_shuffle_is_refused():
    _, report = to_operator(nn.Sequential(nn.Conv2d(1, 4, 2, 2), nn.PixelShuffle(2)), torch.zeros(1, 1, 8, 8))
    assert [change.layer for change in report.refused] == ["PixelShuffle"]


def test_a_network_without_spatial_layers_is_kept():
    net = nn.Sequential(nn.Conv1d(2, 5, 1), nn.GELU(), nn.BatchNorm1d(5), nn.Dropout(), nn.Conv1d(5, 1, 1)).eval()
    operator, report = to_operator(net, torch.zeros(1, 2, 8))
    assert [type(a) is type(b) for a, b in zip(operator, net, strict=True)] == [True] * 5
    assert {change.fate for change in report.changes} == {"kept"}
    x = torch.randn(2, 2, 11)
    assert torch.equal(operator(x), net(x))


def test_domains_of_other_lengths_and_unequal_axes():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"))
    x = torch.randn(1, 1, 8, 20)
    for length in (1.0, 6.28, (2.0, 5.0)):
        operator = to_operator(net, x, domain_length=length).module
        torch.testing.assert_close(operator(x), net(x))
        assert operator(torch.randn(1, 1, 16, 60)).shape == (1, 2, 16, 60)
    with pytest.raises(ValueError, match="domain_length: expected one number or 2"):
        to_operator(net, x, domain_length=(1.0,))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate"])
def test_other_paddings(padding_mode):
    net = nn.Sequential(nn.Conv1d(2, 3, 5, padding=2, dilation=1, padding_mode=padding_mode))
    x = torch.randn(2, 2, 12)
    operator = to_operator(net, x).module
    torch.testing.assert_close(operator(x), net(x))
    assert operator(torch.randn(1, 2, 30)).shape == (1, 3, 30)


def test_dilation_and_same_padding():
    for options in (dict(padding=4, dilation=2), dict(padding="same"), dict(padding="same", dilation=2)):
        net = nn.Sequential(nn.Conv1d(2, 3, 5, padding_mode="circular", **options))
        x = torch.randn(2, 2, 12)
        torch.testing.assert_close(to_operator(net, x).module(x), net(x))


def test_modes_and_wrong_calls():
    net = nn.Sequential(nn.Conv1d(1, 1, 3, padding=1), nn.Dropout())
    net.train()
    net[1].eval()
    operator, report = to_operator(net, torch.zeros(1, 1, 8))
    assert (operator.training, operator[0].training, operator[1].training) == (True, True, False)
    assert "replaced" in str(report)
    assert net.training
    with pytest.raises(ValueError, match="integral, differential, spectral, interpolation"):
        to_operator(net, torch.zeros(1, 1, 8), conv="hat")
    with pytest.raises(ValueError, match=r"batch, channels, \*grid"):
        to_operator(net, torch.zeros(8, 3))


def test_the_report_on_refinement_measures_errors_and_wants_shared_points():
    def sample(n):
        return plane(n), plane(n)

    found = discretization_report(nn.Identity(), sample, [16, 32, 64])
    assert found.errors == [0.0, 0.0, 0.0]
    assert found.differences == [0.0, 0.0]
    assert math.isnan(found.order)
    shifted = discretization_report(nn.Identity(), plane, [12, 32], restrict="fourier")
    assert shifted.differences[0] < 1e-12
    with pytest.raises(ValueError, match="does not divide"):
        discretization_report(nn.Identity(), plane, [12, 32])
