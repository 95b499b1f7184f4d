"""NOBLE: identities of the branch, initialisation, learning rates, and networks not written here."""

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.nn import functional as F

from paperworks.layers import CosActivation, CosNet, NobleGPT, NobleLinear, add_noble, lr_multiplier_groups
from paperworks.layers.noble import NONLINEARITIES, ProjectedAttention, branch_shares, noble_layers, noble_overhead
from paperworks.measure import count_parameters


def layer(n_in=10, n_out=7, rank=4, **options):
    """A layer in float64 whose weights are all drawn anew."""
    torch.manual_seed(0)
    made = NobleLinear(n_in, n_out, rank=rank, **options).double()
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.5)
    return made


def test_formula_written_out():
    made, x = layer(), torch.randn(3, 5, 10, dtype=torch.float64)
    first, second = made.nonlinearity.activations
    h = x @ made.down.weight.T + made.down.bias
    h = torch.cos(first.frequency * h + first.phase) @ made.nonlinearity.mixes[0].weight.T
    h = torch.cos(second.frequency * (h + made.nonlinearity.mixes[0].bias) + second.phase)
    torch.testing.assert_close(made(x), x @ made.weight.T + made.bias + h @ made.up.weight.T)
    torch.testing.assert_close(made(x), made.linear(x) + made.branch(x))
    torch.testing.assert_close(made(x[0, 0]), made(x)[0, 0])
    assert made(x[:0]).shape == (0, 5, 7)


def test_silent_up_projection_is_a_linear_layer_to_the_bit():
    made, x = NobleLinear(10, 7, rank=4, up_init=0), torch.randn(6, 10)
    assert torch.equal(made(x), F.linear(x, made.weight, made.bias))


def test_zero_frequencies_leave_a_constant():
    made, x = layer(), torch.randn(6, 10, dtype=torch.float64)
    for cosine in made.nonlinearity.activations:
        cosine.frequency.data.zero_()
    constant = made.nonlinearity.activations[1].phase.cos() @ made.up.weight.T
    torch.testing.assert_close(made(x) - made.linear(x), constant.expand(6, 7))


def test_identity_branch_merges_and_cosnet_does_not():
    x = torch.randn(6, 10, dtype=torch.float64)
    made = layer(nonlinearity="identity")
    assert made.down.bias is None
    torch.testing.assert_close(made(x), F.linear(x, made.weight + made.up.weight @ made.down.weight, made.bias))
    for name, bends in (("identity", False), ("cosnet", True)):
        made = layer(nonlinearity=name)
        bend = (made(x) + made(-x) - 2 * made(0 * x)).abs().max()
        assert bend > 0.01 if bends else bend < 1e-12


def test_branch_is_periodic_in_each_hidden_dimension():
    net, h = layer().nonlinearity, torch.randn(6, 4, dtype=torch.float64)
    torch.testing.assert_close(net(h + 2 * math.pi / net.activations[0].frequency), net(h))


def test_branch_is_bounded_by_the_up_projection():
    made = layer()
    x = 1e3 * torch.randn(200, 10, dtype=torch.float64)
    assert (made.branch(x).abs() <= made.up.weight.abs().sum(1) + 1e-12).all()


def test_initial_deviations():
    torch.manual_seed(0)
    made = NobleLinear(1024, 1024, rank=256)
    for tensor, expected in (
        (made.weight, 0.5 / 32), (made.down.weight, 1 / 32), (made.up.weight, 0.01 / 16),
        (made.nonlinearity.mixes[0].weight, 0.5 / 16),
    ):  # fmt: skip
        assert float(tensor.detach().std()) == pytest.approx(expected, rel=0.03)
    assert made.bias.abs().max() == made.down.bias.abs().max() == 0
    assert made.nonlinearity.mixes[0].bias.abs().max() <= 1 / 16
    wide = CosActivation(4096)
    assert 0.8 <= float(wide.frequency.detach().min()) < 0.81
    assert 1.19 < float(wide.frequency.detach().max()) <= 1.2
    assert float(wide.phase.detach().std()) == pytest.approx(0.1, rel=0.05)


def test_branch_begins_nearly_silent():
    torch.manual_seed(0)
    made, x = NobleLinear(512, 512, rank=64), torch.randn(256, 512)
    branch = made.branch(x).detach()
    rms = float(branch.square().mean().sqrt())
    assert 0.008 < rms < 0.011
    assert float((branch - branch.mean(0)).square().mean().sqrt()) < 0.1 * rms  # most of it is a constant
    assert float(made.linear(x).detach().std()) == pytest.approx(0.5, rel=0.03)


