"""MIP: proportionality, the residual form, functional weights against plain networks, and networks not written here."""

import copy
import itertools
import math

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional as F

from paperworks.layers import HyperNetwork, QuantileNetwork, hypernetize
from paperworks.layers.mip import encode, initial_weights, proportionality
from paperworks.layers.mip.quantiles import pinball
from paperworks.layers.mip.study import plateau

SHAPES = {"a.weight": (5, 4), "a.bias": (5,), "b.weight": (2, 5)}


def default(**options):
    return HyperNetwork(SHAPES, 3, (8, 8), encoding="none", residual=False, **options)


@pytest.mark.parametrize("factor", [0.01, 3.0, 100.0])
def test_default_weights_are_proportional_to_gamma(factor):
    hyper, gamma = default(bias_rows="official").double(), torch.rand(4, 3, dtype=torch.float64)
    torch.testing.assert_close(hyper(factor * gamma), factor * hyper(gamma), rtol=1e-12, atol=0)
    assert proportionality(hyper, 0.1, 0.8) == pytest.approx(8.0)


def test_mip_weights_keep_their_size():
    grown = [proportionality(HyperNetwork({"w": (60, 60)}, 3), 0.1, 0.8) for _ in range(20)]
    assert all(0.8 < ratio < 1.2 for ratio in grown)


def test_variance_over_seeds_follows_gamma_squared_only_in_the_default():
    def variance(encoding, gamma):
        drawn = [
            HyperNetwork({"w": (4, 4)}, 1, (16, 16), encoding=encoding, residual=False)(torch.tensor([[gamma]]))
            for _ in range(200)
        ]
        return float(torch.cat(drawn).detach().var())

    torch.manual_seed(0)
    assert 45 < variance("none", 0.8) / variance("none", 0.1) < 90
    assert 0.6 < variance("cos_sin", 0.8) / variance("cos_sin", 0.1) < 1.6


def test_encoding_has_constant_norm_and_refuses_what_would_wrap():
    gamma = torch.rand(50, 7, dtype=torch.float64)
    torch.testing.assert_close(encode(gamma, "cos_sin").square().sum(-1), torch.full((50,), 7.0, dtype=torch.float64))
    torch.testing.assert_close(encode(gamma, "l2").norm(dim=-1), torch.ones(50, dtype=torch.float64))
    assert torch.equal(encode(gamma, "z_1z"), torch.cat([gamma, 1 - gamma], -1))
    assert torch.equal(encode(torch.tensor([[0.0, 1.0]]), "cos_sin").round(decimals=6), torch.tensor([[1.0, 0, 0, 1]]))
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="from 0 to 1"):
            encode(torch.tensor([[wrong]]), "cos_sin")
    with pytest.raises(ValueError, match="one of"):
        encode(gamma, "other")


def test_rows_start_with_the_fan_out_of_their_own_weight():
    torch.manual_seed(0)
    hyper = HyperNetwork({"w": (100, 50), "b": (100,)}, 2, bias_rows="official")
    weight, bias = hyper.output.weight.split([5000, 100])
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / 5000), rel=0.02)
    assert float(bias.std()) == pytest.approx(math.sqrt(2 / 100), rel=0.05)
    assert HyperNetwork({"w": (100, 50), "b": (100,)}, 2).output.weight[5000:].abs().max() == 0


def test_parameters_follow_the_formula():
    hyper = HyperNetwork(SHAPES, 3, (8, 16))
    sizes = [6, 8, 16, 35]
    assert sum(p.numel() for p in hyper.parameters()) == sum(a * b + b for a, b in itertools.pairwise(sizes))


def test_initial_weights_are_those_of_kaiming():
    made = initial_weights({"w": (400, 300), "b": (400,)})
    assert float(made["w"].std()) == pytest.approx(math.sqrt(2 / 300), rel=0.02)
    assert made["b"].abs().max() == 0


def test_without_its_last_weights_it_is_the_network_it_began_from():
    network = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2))
    model = hypernetize(network, 2)
    model.hyper.output.weight.data.zero_()
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x, gamma=torch.rand(2)), network(x))


def test_depth_law_of_the_default_hypernetwork():
    """Without biases the output of L layers grows with gamma to the power of L."""
    for depth in (1, 2, 4):
        network = nn.Sequential(
            *[layer for _ in range(depth) for layer in (nn.Linear(4, 4, bias=False), nn.LeakyReLU())]
        )
        model = hypernetize(network, 1, encoding="none", residual=False).double()
        x = torch.randn(3, 4, dtype=torch.float64)
        small, large = (model(x, gamma=torch.tensor([g], dtype=torch.float64)) for g in (0.2, 0.6))
        torch.testing.assert_close(large, 3.0**depth * small, rtol=1e-9, atol=0)


