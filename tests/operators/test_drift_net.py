import math

import pytest
import torch
import torch.nn.functional as F

from paperworks.measure import count_operations, count_parameters
from paperworks.operators import DRIFTNet, SpectralMixer2d
from paperworks.operators.drift_net import (
    ConditionalLayerNorm,
    FrequencyWeightedLoss,
    GateDistillation,
    PatchMerging,
    PatchUnmerging,
    RelativeLpLoss,
    WindowAttention,
    drift_base,
    drift_small,
    drift_tiny,
    fourier_resample,
    radial_spectrum,
    scot_tiny,
)
from paperworks.operators.drift_net.losses import frequency_weights
from paperworks.operators.drift_net.patches import padded
from paperworks.operators.drift_net.spectral_mixer import (
    CUTOFF,
    DENSE,
    band_weights,
    low_block,
    radial_bands,
    row_order,
)

SMALL = dict(image_size=16, patch_size=2, embed_dim=8, depths=(2, 1), skip_blocks=(1, 0), num_heads=(2, 4),
             window_size=4, gate_hidden=8)  # fmt: skip


def only_spectral(mixer):
    """The mixer without its convolution and its linear map."""
    for part in (mixer.local.weight, mixer.linear.weight, mixer.linear.bias):
        torch.nn.init.zeros_(part)
    return mixer.double()


def identity_mixer(dim, size, alpha, **settings):
    """W = 1 and a constant gate."""
    mixer = only_spectral(SpectralMixer2d(dim, size, **settings))
    with torch.no_grad():
        mixer.weight.copy_(torch.stack([torch.eye(dim), torch.zeros(dim, dim)], -1))
        mixer.gate.out.weight.zero_()
        mixer.gate.out.bias.fill_(math.log(alpha / (1 - alpha)) if alpha < 1 else 100.0)
    return mixer


def random_mixer(dim, size, **settings):
    torch.manual_seed(3)
    mixer = SpectralMixer2d(dim, size, init_std=0.5, **settings)
    torch.nn.init.normal_(mixer.gate.hidden.weight, std=2)
    torch.nn.init.normal_(mixer.gate.out.weight, std=2)
    return only_spectral(mixer)