def test_frequency_initialisers():
    assert torch.equal(CosActivation(5, freq_init="constant").frequency, torch.ones(5))
    spaced = CosActivation(5, freq_init="linear").frequency
    torch.testing.assert_close(spaced, torch.linspace(0.8, 1.2, 5))
    ratios = CosActivation(5, freq_init="log").frequency
    torch.testing.assert_close(ratios[1:] / ratios[:-1], torch.full((4,), 1.5**0.25))
    drawn = CosActivation(4096, freq_init="log_uniform").frequency.log()
    assert float(drawn.mean()) == pytest.approx(math.log(0.8 * 1.2) / 2, abs=0.01)
    frozen = CosActivation(5, freq_trainable=False, phase_init="uniform")
    assert [name for name, _ in frozen.named_parameters()] == ["phase"]
    assert 0 <= frozen.phase.min() <= frozen.phase.max() < 2 * math.pi
    for wrong in ({"freq_init": "other"}, {"phase_init": "other"}, {"freq_range": (0.0, 1.0)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CosActivation(5, **wrong)


def test_parameters_of_the_branch():
    for n_in, n_out, r, expected in ((768, 3072, 64, 250_240), (512, 512, 32, 33_984), (100, 37, 8, 1_208)):
        with torch.device("meta"):
            made = NobleLinear(n_in, n_out, rank=r)
        assert noble_overhead(nn.Sequential(made)).branch_parameters == expected


BRANCH_512 = {
    "identity": 32_768,
    **dict.fromkeys(("tanh", "leaky_relu", "gelu", "silu", "neg_gelu", "neg_silu", "flip_gelu", "flip_silu"), 32_800),
    **dict.fromkeys(("tanh_net", "leaky_relu_net", "gelu_net", "silu_net"), 33_856),
    **dict.fromkeys(("cos", "gelu_scale", "leaky_relu_scale", "silu_scale", "tanh_scale"), 32_864),
    "silu_shift": 32_832,
    "double_cosnet": 35_104,
    "cosnet": 33_984,
    "swiglu": 32_800 + 32 * 513,
    "swiglu_net": 32_800 + 32 * 513 + 64 * 33,
}


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_every_nonlinearity_has_its_size_and_gradients(name):
    with torch.device("meta"):
        made = NobleLinear(512, 512, rank=32, nonlinearity=name)
    assert count_parameters(made) - 512 * 513 == BRANCH_512[name]
    made = layer(nonlinearity=name)
    x = torch.randn(6, 10, dtype=torch.float64)
    made(x).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in made.parameters())
    made.reset_branch()


def test_simple_nonlinearities_are_what_their_names_say():
    x = torch.randn(6, 4, dtype=torch.float64)

    def act(name, h=x):
        return layer(nonlinearity=name).nonlinearity(h)

    assert torch.equal(act("gelu"), F.gelu(x))
    assert torch.equal(act("leaky_relu"), F.leaky_relu(x, 0.01))
    assert torch.equal(act("neg_silu"), -F.silu(x))
    assert torch.equal(act("flip_silu"), -F.silu(-x))
    two = torch.randn(6, 8, dtype=torch.float64)
    assert torch.equal(act("swiglu", two), F.silu(two[:, :4]) * two[:, 4:])
    scaled = layer(nonlinearity="tanh_scale").nonlinearity
    torch.testing.assert_close(scaled(x), x.tanh() * scaled.scale + scaled.shift)
    net = layer(nonlinearity="gelu_net", options={"residual_matrix": True, "residual_end": True}).nonlinearity
    torch.testing.assert_close(net(x), F.gelu(net.mixes[0](F.gelu(x)) + x) + x)
    double = layer(nonlinearity="double_cosnet").nonlinearity
    assert len(double.mixes) == 2
    one = NobleLinear(600, 600, rank=300, nonlinearity="double_cosnet").nonlinearity.mixes[0].weight
    assert float(one.std()) == pytest.approx(1 / 300**0.5, rel=0.02)


def test_options_are_checked():
    for options, told in (
        ({"nonlinearity": "other"}, "one of cosnet"),
        ({"options": {"colour": 1}}, "does not take colour"),
        ({"nonlinearity": "gelu", "options": {"colour": 1}}, "has none"),
        ({"rank": 0}, "rank: at least 1"),
        ({"options": {"mix_init": "other"}}, "xavier"),
        ({"nonlinearity": "swiglu_net", "options": {"residual_end": True}}, "gated"),
    ):
        with pytest.raises(ValueError, match=told):
            NobleLinear(8, 8, **{"rank": 2, **options})
    with pytest.raises(ValueError, match=r"x: expected shape \(..., 8\), given \(3, 7\)"):
        NobleLinear(8, 8, rank=2)(torch.randn(3, 7))
    xavier = CosNet(8, mix_init="xavier", mix_bias=False).mixes[0]
    assert xavier.bias is None
    assert xavier.weight.abs().max() <= (6 / 16) ** 0.5
    assert NobleLinear(8, 8, rank=2, down_bias=False).down.bias is None


@pytest.mark.parametrize("name", ["cosnet", "double_cosnet", "silu_scale"])
def test_gradients_by_finite_differences(name):
    made = layer(5, 4, 3, nonlinearity=name)
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    named = dict(made.named_parameters())

    def output(x, *values):
        return torch.func.functional_call(made, dict(zip(named, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *named.values()))


def test_cosines_of_large_arguments_survive_bfloat16():
    cosine = CosActivation(16)
    h = (200 * torch.randn(64, 16)).bfloat16()
    exact = torch.cos(cosine.frequency.double() * h.double() + cosine.phase.double())
    cosine_16 = copy.deepcopy(cosine)
    assert (cosine_16(h).double() - exact).abs().max() < 0.01
    assert cosine_16(h).dtype == torch.bfloat16


# Learning rates


@pytest.mark.parametrize(
    ("n_in", "n_out", "r", "up", "mix"),
    [(768, 3072, 64, 2.702, 3.464), (512, 512, 32, 3.031, 4.0), (100, 37, 8, 1.845, 2.151)],
)
def test_multipliers(n_in, n_out, r, up, mix):
    with torch.device("meta"):
        made, two = NobleLinear(n_in, n_out, rank=r), NobleLinear(n_in, n_out, rank=r, onesided=False)
    rates = {id(p): g["lr"] for g in lr_multiplier_groups(made, 1.0) for p in g["params"]}
    named = {name: rates[id(p)] for name, p in made.named_parameters()}
    assert named.pop("up.weight") == pytest.approx(up, abs=5e-4)
    assert named.pop("nonlinearity.mixes.0.weight") == pytest.approx(mix, abs=5e-4)
    for place in range(2):
        assert named.pop(f"nonlinearity.activations.{place}.frequency") == 2
        assert named.pop(f"nonlinearity.activations.{place}.phase") == 4
    assert set(named.values()) == {1.0}
    assert two.lr_multipliers()["down.weight"] == two.lr_multipliers()["up.weight"] == pytest.approx(up**0.5, abs=5e-4)


def test_groups_hold_every_parameter_once_and_decay_matrices_alone():
    model = NobleGPT(11, 8, 16, 2, 2, rank=4)
    model.head.bias.requires_grad_(False)
    groups = lr_multiplier_groups(model, 1e-3, 0.1)
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert all((g["weight_decay"] > 0) == (p.ndim > 1) for g in groups for p in g["params"])
    assert len(groups) == 6  # 1 (decayed or not), W_up, M, frequencies, phases
    torch.optim.AdamW(groups)


def test_authors_helper_leaves_the_mixing_matrix_alone_and_copies_keep_their_rates():
    model = copy.deepcopy(NobleLinear(64, 64, rank=4))
    ids = {id(p): name for name, p in model.named_parameters()}

    def rates(**options):
        return {ids[id(p)]: g["lr_mult"] for g in lr_multiplier_groups(model, 1.0, **options) for p in g["params"]}

    ours, theirs = rates(), rates(mix_multiplied=False)
    assert ours.pop("nonlinearity.mixes.0.weight") == 4
    assert theirs.pop("nonlinearity.mixes.0.weight") == 1
    assert ours == theirs
    assert set(rates(scale=0).values()) == {1.0}


def test_schedules_keep_the_ratios():
    groups = lr_multiplier_groups(NobleLinear(64, 64, rank=4), 0.01)
    optimizer = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    for _ in range(5):
        optimizer.step()
        schedule.step()
    assert [g["lr"] / g["lr_mult"] for g in optimizer.param_groups] == pytest.approx([0.005] * len(groups))


# Networks of public packages


def gpt2():
    import transformers  # takes a second to load

    config = transformers.GPT2Config(
        vocab_size=50, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0
    )
    return transformers.GPT2LMHeadModel(config), lambda net: net(torch.arange(24).reshape(2, 12)).logits


def vit():
    import transformers  # takes a second to load

    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=8, patch_size=4,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return transformers.ViTForImageClassification(config), lambda net: net(x).logits


def encoder():
    made = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), 2)
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(1))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2, [False] * 5])
    return made, lambda net: net(x, src_key_padding_mask=padding)[:, :3]