def test_gradients_are_those_of_finite_differences():
    model = hypernetize(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), 2, hidden=(5,)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    names, values = zip(*model.hyper.named_parameters(), strict=True)

    def output(gamma, *given):
        weights = torch.func.functional_call(model.hyper, dict(zip(names, given, strict=True)), (gamma[None],))
        parts = weights[0].split(model.hyper.sizes)
        named = {n: p.view(s) for (n, s), p in zip(model.hyper.shapes.items(), parts, strict=True)}
        return torch.func.functional_call(model.primary, named, (x,))

    gamma = torch.rand(2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(output(gamma, *values), model(x, gamma=gamma))
    assert torch.autograd.gradcheck(output, (gamma, *values), fast_mode=True)
    model(x, gamma=gamma).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.hyper.parameters())


def test_many_gammas_are_a_loop_over_one():
    model = hypernetize(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), 2)
    x, gammas = torch.randn(5, 4), torch.rand(3, 2)
    torch.testing.assert_close(model(x, gamma=gammas), torch.stack([model(x, gamma=gamma) for gamma in gammas]))
    one = model.hyper.weights(gammas[:1])
    assert all(tensor.shape[0] == 1 for tensor in one.values())


def test_the_users_network_is_left_as_it_was_and_frozen_copies_are_plain():
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).eval()
    before = copy.deepcopy(network.state_dict())
    model = hypernetize(network, 1).eval()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), network.state_dict().values(), strict=True))
    x, gamma = torch.randn(5, 4), torch.tensor([0.3])
    frozen = model.freeze_at(gamma)
    assert {n: p.shape for n, p in frozen.named_parameters()} == {n: p.shape for n, p in network.named_parameters()}
    torch.testing.assert_close(frozen(x), model(x, gamma=gamma))
    network.load_state_dict(frozen.state_dict())


def test_only_chosen_parameters_are_predicted():
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    model = hypernetize(network, 1, only=["0.weight"])
    assert set(model.hyper.shapes) == {"0.weight"}
    assert {name for name, _ in model.primary.named_parameters()} == {"0.bias", "2.weight", "2.bias"}
    by_rule = hypernetize(network, 1, only=lambda name, p: p.ndim == 1)
    assert set(by_rule.hyper.shapes) == {"0.bias", "2.bias"}
    for wrong in (["9.weight"], []):
        with pytest.raises(ValueError, match="only"):
            hypernetize(network, 1, only=wrong)


