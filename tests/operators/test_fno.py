"""The Fourier neural operator against plain sums over frequencies, and what follows from being a spectral operator."""

import math

import pytest
import torch

from paperworks.measure import count_operations, count_parameters
from paperworks.operators import FNO, SpectralConv
from paperworks.operators import fno as module
from paperworks.operators.fno import fno_burgers, fno_darcy, kept_frequencies


def randomised(net):
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).to(parameter)
    return net


def dense(layer, x):
    """The layer as the authors write it: the whole transform, a corner of it multiplied, everything else zero."""
    sizes, dims = x.shape[2:], tuple(range(2, x.ndim))
    z = torch.fft.rfftn(x, dim=dims)
    out = z.new_zeros(len(x), layer.out_channels, *z.shape[2:])
    weight = torch.view_as_complex(layer.weight)
    for index in torch.cartesian_prod(*(torch.arange(n) for n in weight.shape[:-2])).view(-1, len(sizes)).tolist():
        place, there = [], True
        for axis, (i, m, n) in enumerate(zip(index, layer.n_modes, sizes, strict=True)):
            k = i if i < m else i - 2 * m
            last = axis == len(sizes) - 1
            there &= k <= n // 2 if last else -(n // 2) <= k < (n + 1) // 2
            place.append(k)
        if there:
            at = (slice(None), slice(None), *place)
            out[at] = z[at] @ weight[tuple(index)]
    return torch.fft.irfftn(out, s=sizes, dim=dims)