NETWORKS = {"gpt2": (gpt2, 4), "vit": (vit, 6), "encoder": (encoder, 6)}
each_network = pytest.mark.parametrize("name", NETWORKS)


def network(name):
    torch.manual_seed(0)
    model, output = NETWORKS[name][0]()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model, output, NETWORKS[name][1]


@each_network
def test_silent_branches_leave_the_output_of_any_network(name):
    model, output, per_block = network(name)
    before = output(model)
    report = add_noble(model, rank=4, up_init=0)
    assert len(report.replaced) == 2 * per_block
    if name == "encoder":  # torch's packed product of Q, K and V rounds in another order
        torch.testing.assert_close(output(model), before, rtol=1e-5, atol=1e-5)
    else:
        assert torch.equal(output(model), before)


@each_network
@pytest.mark.parametrize("grad", [True, False])
def test_every_branch_is_heard_in_training_and_in_use(name, grad):
    model, output, _ = network(name)
    before = output(model)
    add_noble(model, rank=4)
    for mode in (True, False):
        with torch.set_grad_enabled(grad):
            nearly = output(model.train(mode))
        assert 0 < (nearly - before).abs().max() < 0.2 * before.std()
    for _, noble in noble_layers(model):
        copied = copy.deepcopy(noble.up.weight.data)
        noble.up.weight.data.normal_()
        with torch.set_grad_enabled(grad):
            assert (output(model.eval()) - nearly).abs().max() > 1e-3
        noble.up.weight.data.copy_(copied)