def slow_mixer(mixer, x):
    """The module's formula by plain complex FFTs, channels first, one band after another."""
    size, (rows, columns) = mixer.size, low_block(mixer.size, mixer.layout, mixer.cutoff)
    f = torch.fft.rfft2(x.permute(0, 3, 1, 2), norm="forward")
    low = torch.zeros(size, size // 2 + 1, dtype=torch.bool)
    low[row_order(size, mixer.layout, mixer.cutoff)[:rows], :columns] = True
    bands, weights = radial_bands(size, mixer.layout), band_weights(size, mixer.layout).double()
    means = torch.stack([(f.abs() * weight).sum((2, 3)) for weight in weights], -1)
    gate = mixer.gate
    alpha = torch.sigmoid(gate.out(F.relu(gate.hidden(means))))[..., bands]
    v = torch.einsum("oi,bihw->bohw", torch.view_as_complex(mixer.weight), f)
    out = torch.fft.irfft2(torch.where(low, alpha * v, (1 - alpha) * f), s=(size, size), norm="forward")
    return out.permute(0, 2, 3, 1)


@pytest.mark.parametrize("layout", ["centered", "reference"])
@pytest.mark.parametrize("size", [2, 4, 6, 8, 32, DENSE + 4])
def test_dense_and_fast_transforms_are_the_plain_formula(layout, size):
    mixer, x = random_mixer(3, size, layout=layout), torch.randn(2, size, size, 3, dtype=torch.float64)
    with torch.no_grad():
        assert (mixer(x) - slow_mixer(mixer, x)).abs().max() < 1e-12
        assert (mixer.field(mixer.spectrum(x)) - x).abs().max() < 1e-12


def test_float32_tables_serve_float32_and_finer_precision_makes_its_own():
    mixer, x = random_mixer(3, 16), torch.randn(1, 16, 16, 3, dtype=torch.float64)
    with torch.no_grad():
        exact = slow_mixer(mixer, x)
        assert (mixer(x) - exact).abs().max() < 1e-12
        assert (mixer.float()(x.float()) - exact).abs().max() < 1e-5


def test_complex_products_count_as_four_real_ones():
    counts = []
    for cutoff in (0.0, CUTOFF):
        mixer, x = SpectralMixer2d(6, 16, cutoff=cutoff), torch.randn(2, 16, 16, 6)
        counts.append(count_operations(lambda: mixer(x).sum(), backward=False))  # noqa: B023
    rows, columns = low_block(16, "centered")
    assert counts[1] - counts[0] == 8 * 2 * rows * columns * 36


def test_half_precision_transforms_in_float32():
    mixer, x = random_mixer(4, 16).float(), torch.randn(1, 16, 16, 4)
    with torch.no_grad():
        exact = mixer(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert (mixer(x).float() - exact).norm() < 0.01 * exact.norm()
        assert (mixer.bfloat16()(x.bfloat16()).float() - exact).norm() < 0.03 * exact.norm()


def test_half_gate_and_identity_matrix_halve_the_field():
    x = torch.randn(2, 16, 16, 4, dtype=torch.float64)
    for layout in ("centered", "reference"):
        with torch.no_grad():
            assert (identity_mixer(4, 16, 0.5, layout=layout)(x) - x / 2).abs().max() < 1e-12


def test_open_gate_over_all_frequencies_is_the_matrix_alone():
    x = torch.randn(2, 8, 8, 4, dtype=torch.float64)
    for layout in ("centered", "reference"):
        mixer = identity_mixer(4, 8, 1.0, layout=layout, cutoff=1.0)
        with torch.no_grad():
            assert (mixer(x) - x).abs().max() < 1e-12


def test_single_mode_stays_that_mode():
    size, alpha = 16, 0.3
    place = torch.arange(size) * 2 * math.pi / size
    mixer = identity_mixer(1, size, alpha)
    for rows, columns, factor in ((-2, 1, alpha), (1, 3, alpha), (7, 2, 1 - alpha), (-3, 6, 1 - alpha)):
        x = (rows * place[:, None] + columns * place + 0.3).cos().double()[None, :, :, None]
        with torch.no_grad():
            assert (mixer(x) - factor * x).abs().max() < 1e-6  # the phases were made in float32


def test_low_blocks_are_those_of_the_authors_and_symmetric_ones():
    assert [low_block(n, "reference") for n in (32, 16, 8, 4)] == [(17, 9), (8, 5), (4, 2), (2, 1)]
    assert low_block(32, "centered") == (17, 9)
    order = row_order(32, "centered")
    assert sorted(order.tolist()) == list(range(32))
    assert sorted(min(i, 32 - i) for i in order[:17].tolist()) == [0, *sorted([*range(1, 9)] * 2)]


def test_bands_partition_the_spectrum():
    def counts(layout):
        return radial_bands(32, layout).flatten().bincount(minlength=6).tolist()

    assert counts("reference") == [28, 70, 115, 154, 138, 39]
    assert counts("centered") == [26, 70, 116, 162, 131, 39]
    amplitude = torch.rand(32, 17, dtype=torch.float64)
    whole = torch.zeros(32, 32, dtype=torch.float64)  # the same amplitudes on the whole spectrum
    sums, number = torch.zeros(6, dtype=torch.float64), torch.zeros(6)
    for i in range(32):
        for j in range(32):
            a, b = (i, j) if j <= 16 else (-i % 32, 32 - j)
            whole[i, j] = amplitude[a, b]
            di, dj = min(i, 32 - i), min(j, 32 - j)
            band = min(int(6 * math.sqrt((di**2 + dj**2) / 2) / 16 + 1e-9), 5)
            sums[band] += whole[i, j]
            number[band] += 1
    means = (band_weights(32) * amplitude).sum((1, 2))
    assert (means - sums / number).abs().max() < 1e-12
    assert band_weights(4)[-1].sum() == 1
    assert band_weights(2, num_bands=9).sum((1, 2)).tolist().count(0) > 0  # an empty band has no mean but 0


@pytest.mark.parametrize("size", [8, DENSE + 8])
def test_mixer_commutes_with_periodic_shifts_and_centered_with_row_flips(size):
    x = torch.randn(2, size, size, 3, dtype=torch.float64)

    def flipped(x, *dims):
        return torch.roll(torch.flip(x, dims), [1] * len(dims), dims)

    for layout in ("centered", "reference"):
        mixer = random_mixer(3, size, layout=layout)
        with torch.no_grad():
            shifted = mixer(torch.roll(x, (3, -2), (1, 2))) - torch.roll(mixer(x), (3, -2), (1, 2))
            flip = (mixer(flipped(x, 1)) - flipped(mixer(x), 1)).abs().max()
        if layout == "centered":  # one complex matrix, conjugated on mirrored modes: rows may be flipped
            assert flip < 1e-12
        else:
            assert flip > 1e-3
        assert shifted.abs().max() < 1e-12


def test_centered_mixer_with_a_real_matrix_has_all_symmetries_of_the_square():
    mixer, x = random_mixer(3, 16), torch.randn(1, 16, 16, 3, dtype=torch.float64)
    turned = torch.roll(torch.flip(x, (1, 2)), (1, 1), (1, 2))
    with torch.no_grad():
        half_turn = torch.roll(torch.flip(mixer(x), (1, 2)), (1, 1), (1, 2))
        assert (mixer(turned) - half_turn).abs().max() > 1e-3
        mixer.weight[..., 1].zero_()
        half_turn = torch.roll(torch.flip(mixer(x), (1, 2)), (1, 1), (1, 2))
        assert (mixer(turned) - half_turn).abs().max() < 1e-12
        assert (mixer(x.transpose(1, 2)) - mixer(x).transpose(1, 2)).abs().max() < 1e-12


def test_gradient_of_a_zero_field_is_finite():
    mixer, x = SpectralMixer2d(2, 8), torch.zeros(1, 8, 8, 2, requires_grad=True)
    mixer(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in mixer.parameters())


def test_frequency_loss_has_closed_forms():
    torch.manual_seed(0)
    target = torch.randn(64, 2, 16, 16)
    error = 0.1 * torch.randn_like(target)
    weights = frequency_weights(16, 16)
    for norm, factor in (("ortho", 1.0), ("forward", 1 / 256)):
        loss = FrequencyWeightedLoss(norm=norm)(target + error, target)
        assert float(loss) == pytest.approx(0.3 * float(weights.mean()) * 0.01 * factor, rel=0.03)
    place = torch.arange(16) * 2 * math.pi / 16
    mode = (3 * place[:, None] + 2 * place).cos().expand(1, 1, 16, 16)
    alone = FrequencyWeightedLoss(weight=1, norm="forward")(mode, torch.zeros_like(mode))
    assert float(alone) == pytest.approx(float(weights[3, 2]) / 4 / weights.numel(), rel=1e-5)  # amplitude 1/2
    assert FrequencyWeightedLoss()(target, target) == 0


def test_frequency_loss_without_weights_is_the_squared_error():
    error = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    spectrum = torch.fft.rfft2(error.float(), norm="ortho").abs().square()
    spectrum[..., 1:4] *= 2
    assert float(spectrum.sum()) == pytest.approx(float(error.square().sum()), rel=1e-5)
    flat = FrequencyWeightedLoss(alpha=0, weight=1)(error, torch.zeros_like(error))
    plain = torch.fft.rfft2(error.float(), norm="ortho").abs().square().mean()
    assert float(flat) == pytest.approx(float(plain), rel=1e-5)


def test_relative_loss_by_groups():
    target = torch.tensor([2.0, 4.0, -8.0])[None, :, None, None].expand(2, 3, 4, 4)
    guess = target + torch.tensor([1.0, 1.0, 2.0])[:, None, None]
    assert float(RelativeLpLoss(groups=(0, 1, 3))(guess, target)) == pytest.approx((1 / 2 + 1.5 / 6) / 2)
    assert float(RelativeLpLoss()(guess, target)) == pytest.approx(4 / 3)
    assert float(RelativeLpLoss(2, (0, 3))(guess, target)) == pytest.approx(6 / 84)


def test_conditional_norm_is_a_layer_norm_whose_affine_part_is_affine_in_time():
    norm, x = ConditionalLayerNorm(5), torch.randn(2, 3, 4, 5)
    t = torch.tensor([[0.25], [2.0]])
    for linear, (slope, level) in ((norm.weight, (2.0, 0.5)), (norm.bias, (0.0, 0.0))):
        torch.nn.init.constant_(linear.weight, slope)
        torch.nn.init.constant_(linear.bias, level)
    torch.testing.assert_close(norm(x, t), F.layer_norm(x, (5,)) * (2 * t + 0.5)[:, None, None])


def test_resampling_up_and_down_keeps_all_below_nyquist():
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    f = torch.fft.fft2(x)
    f[..., 8, :] = f[..., :, 8] = 0
    x = torch.fft.ifft2(f).real
    assert (fourier_resample(fourier_resample(x, 24), 16) - x).abs().max() < 1e-12
    assert (fourier_resample(x, 32)[..., ::2, ::2] - x).abs().max() < 1e-12
    line = (torch.arange(16) % 2 * 2.0 - 1).expand(16, 16)  # Nyquist alone is halved
    assert (fourier_resample(fourier_resample(line, 24), 16) - line / 2).abs().max() < 1e-6
    with pytest.raises(ValueError, match="even"):
        fourier_resample(torch.zeros(1, 9, 9), 16)


def test_merging_gathers_and_unmerging_spreads_2x2_neighbours():
    merge = PatchMerging(1, time_conditioned=False)
    x = torch.arange(16.0).view(1, 4, 4, 1)
    seen = []
    merge.reduction.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    assert merge(x, None).shape == (1, 2, 2, 2)
    assert seen[0][0, 0, 1].tolist() == [2, 6, 3, 7]  # (0,0), (1,0), (0,1), (1,1)
    spread = PatchUnmerging(2, time_conditioned=False)
    torch.nn.init.eye_(spread.mixup.weight)
    with torch.no_grad():
        spread.upsample.weight.copy_(torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]))
        spread.norm = torch.nn.Module()
        spread.norm.forward = lambda x, time: x
        out = spread(torch.tensor([[[[1.0, 0.0]]]]), None)
    assert out[0, :, :, 0].tolist() == [[1, 2], [3, 4]]


