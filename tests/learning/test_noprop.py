"""NoProp: the identities of its posterior, isolation of its blocks, and the batched step against a loop."""

import torch
from torch import nn

from paperworks.learning.noprop import BackpropChain, NoPropCT, NoPropDT, NoPropFM, fit_blocks
from paperworks.learning.noprop import model as models
from paperworks.learning.noprop.blocks import BlockConv2d
from paperworks.measure import saved_bytes
from paperworks.nn.diffusion import CosineSchedule, LearnedSchedule


def test_posterior_steps_carry_the_marginals():
    s = CosineSchedule(10)
    before, after = s.alpha_bar[:-1], s.alpha_bar[1:]
    assert torch.allclose(s.a + s.b * before.sqrt(), after.sqrt(), rtol=0, atol=1e-12)
    assert torch.allclose(s.b**2 * (1 - before) + s.c, 1 - after, rtol=0, atol=1e-12)
    assert torch.allclose(s.a**2 / (2 * s.c), s.snr_gain / 2, rtol=1e-12, atol=0)
    assert torch.allclose(s.alpha_bar + s.alpha_bar.flip(0), torch.ones(11, dtype=torch.float64))


def test_prior_divergence_is_that_of_torch():
    u, bar = torch.randn(6, 4, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    q = torch.distributions.Normal(bar.sqrt() * u, (1 - bar).sqrt())
    truth = torch.distributions.kl_divergence(q, torch.distributions.Normal(torch.zeros_like(u), 1.0)).sum(-1)
    assert torch.allclose(models._prior_divergence(u, bar), truth)


def test_a_block_loss_reaches_that_block_and_the_head_only():
    torch.manual_seed(0)
    net = NoPropDT((6,), 4, T=3, width=8)
    net.loss(torch.randn(16, 6), torch.randint(0, 4, (16,)), t=2).backward()
    reached = torch.zeros(3)
    for name, parameter in net.blocks.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad[[0, 2]].any(), name
        reached += parameter.grad.flatten(1).abs().sum(1)
    assert reached[1] > 0
    assert net.head.weight.grad.any()


def test_block_outputs_lie_in_the_hull_of_the_label_vectors():
    torch.manual_seed(0)
    net = NoPropDT((6,), 4, T=3, width=8)
    out = net.denoise(torch.randn(3, 9, 4), torch.randn(9, 6))
    assert (out >= 0).all()
    assert torch.allclose(out.sum(-1), torch.ones(3, 9))
    free = NoPropFM((6,), 4, width=8).velocity(torch.randn(9, 4), torch.randn(9, 6), torch.rand(9))
    assert not torch.allclose(free.sum(-1), torch.ones(9))


def test_blocks_that_know_the_label_are_always_right(monkeypatch):
    torch.manual_seed(0)
    net, y = NoPropDT((6,), 4, T=10, width=8).eval(), torch.randint(0, 4, (200,))
    monkeypatch.setattr(net, "denoise", lambda z, x, t=None: net.embedding(y)[None])
    assert (net.predict(torch.randn(200, 6), stochastic=True, decode="nearest") == y).all()


def test_flow_with_the_true_velocity_arrives_in_one_euler_step(monkeypatch):
    torch.manual_seed(0)
    net, y = NoPropFM((6,), 4, width=8), torch.randint(0, 4, (50,))
    u = net.embedding(y)
    monkeypatch.setattr(net, "velocity", lambda z, x, t: u - z)
    z = torch.randn(50, 4)
    end = net._step(z, torch.randn(50, 6), torch.tensor(0.0), torch.tensor(1.0), False)
    assert torch.allclose(end, u, atol=1e-6)


def test_batched_blocks_equal_single_ones():
    for in_shape in ((6,), (1, 8, 8)):
        torch.manual_seed(0)
        net = NoPropDT(in_shape, 4, T=3, width=8, channels=(2, 3, 4)).double().eval()
        z, x = torch.randn(3, 5, 4).double(), torch.randn(5, *in_shape).double()
        single = torch.cat([net.blocks(z[t : t + 1], x, t) for t in range(3)])
        assert torch.allclose(net.blocks(z, x), single, atol=1e-12)


def test_inputs_seen_once_serve_every_prediction():
    for shape, embedding in (((6,), "onehot"), ((2, 8, 8), "learned"), ((1, 8, 8), "prototype")):
        torch.manual_seed(0)
        net = NoPropDT(shape, 5, T=3, width=8, embedding=embedding, channels=(2, 3, 4))
        x = torch.randn(20, *shape)
        for _ in range(3):  # move the running statistics away from where they start
            net.blocks(torch.randn(3, 20, net.embedding.dim), x)
        net.eval()
        seen, z = net.encode(x), torch.randn(20, net.embedding.dim)
        for t in (1, 2, 3):
            torch.testing.assert_close(net.step(z, x, t, seen=seen), net.step(z, x, t))
            assert torch.equal(net.predict_block(x, t, z, seen=seen), net.predict_block(x, t, z))
        assert torch.equal(net.predict(x, seen=seen), net.predict(x))
        other = net.encode(torch.randn_like(x))
        assert not torch.allclose(net.step(z, x, 1, seen=other), net.step(z, x, 1))


def test_batched_gradients_equal_a_loop_that_sums():
    torch.manual_seed(0)
    net = NoPropDT((6,), 4, T=3, width=8).double()
    x, y = torch.randn(16, 6).double(), torch.randint(0, 4, (16,))
    z, u = net.noised(y), net.embedding(y)
    net.denoise(z, x).sub(u).square().sum(-1).mean(-1).sum().backward()
    batched = [p.grad.clone() for p in net.blocks.parameters()]
    net.zero_grad()
    for t in range(1, 4):
        net.denoise(z[t - 1 : t], x, t).sub(u).square().sum(-1).mean().backward()
    for one, other in zip(batched, net.blocks.parameters(), strict=True):
        assert torch.allclose(one, other.grad, atol=1e-10)


def test_grouped_convolution_equals_the_loop():
    torch.manual_seed(0)
    layer, x = BlockConv2d(3, 2, 4).double(), torch.randn(3, 5, 2, 6, 6).double()
    looped = layer(x)
    layer.grouped = True
    assert torch.allclose(layer(x), looped, atol=1e-12)
    plain = nn.functional.conv2d(x[1], layer.weight[1], layer.bias[1], padding=1)
    assert torch.allclose(looped[1], plain, atol=1e-12)


def test_learned_schedule_rises_and_its_slope_is_the_derivative():
    torch.manual_seed(0)
    s = LearnedSchedule(8).double()
    with torch.no_grad():
        for parameter in s.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    assert (s.snr(t).diff() > 0).all()
    assert (s.snr_slope(t) > 0).all()
    numeric = (s.snr(t + 1e-6) - s.snr(t - 1e-6)) / 2e-6
    assert torch.allclose(s.snr_slope(t), numeric, rtol=1e-5)


def test_one_block_keeps_a_share_of_what_the_chain_keeps():
    torch.manual_seed(0)
    x, y = torch.randn(64, 64), torch.randint(0, 10, (64,))
    chain = BackpropChain((64,), 10, T=10, width=32, convex_output=False)
    net = NoPropDT((64,), 10, T=10, width=32)
    ratio = saved_bytes(lambda: net.loss(x, y, 3)) / saved_bytes(lambda: chain.loss(x, y))
    assert ratio < 0.15, ratio


def test_training_is_repeatable_and_learns():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(1))
    y = x[:, :3].argmax(1)
    finals = []
    for _ in range(2):
        torch.manual_seed(0)
        net = NoPropDT((5,), 3, T=3, width=16)
        fit_blocks(net, lambda step: (x, y), steps=60, lr=1e-2)
        finals.append(net.eval()(x))
    assert torch.equal(*finals)
    assert (net.predict(x, decode="nearest") == y).float().mean() > 0.9


def test_every_variant_has_a_finite_loss_with_gradients():
    for kind in (NoPropDT, NoPropCT, NoPropFM, BackpropChain):
        torch.manual_seed(0)
        net, (x,), _ = kind.example()
        net.loss(x, torch.tensor([0, 1, 2, 3, 0])).backward()
        assert sum(p.grad is not None and bool(p.grad.any()) for p in net.parameters()) > 10