@each_network
def test_gradients_reach_every_branch_and_a_step_lowers_the_loss(name):
    model, output, _ = network(name)
    add_noble(model.train(), rank=4)
    optimizer = torch.optim.AdamW(lr_multiplier_groups(model, 1e-3, 0.01))
    losses = []
    for _ in range(6):
        losses.append(output(model).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    for _, noble in noble_layers(model):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in noble.parameters())


@each_network
def test_saved_and_loaded(name, tmp_path):
    model, output, _ = network(name)
    add_noble(model, rank=4, nonlinearity="gelu_net")
    save_model(model, str(tmp_path / "model.safetensors"))
    torch.manual_seed(1)
    again, _ = NETWORKS[name][0]()
    add_noble(again, rank=4, nonlinearity="gelu_net")
    load_model(again, str(tmp_path / "model.safetensors"))
    assert torch.equal(output(again.eval()), output(model.eval()))


def test_gpt2_is_told_of_its_fused_projection_and_keeps_head_and_embeddings():
    model, _, _ = network("gpt2")
    report = add_noble(model, rank=4)
    assert report.fused == ("transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn")
    assert "tied" in report.skipped.get("lm_head", "") or report.skipped["lm_head"] == "outside the blocks"
    assert model.lm_head.weight is model.transformer.wte.weight
    noble = model.transformer.h[0].attn.c_attn
    assert (noble.in_features, noble.out_features) == (16, 48)
    assert noble.weight.shape == (16, 48)  # transformers' Conv1D stores it so
    assert noble.lr_multipliers()["up.weight"] == pytest.approx((16 / 4) ** 0.4)
    told = str(report)
    assert "one branch for a fused projection: transformer.h.0.attn.c_attn" in told
    assert f"{report.overhead.branch_parameters:,} of {count_parameters(model):,} parameters" in told