def test_circular_padding_wraps_as_often_as_it_must():
    x = torch.arange(4.0).view(1, 1, 2, 2)
    assert padded(x, 3, "circular")[0, 0, 0].tolist() == [3, 2, 3, 2, 3, 2, 3, 2]


def slow_attention(attention, x):
    """One window over the whole grid, token by token."""
    size, heads, dim = attention.size, attention.num_heads, attention.dim // attention.num_heads
    tokens = x.flatten(1, 2)
    q, k, v = (part(tokens).unflatten(-1, (heads, dim)) for part in (attention.query, attention.key, attention.value))
    out = torch.zeros_like(q)
    for h in range(heads):
        for i in range(size * size):
            scores = []
            for j in range(size * size):
                step = 8 * torch.tensor([i // size - j // size, i % size - j % size]) / max(size - 1, 1)
                offset = (step.sign() * (1 + step.abs()).log2() / 3).to(x.dtype)
                bias = 16 * attention.bias_out(F.relu(attention.bias_hidden(offset))).sigmoid()[h]
                cosine = F.cosine_similarity(q[:, i, h], k[:, j, h], dim=-1)
                scores.append(cosine * attention.logit_scale[h, 0, 0].clamp(max=math.log(100)).exp() + bias)
            weights = torch.stack(scores, -1).softmax(-1)
            out[:, i, h] = torch.einsum("bj,bjd->bd", weights, v[:, :, h])
    return attention.projection(out.flatten(2)).view(x.shape)


def test_window_over_the_grid_is_full_cosine_attention():
    torch.manual_seed(0)
    attention = WindowAttention(4, 3, 2, window=8, shift=4).double()
    with torch.no_grad():
        attention.logit_scale[1] = 9.0  # above the clamp
        x = torch.randn(2, 3, 3, 4, dtype=torch.float64)
        assert attention.shift == 0
        assert (attention(x) - slow_attention(attention, x)).abs().max() < 1e-6


def test_shifted_windows_see_across_the_edge_only_where_periodic():
    torch.manual_seed(0)
    x = torch.randn(1, 8, 8, 4, requires_grad=True)
    for periodic in (False, True):
        attention = WindowAttention(4, 8, 2, window=4, shift=2, periodic=periodic)
        (seen,) = torch.autograd.grad(attention(x)[0, 0, 0].sum(), x)
        reached = seen[0].abs().sum(-1) > 1e-12
        rows = {0, 1, 6, 7} if periodic else {0, 1}
        assert {i for i in range(8) if reached[i].any()} == rows
        rolled = torch.roll(attention(x), (4, 4), (1, 2)) - attention(torch.roll(x, (4, 4), (1, 2)))
        assert (rolled.abs().max() < 1e-5) == periodic


def test_both_mixers_fall_silent_at_time_zero_at_first():
    torch.manual_seed(0)
    for mixer in ("spectral", "window"):
        net = DRIFTNet(1, 1, mixer=mixer, **SMALL)
        a, b = (net(torch.randn(1, 1, 16, 16), torch.zeros(1)) for _ in range(2))
        assert torch.equal(a, b)
        assert not torch.equal(a, net(torch.randn(1, 1, 16, 16), torch.ones(1)))


@pytest.mark.parametrize("settings", [dict(mixer="window"), dict(mixer="window", periodic_windows=True),
                                      dict(mixer="local"), dict(layout="reference"), dict(padding="circular"),
                                      dict(time_conditioned=False), dict(learn_residual=True)])  # fmt: skip
def test_every_variant_runs_and_uses_all_its_parameters(settings):
    torch.manual_seed(0)
    net = DRIFTNet(1, 1, **{**SMALL, **settings})
    for parameter in net.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    time = None if settings.get("time_conditioned") is False else torch.tensor([0.5, 1.0])
    x = torch.randn(2, 1, 16, 16)
    out = net(x, time)
    out.square().sum().backward()
    assert out.shape == x.shape
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    alone = net(x[1:], None if time is None else time[1:])
    torch.testing.assert_close(alone, out[1:], rtol=1e-4, atol=1e-5)


def test_circular_net_without_masks_commutes_with_shifts_of_whole_coarse_tokens():
    torch.manual_seed(0)
    net = DRIFTNet(2, 1, 16, 2, 8, (1, 2), skip_blocks=(1, 0), padding="circular", gate_hidden=8)
    for parameter in net.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    net, x, t = net.double().eval(), torch.randn(1, 2, 16, 16, dtype=torch.float64), torch.ones(1).double()
    with torch.no_grad():
        moved = net(torch.roll(x, (4, 8), (2, 3)), t)
        assert (moved - torch.roll(net(x, t), (4, 8), (2, 3))).abs().max() < 1e-10


def test_other_sizes_are_resampled():
    net, t = DRIFTNet.example().module.eval(), torch.ones(1)
    x = torch.randn(1, 2, 24, 24)
    with torch.no_grad():
        inside = net(fourier_resample(x, 16), t)
        torch.testing.assert_close(net(x, t), fourier_resample(inside, 24))


def test_drop_path_drops_whole_rows_and_keeps_the_mean():
    torch.manual_seed(0)
    net = DRIFTNet(1, 1, drop_path=0.3, **SMALL)
    rates = [block.drop_path.rate for stage in (*net.encoder, *net.decoder) for block in stage]
    assert rates == pytest.approx([0, 0.06, 0.12, 0.18, 0.24, 0.3])
    drop = net.decoder[1][1].drop_path.train()
    kept = drop(torch.ones(4000, 2))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float(kept.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(kept[:, 0], kept[:, 1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "channels", "expected"),
    [
        (drift_tiny, 4, 17_500_932),
        (drift_tiny, 3, 17_499_220),
        (drift_tiny, 2, 17_497_558),
        (drift_small, 4, 33_354_052),
        (drift_base, 4, 132_462_964),
        (scot_tiny, 3, 20_772_732),
        (scot_tiny, 2, 20_771_070),
    ],
)
def test_published_counts_with_a_complex_parameter_counted_once(build, channels, expected):
    with torch.device("meta"):
        net = build(channels, channels)
    doubled = sum(m.weight.numel() // 2 for m in net.modules() if isinstance(m, SpectralMixer2d))
    assert count_parameters(net) - doubled == expected


def official_names(net):
    """What the authors call our parameters, with what is dead there."""
    state = {}
    for name, tensor in net.state_dict().items():
        part, *rest = name.split(".")
        theirs = {"patch_embed": "embeddings.patch_embeddings.projection", "embed_norm": "embeddings.norm",
                  "recovery": "patch_recovery", "skips": "residual_blocks"}.get(part, part)  # fmt: skip
        if part in ("merging", "unmerging"):
            side = "encoder" if part == "merging" else "decoder"
            theirs = f"{side}.layers.{rest.pop(0)}.{'down' if part == 'merging' else 'up'}sample"
        tail = ".".join(rest)
        if part == "skips":
            for ours, name_there in (("depthwise", "dwconv"), ("wider", "pwconv1"), ("narrower", "pwconv2"),
                                     ("scale", "weight")):  # fmt: skip
                tail = tail.replace(ours, name_there)
        if part in ("encoder", "decoder"):
            stage, block, *tail_parts = rest
            tail = ".".join(tail_parts)
            for ours, name_there in (("mixer.gate.hidden", "attention.band_gate.mlp.0"),
                                     ("mixer.gate.out", "attention.band_gate.mlp.2"),
                                     ("mixer.local", "attention.conv_local"), ("norm1", "attention.norm"),
                                     ("norm2", "layernorm_after"), ("wider", "intermediate.dense"),
                                     ("narrower", "output.dense"), ("mixer", "attention")):  # fmt: skip
                tail = tail.replace(ours, name_there)
            tail = f"layers.{stage}.blocks.{block}.{tail}"
            if tail.endswith("attention.weight"):
                tensor = torch.view_as_complex(tensor)
                state[f"{part}.{tail.replace('weight', 'kx')}"] = torch.tensor(0.25)
        state[f"{theirs}.{tail}"] = tensor
    return state | {"decoder.layers.0.U_true_conv.weight": torch.zeros(8, 1, 1, 1)}


def test_official_weights_are_loaded_strictly():
    torch.manual_seed(0)
    net, empty = (DRIFTNet(1, 1, layout="reference", **SMALL) for _ in range(2))
    state = official_names(net)
    empty.load_official(state)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), empty.parameters(), strict=True))
    with pytest.raises(ValueError, match="not the weights"):
        empty.load_official({**state, "more": torch.zeros(1)})
    state["encoder.layers.0.blocks.0.attention.kx"] = torch.tensor(3.0)
    with pytest.raises(ValueError, match="cutoff"):
        empty.load_official(state)
    with pytest.raises(ValueError, match="reference"):
        DRIFTNet(1, 1, **SMALL).load_official(state)


def test_radial_spectrum_holds_the_energy_of_every_mode():
    place = torch.arange(16) * 2 * math.pi / 16
    field = 3 * (4 * place[:, None] + 3 * place).cos()
    spectrum = radial_spectrum(field)
    assert float(spectrum[5]) == pytest.approx(4.5, rel=1e-5)
    assert float(spectrum.sum()) == pytest.approx(4.5, rel=1e-5)


@pytest.mark.parametrize(("change", "message"), [
    (dict(mixer="fourier"), "one of"), (dict(image_size=18), "image_size"), (dict(skip_blocks=(1,)), "skip_blocks"),
    (dict(depths=(0, 1)), "depths"), (dict(padding="mirror"), "padding"), (dict(layout="diagonal"), "layout"),
    (dict(mixer="window", num_heads=(3, 4)), "divide"), (dict(mixer="window", num_heads=(2,)), "num_heads"),
    (dict(mixer="window", window_size=3), "window"), (dict(cutoff=1.5), "cutoff"),
])  # fmt: skip
def test_impossible_settings_are_refused_in_words(change, message):
    with pytest.raises(ValueError, match=message):
        DRIFTNet(1, 1, **{**SMALL, **change})


def test_missing_time_is_refused_with_what_to_do():
    net = DRIFTNet(1, 1, mixer="window", **SMALL)
    with pytest.raises(ValueError, match="time_conditioned=False"):
        net(torch.randn(1, 1, 16, 16))
    with pytest.raises(ValueError, match=r"time: expected shape \(1\), given \(2,\)"):
        net(torch.randn(1, 1, 16, 16), torch.ones(2))


def test_distillation_draws_the_students_gate_to_the_teachers():
    torch.manual_seed(0)
    net = DRIFTNet(1, 1, **SMALL)
    distil = GateDistillation(net, init_std=1.0)
    x, target, t = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16), torch.ones(2)
    out, gap = distil(net, x, t, target)
    torch.testing.assert_close(out, net(x, t))
    assert gap.item() > 0
    gap.backward()
    gate = net.decoder[1][0].mixer.gate
    assert all(p.grad.abs().sum() > 0 for p in gate.parameters())
    assert not list(distil.parameters())
    for blocks in net.decoder:  # a gate that reads nothing is its own teacher
        for block in blocks:
            torch.nn.init.zeros_(block.mixer.gate.out.weight)
    assert distil(net, x, t, target)[1].item() == 0
    with pytest.raises(ValueError, match="mixer"):
        GateDistillation(DRIFTNet(1, 1, mixer="window", **SMALL))