@pytest.mark.parametrize("narrow", [32, 0])
@pytest.mark.parametrize(
    ("modes", "sizes"),
    [((5,), (16,)), ((5,), (9,)), ((5,), (8,)), ((3, 4), (11, 12)), ((4, 5), (8, 8)), ((9, 3), (7, 6)),
     ((2, 3, 2), (5, 6, 7))],
)  # fmt: skip
def test_layer_equals_the_dense_transform(modes, sizes, narrow, monkeypatch):
    monkeypatch.setattr(module, "NARROW", narrow)
    layer = randomised(SpectralConv(2, 3, modes).double())
    x = torch.randn(4, 2, *sizes).double()
    torch.testing.assert_close(layer(x), dense(layer, x), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("narrow", [32, 0])
def test_gradients_equal_those_of_the_dense_transform(narrow, monkeypatch):
    monkeypatch.setattr(module, "NARROW", narrow)
    layer = randomised(SpectralConv(2, 3, (3, 4)).double())
    x = torch.randn(2, 2, 10, 9).double().requires_grad_()
    w = torch.randn(2, 3, 10, 9).double()
    ours = torch.autograd.grad((layer(x) * w).sum(), [x, layer.weight])
    theirs = torch.autograd.grad((dense(layer, x) * w).sum(), [x, layer.weight])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sizes", [(12, 15), (16, 9)])
def test_network_without_positions_commutes_with_shifts(sizes):
    net = randomised(FNO(1, 2, 4, (3, 3), 2, 8, positions=False).double())
    u = torch.randn(2, 1, *sizes).double()
    torch.testing.assert_close(net(u.roll((2, 5), (2, 3))), net(u).roll((2, 5), (2, 3)), rtol=1e-9, atol=1e-9)


def test_spectral_layer_on_band_limited_input_does_not_see_the_resolution():
    layer = randomised(SpectralConv(1, 2, (4, 4)).double())

    def field(n):
        x = torch.arange(n, dtype=torch.float64) * 2 * math.pi / n
        return (torch.sin(2 * x)[:, None] * torch.cos(3 * x) + 0.5 + torch.cos(x[:, None] + x))[None, None]

    coarse = layer(field(16))
    for factor in (2, 3, 8):
        torch.testing.assert_close(layer(field(16 * factor))[..., ::factor, ::factor], coarse, rtol=1e-9, atol=1e-10)


def test_frequencies_beyond_the_kept_ones_are_removed():
    layer = randomised(SpectralConv(1, 1, (3, 3)))
    x = torch.arange(32) * 2 * math.pi / 32
    assert layer(torch.cos(5 * x).expand(1, 1, 32, 32)).abs().max() < 1e-5
    assert layer(torch.cos(2 * x).expand(1, 1, 32, 32)).abs().max() > 1e-2


def test_kept_frequencies():
    assert kept_frequencies(16, 3, real=True).tolist() == [0, 1, 2]
    assert kept_frequencies(16, 3, real=False).tolist() == [0, 1, 2, -3, -2, -1]
    assert kept_frequencies(5, 9, real=False).tolist() == [0, 1, 2, -2, -1]
    assert kept_frequencies(4, 9, real=False).tolist() == [0, 1, -2, -1]


def official(state_of, u, layers, modes, pad):
    """The authors' forward pass in two dimensions, from their state dict."""
    state, gelu = state_of, torch.nn.functional.gelu
    n = u.shape[-1]
    line = torch.linspace(0, 1, n)
    grid = torch.stack([line[:, None].expand(n, n), line.expand(n, n)], -1).expand(len(u), n, n, 2)
    x = torch.cat([u.permute(0, 2, 3, 1), grid], -1) @ state["fc0.weight"].T + state["fc0.bias"]
    x = torch.nn.functional.pad(x.permute(0, 3, 1, 2), [0, pad, 0, pad])
    for i in range(layers):
        z = torch.fft.rfft2(x)
        out = torch.zeros_like(z)
        for name, rows in (("weights1", slice(0, modes)), ("weights2", slice(-modes, None))):
            corner = state[f"conv{i}.{name}"]
            out[:, :, rows, :modes] = torch.einsum("bixy,ioxy->boxy", z[:, :, rows, :modes], corner)
        skip = torch.einsum("oi,bixy->boxy", state[f"w{i}.weight"][:, :, 0, 0], x) + state[f"w{i}.bias"][:, None, None]
        x = torch.fft.irfft2(out, s=x.shape[2:]) + skip
        x = gelu(x) if i < layers - 1 else x
    x = x[..., :n, :n].permute(0, 2, 3, 1)
    return (gelu(x @ state["fc1.weight"].T + state["fc1.bias"]) @ state["fc2.weight"].T + state["fc2.bias"])[..., 0]


def test_official_names_and_forward_pass():
    generator = torch.Generator().manual_seed(1)

    def draw(*shape, dtype=torch.float32):
        return 0.2 * torch.randn(*shape, generator=generator, dtype=dtype)

    state = {"fc0.weight": draw(4, 3), "fc0.bias": draw(4), "fc1.weight": draw(7, 4), "fc1.bias": draw(7)}
    state |= {"fc2.weight": draw(1, 7), "fc2.bias": draw(1)}
    for i in range(2):
        state |= {f"w{i}.weight": draw(4, 4, 1, 1), f"w{i}.bias": draw(4)}
        state |= {f"conv{i}.weights{c}": draw(4, 4, 3, 3, dtype=torch.complex64) for c in (1, 2)}
    net = FNO(1, 1, 4, (3, 3), 2, 7, padding=0.25).load_official(state)
    u = torch.randn(2, 1, 12, 12)
    torch.testing.assert_close(net(u)[:, 0], official(state, u, 2, 3, 3), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="not the weights"):
        net.load_official({**state, "extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="not the weights"):
        net.load_official({name: tensor for name, tensor in state.items() if name != "w1.bias"})


def test_corners_of_three_dimensions_in_the_authors_order():
    corners = [torch.full((1, 1, 1, 1, 1), c + 0j) for c in range(4)]  # theirs: ++, -+, +-, --
    weight = module._official_spectral(corners)[..., 0, 0, 0]
    assert weight[:, :, 0].tolist() == [[0, 2], [1, 3]]


@pytest.mark.parametrize("build", [fno_burgers, fno_darcy])
def test_published_sizes(build):
    with torch.device("meta"):
        assert count_parameters(build()) == build.parameters


def test_transforms_are_counted():
    layer = SpectralConv(3, 3, (4, 4))
    x = torch.randn(2, 3, 16, 16)
    counted = count_operations(lambda: layer(x), backward=False)
    assert "Fourier transforms" in counted.counter
    real = 2 * (2 * 3 * 16 * 16 * 8) * 2  # both transforms of the last axis
    complex_ = 8 * (2 * 3 * 16 * 8 * 4) * 2 + 8 * (2 * 3 * 3 * 8 * 4)  # the other axis, and the matrices
    assert counted == real + complex_


def test_bad_arguments_are_refused_in_words():
    with pytest.raises(ValueError, match="n_modes"):
        FNO(n_modes=(0, 3))
    with pytest.raises(ValueError, match="1 to 3 axes"):
        FNO(n_modes=(2, 2, 2, 2))
    with pytest.raises(ValueError, match=r"u: expected shape \(batch, 1, n0\), given"):
        FNO(n_modes=(4,))(torch.randn(2, 1, 8, 8))