def test_overhead_counts_multiply_adds_and_shares_say_how_loud_branches_are():
    with torch.device("meta"):
        made = nn.Sequential(NobleLinear(768, 3072, rank=64))
    overhead = noble_overhead(made)
    assert overhead.mac_share == pytest.approx(64 * (768 + 3072 + 64) / (768 * 3072))
    assert overhead.share == pytest.approx(250_240 / 2_362_368)
    model, x = nn.Sequential(layer(10, 7)), torch.randn(6, 10, dtype=torch.float64)
    one = model[0]
    assert branch_shares(model, x) == {"0": pytest.approx(float(one.branch(x).norm() / one.linear(x).norm()))}
    one.up.weight.data.zero_()
    assert branch_shares(model, x) == {"0": 0}


def test_fused_branch_is_smaller_than_three():
    with torch.device("meta"):
        one, three = NobleLinear(768, 2304, rank=64), [NobleLinear(768, 768, rank=64) for _ in range(3)]
    assert noble_overhead(nn.Sequential(one)).branch_parameters == 201_088
    assert noble_overhead(nn.ModuleList(three)).branch_parameters == 308_352


def test_weights_are_drawn_anew_where_asked_and_main_layers_stay_otherwise():
    model, _, _ = network("gpt2")
    kept = copy.deepcopy(model)
    before = model.transformer.h[0].mlp.c_fc.weight.clone()
    add_noble(kept, rank=4)
    assert torch.equal(kept.transformer.h[0].mlp.c_fc.weight, before)
    add_noble(model, rank=4, keep_weights=False)
    drawn = torch.cat([m.weight.flatten() * m.in_features**0.5 for _, m in noble_layers(model)])
    assert float(drawn.std()) == pytest.approx(0.5, rel=0.05)
    assert all(m.bias.abs().max() == 0 for _, m in noble_layers(model))


def test_targets_and_types():
    model = NobleGPT(11, 8, 16, 2, 2, rank=0).bfloat16()
    report = add_noble(model, rank=4, targets=["q", "fc1"])
    assert report.replaced == ("blocks.0.attention.q", "blocks.0.fc1", "blocks.1.attention.q", "blocks.1.fc1")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    plain = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    assert add_noble(plain, rank=2).replaced == ("0", "2")
    one = nn.ModuleDict({"wide": nn.Linear(8, 8), "narrow": nn.Linear(8, 2)})
    assert "rank 4 is not below" in add_noble(one, rank=4).skipped["narrow"]
    with pytest.raises(ValueError, match="rank 8 is not below"):
        add_noble(nn.Sequential(nn.Linear(8, 8)), rank=8)
    with pytest.raises(ValueError, match="already"):
        add_noble(plain, rank=2)


def test_initialisation_run_afterwards_can_be_undone():
    model = nn.ModuleList([NobleLinear(64, 64, rank=8)])
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
    for _, noble in noble_layers(model):
        noble.reset_main()
        noble.reset_branch()
    assert float(model[0].up.weight.std()) == pytest.approx(0.01 / 8**0.5, rel=0.1)
    assert float(model[0].weight.std()) == pytest.approx(0.5 / 8, rel=0.1)


# torch's attention


@pytest.mark.parametrize("options", [{}, {"batch_first": True}, {"kdim": 6, "vdim": 10, "bias": False}])
@pytest.mark.parametrize("need_weights", [True, False])
def test_projected_attention_is_torchs(options, need_weights):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, 2, **options).double()
    if theirs.in_proj_bias is not None:
        nn.init.normal_(theirs.in_proj_bias)
        nn.init.normal_(theirs.out_proj.bias)
    ours = ProjectedAttention(theirs)
    q, k, v = (torch.randn(4, 3, n, dtype=torch.float64) for n in (8, options.get("kdim", 8), options.get("vdim", 8)))
    batch, length = (4, 3) if options.get("batch_first") else (3, 4)
    future = torch.ones(length, length).triu(1).bool()
    padding = torch.zeros(batch, length).bool()
    padding[0, -1] = True
    for masks in (
        {}, {"attn_mask": future}, {"key_padding_mask": padding}, {"attn_mask": future, "key_padding_mask": padding},
        {"attn_mask": torch.randn(batch * 2, length, length, dtype=torch.float64)},
    ):  # fmt: skip
        for average in (True, False):
            asked = {"need_weights": need_weights, "average_attn_weights": average, **masks}
            torch.testing.assert_close(ours(q, k, v, **asked), theirs(q, k, v, **asked))
    one = (q[:, 0], k[:, 0], v[:, 0])
    torch.testing.assert_close(ours(*one), theirs(*one))
    hint = {"attn_mask": future, "is_causal": True, "need_weights": False}
    torch.testing.assert_close(ours(q, k, v, **hint), theirs(q, k, v, **hint))
    with pytest.raises(ValueError, match="query: expected shape"):
        ours(q[..., :5], k, v)
    with pytest.raises(ValueError, match="is_causal"):
        ours(q, k, v, is_causal=True)