class Tied(nn.Module):
    """Two layers that share one matrix."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(F.relu(self.first(x)))


def test_tied_weights_stay_tied():
    model = hypernetize(Tied(), 1)
    assert set(model.hyper.shapes) == {"first.weight", "first.bias", "second.bias"}
    x, gamma = torch.randn(3, 4), torch.tensor([0.4])
    w = model.hyper.weights(gamma)
    expected = F.linear(F.relu(F.linear(x, w["first.weight"], w["first.bias"])), w["first.weight"], w["second.bias"])
    torch.testing.assert_close(model(x, gamma=gamma), expected)
    frozen = model.freeze_at(gamma)
    assert frozen.first.weight is frozen.second.weight
    torch.testing.assert_close(frozen(x), expected)


def transformer():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), (torch.randn(2, 5, 16),)


def recurrent():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.GRUCell(3, 8), nn.Linear(8, 2)

        def forward(self, x):
            state = x.new_zeros(len(x), 8)
            for part in x.unbind(1):
                state = self.cell(part, state)
            return self.head(state)

    return Last(), (torch.randn(2, 4, 3),)


def residual_net():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x):
            return F.relu(x + self.norm(self.conv2(F.relu(self.conv1(x)))))

    return nn.Sequential(nn.Conv2d(3, 4, 3), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (
        torch.randn(2, 3, 8, 8),
    )


@pytest.mark.parametrize("make", [transformer, recurrent, residual_net])
def test_other_peoples_networks(make, tmp_path):
    torch.manual_seed(0)
    network, inputs = make()
    model = hypernetize(network, 1, hidden=(4, 8))
    gamma = torch.tensor([0.6])
    out = model(*inputs, gamma=gamma)
    assert out.shape == network(*inputs).shape
    out.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.hyper.output.bias.grad.abs().sum() > 0
    save_model(model, str(tmp_path / "model.safetensors"))
    again = hypernetize(make()[0], 1, hidden=(4, 8))
    load_model(again, str(tmp_path / "model.safetensors"))
    torch.testing.assert_close(again(*inputs, gamma=gamma), out)
    torch.testing.assert_close(model.eval().freeze_at(gamma)(*inputs), model(*inputs, gamma=gamma))


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
                        attn_pdrop=0.0)  # fmt: skip
    return GPT2LMHeadModel(config), torch.randint(0, 20, (2, 6))


def vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16,
                       patch_size=8, num_labels=3)  # fmt: skip
    return ViTForImageClassification(config), torch.randn(2, 3, 16, 16)


def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3)
    return ResNetForImageClassification(config).eval(), torch.randn(2, 3, 32, 32)


@pytest.mark.slow  # transformers takes a while to import
@pytest.mark.parametrize("make", [gpt2, vit, resnet])
def test_networks_of_transformers(make, tmp_path):
    torch.manual_seed(0)
    network, x = make()
    model = hypernetize(network, 1, hidden=(4,))
    low, high = torch.tensor([0.2]), torch.tensor([0.9])
    out = model(x, gamma=low).logits
    assert out.shape == network(x).logits.shape
    out.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert model.hyper.output.weight.grad.abs().sum() > 0
    with torch.no_grad():  # the input decides the weights, and with them the answer
        assert not torch.allclose(model(x, gamma=high).logits, out)
        torch.testing.assert_close(model.freeze_at(high)(x).logits, model(x, gamma=high).logits)
    save_model(model, str(tmp_path / "model.safetensors"))
    again = hypernetize(make()[0], 1, hidden=(4,))
    load_model(again, str(tmp_path / "model.safetensors"))
    torch.testing.assert_close(again(x, gamma=low).logits, out)


def test_saving_says_what_to_do_instead():
    with pytest.raises(TypeError, match="safetensors"):
        hypernetize(nn.Linear(2, 2), 1).save_pretrained("anywhere")


def test_official_names_are_taken_strictly():
    hyper = HyperNetwork(SHAPES, 3, (8,))
    state = {"backbone.block0_lin.weight": torch.randn(8, 6), "backbone.block0_lin.bias": torch.randn(8),
             "backbone.output.weight": torch.randn(35, 8), "backbone.output.bias": torch.randn(35)}  # fmt: skip
    hyper.load_official(state)
    assert torch.equal(hyper.backbone[0].weight, state["backbone.block0_lin.weight"])
    with pytest.raises(ValueError, match="state"):
        hyper.load_official({**state, "more": torch.zeros(1)})
    with pytest.raises(ValueError, match="shape"):
        hyper.load_official({**state, "backbone.output.bias": torch.zeros(3)})


@pytest.mark.parametrize("options", [dict(encoding="x"), dict(activation="x"), dict(bias_rows="x"), dict(in_dim=0)])
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=r"."):
        HyperNetwork(SHAPES, **options)


def test_gamma_of_another_shape_is_refused():
    model = hypernetize(nn.Linear(2, 2), 3)
    for wrong in (torch.rand(2), torch.rand(2, 2, 3)):
        with pytest.raises(ValueError, match="gamma"):
            model(torch.randn(1, 2), gamma=wrong)


def test_plateau_is_the_loss_of_the_best_constant():
    x, y = torch.rand(500, 6), torch.randint(0, 10, (500,))
    share = y.bincount(minlength=10) / len(y)
    losses = [
        g * F.cross_entropy(share.log().expand(500, -1), y) + 5 * (1 - g) * F.mse_loss(x.mean(0).expand(500, -1), x)
        for g in torch.linspace(0, 1, 6)
    ]
    assert plateau(x, y) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_pinball_is_least_at_the_quantile():
    y, level = torch.randn(20_000, generator=torch.Generator().manual_seed(0)), torch.tensor([0.8])
    candidates = torch.linspace(-2, 2, 81)
    losses = torch.stack([pinball(c.expand(len(y), 1), y, level).mean() for c in candidates])
    assert float(candidates[losses.argmin()]) == pytest.approx(float(y.quantile(0.8)), abs=0.06)


@pytest.mark.slow
def test_one_network_learns_all_quantiles():
    torch.manual_seed(0)
    net, optimizer = QuantileNetwork(1, 16, 3), None
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(500):
        x = torch.rand(256, 1)
        y = 2 * x[:, 0] + (0.2 + x[:, 0]) * torch.randn(256)
        optimizer.zero_grad()
        net.loss(x, y, torch.rand(4)).backward()
        optimizer.step()
    at, levels = torch.tensor([[0.3], [0.8]]), torch.tensor([0.1, 0.5, 0.9])
    z = torch.tensor([-1.2816, 0.0, 1.2816])
    assert (net(at, levels) - (2 * at + (0.2 + at) * z)).abs().max() < 0.4