def test_attention_is_replaced_or_refused_or_left_with_a_reason():
    model, _, _ = network("encoder")
    plain = copy.deepcopy(model)
    report = add_noble(model, rank=4)
    assert report.attention == ("layers.0.self_attn", "layers.1.self_attn")
    assert report.skipped == {}
    assert "layers.1.self_attn.v_proj" in report.replaced
    with pytest.raises(ValueError, match="never calls them"):
        add_noble(copy.deepcopy(plain), rank=4, attention="refuse")
    untouched = add_noble(plain, rank=4, targets=["linear1", "linear2"], attention="refuse")
    assert len(untouched.replaced) == 4
    odd = nn.ModuleDict({"attn": nn.MultiheadAttention(8, 2, add_zero_attn=True), "fc": nn.Linear(8, 8)})
    assert "add_zero_attn" in add_noble(odd, rank=2).skipped["attn"]


def test_decoder_with_cross_attention():
    torch.manual_seed(0)
    model = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 2, 32, dropout=0.0), 1)
    x, memory = torch.randn(5, 2, 16), torch.randn(4, 2, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    before = model(x, memory, tgt_mask=mask, tgt_is_causal=True)
    assert len(add_noble(model, rank=4, up_init=0).replaced) == 10
    torch.testing.assert_close(model(x, memory, tgt_mask=mask, tgt_is_causal=True), before)


# The language model


def test_gpt_is_causal_and_has_the_papers_six_branches_a_block():
    torch.manual_seed(0)
    model = NobleGPT(11, 8, 16, 2, 2, rank=4).eval()
    assert len(list(noble_layers(model))) == 12
    tokens = torch.randint(0, 11, (2, 8))
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % 11
    assert torch.equal(model(tokens)[:, :5], model(other)[:, :5])
    assert not torch.equal(model(tokens)[:, 5:], model(other)[:, 5:])
    plain = NobleGPT(103, 64, 64, 2, 4, rank=0)
    assert count_parameters(plain) == 117_479
    assert count_parameters(NobleGPT(103, 64, 64, 2, 4, rank=16)) == 158_567
    assert count_parameters(NobleGPT(103, 64, 76, 2, 4, rank=0)) == 161_375
    with pytest.raises(ValueError, match="tokens: expected shape"):
        model(torch.zeros(1, 9, dtype=torch.long))


def test_continuation_follows_the_likeliest_and_the_generator():
    torch.manual_seed(0)
    model = NobleGPT(5, 4, 8, 1, 2, rank=2).eval()
    model.head.bias.data[3] = 50.0
    start = torch.tensor([0, 1, 2, 3, 4, 0])
    assert model.continue_tokens(start, 3, temperature=0).tolist() == [3, 3, 3]
    model.head.bias.data[3] = 0.0
    drawn = [model.continue_tokens(start, 20, generator=torch.Generator().manual_seed(s)).tolist() for s in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_official_state_is_taken_strictly(tmp_path: Path):
    made = layer()
    names = {"down.": "lora_down.", "up.": "lora_up."}
    inside = {"activations.0": "act", "activations.1": "second_act", "mixes.0": "fc",
              "frequency": "freq_scale", "phase": "freq_bias", "nonlinearity": "cos_net"}  # fmt: skip
    state = {}
    for name, tensor in made.state_dict().items():
        for ours, theirs in {**names, **inside}.items():
            name = name.replace(ours, theirs)
        state[name] = tensor.contiguous()
    save_file(state, str(tmp_path / "official.safetensors"))
    loaded = NobleLinear(10, 7, rank=4).double().load_official(load_file(str(tmp_path / "official.safetensors")))
    x = torch.randn(3, 10, dtype=torch.float64)
    assert torch.equal(loaded(x), made(x))
    state.pop("cos_net.fc.weight")
    with pytest.raises(RuntimeError, match=r"mixes\.0\.weight"):
        NobleLinear(10, 7, rank=4).load_official(state)
