"""Bidirectional networks: adjoint directions, the order and reach of the steps, what the generator learns, sizes."""

import pytest
import torch
from torch.nn import functional as F

from paperworks.learning import BidirectionalNet, Discriminator, TiedConv, TiedLinear
from paperworks.learning.bidirectional import Iteration, fit_bidirectional, model
from paperworks.measure import count_parameters, robustness_report
from paperworks.training import Batches, Checkpoint
from paperworks.training.digits import digits


def test_linear_directions_are_adjoint():
    torch.manual_seed(0)
    layer = TiedLinear(7, 5, bias=False).double()
    layer.weight.data.normal_()
    x, y = torch.randn(3, 7).double(), torch.randn(3, 5).double()
    torch.testing.assert_close((layer(x) * y).sum(), (x * layer.transposed(y)).sum())


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (28, 28)])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolution_directions_are_adjoint(size, kernel, stride):
    torch.manual_seed(0)
    layer = TiedConv((2, *size), 3, kernel, stride, bias=False).double()
    layer.weight.data.normal_()
    x = torch.randn(2, 2, *size).double()
    there = layer(x)
    assert tuple(there.shape[1:]) == layer.out_shape == (3, -(-size[0] // stride), -(-size[1] // stride))
    y = torch.randn_like(there)
    back = layer.transposed(y)
    assert back.shape == x.shape
    torch.testing.assert_close((there * y).sum(), (x * back).sum())


def test_padding_is_tensorflows():
    assert TiedConv((1, 28, 28), 1, 5, 2).pads[0] == (1, 2)
    assert TiedConv((1, 28, 28), 1, 4, 2).pads[0] == (1, 1)
    assert TiedConv((1, 28, 28), 1, 5, 1).pads[0] == (2, 2)


def test_whole_networks_are_adjoint_without_activations():
    torch.manual_seed(0)
    net = BidirectionalNet((1, 8, 8), 4, hidden=(9,), convolutions=((3, 4, 2), (5, 3, 2)), bias=False, std=0.3).double()
    net.activation = net.conv_activation = lambda x: x
    x, v = torch.randn(3, 1, 8, 8).double(), torch.randn(3, 4).double()
    torch.testing.assert_close((net.classify(x) * v).sum(), (x * net.generate(v)).sum())


def test_biases_of_either_direction_are_its_own():
    torch.manual_seed(0)
    net = BidirectionalNet((6,), 3, hidden=(4,))
    x, v = torch.rand(2, 6), torch.eye(3)[:2]
    before = net.classify(x), net.generate(v)
    for layer in net.layers:
        layer.generator_bias.data += 1
    assert torch.equal(net.classify(x), before[0])
    assert not torch.equal(net.generate(v), before[1])
    expected = torch.relu(x @ net.layers[0].weight.t()) @ net.layers[1].weight.t()
    torch.testing.assert_close(net.classify(x), expected)
    hidden = torch.relu(v @ net.layers[1].weight + 1)
    torch.testing.assert_close(net.generate(v), hidden @ net.layers[0].weight + 1)


def test_hebbian_identity():
    """The paper's proof: with w in {-1, 1} and threshold units, x = relu(w) is recognised and generated."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        w = torch.randint(0, 2, (1, 12), generator=generator) * 2.0 - 1
        w[0, 0] = 1.0
        layer = TiedLinear(12, 1, bias=False)
        layer.weight.data = w
        x = torch.relu(w)
        assert float((layer(x) > 0).float()) == 1
        assert torch.equal((layer.transposed(torch.ones(1, 1)) > 0).float(), x)


def state(net):
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def changed(net, before):
    return {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}


def test_each_step_moves_its_own_parameters():
    torch.manual_seed(0)
    net = BidirectionalNet((6,), 3, hidden=(4,))
    x, y = torch.rand(10, 6), torch.arange(10) % 3
    weights = {"layers.0.weight", "layers.1.weight"}
    classifier = {"layers.0.classifier_bias", "layers.1.classifier_bias"}
    generator = {"layers.0.generator_bias", "layers.1.generator_bias"}
    plain = Iteration(net, steps=5, mode="bp")
    before = state(net)
    plain.loss(net, (x, y)).backward()
    plain.step()
    plain.zero_grad()
    assert changed(net, before) == weights | classifier
    both = Iteration(net, steps=5, lr=1e-30, generator_lr=1e-2)
    before = state(net)
    both.loss(net, (x, y)).backward()
    both.step()
    assert changed(net, before) == weights | generator


def test_iteration_is_the_papers_loop():
    """Classifier, then generator, each with an Adam of its own over the shared weights."""
    torch.manual_seed(0)
    net, twin = (BidirectionalNet((6,), 3, hidden=(4,), activation="tanh") for _ in range(2))
    twin.load_state_dict(net.state_dict())
    x, y = torch.rand(10, 6), torch.arange(10) % 3
    fit_bidirectional(net, lambda step: (x, y), steps=4, mode="bl_then_bp", lr=0.01, generator_lr=0.02)
    first = torch.optim.Adam(twin.classifier_parameters(), lr=0.01)
    second = torch.optim.Adam(twin.generator_parameters(), lr=0.02)
    for step in range(4):
        twin.zero_grad()
        F.cross_entropy(twin(x), y).backward()
        first.step()
        if step < 2:
            twin.zero_grad()
            F.binary_cross_entropy_with_logits(twin.generate(F.one_hot(y, 3).float()), x).backward()
            second.step()
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, twin.state_dict()[name])
    joint = BidirectionalNet((6,), 3, hidden=(4,), activation="tanh")
    joint.load_state_dict(twin.state_dict())
    fit_bidirectional(joint, lambda step: (x, y), steps=1, joint=True)
    fit_bidirectional(twin, lambda step: (x, y), steps=1)
    assert not torch.allclose(joint.layers[0].weight, twin.layers[0].weight, atol=1e-5)


def test_hybrid_iteration_is_the_papers_loop():
    torch.manual_seed(0)
    net, twin = (BidirectionalNet((6,), 3, hidden=(5,), bias=False) for _ in range(2))
    judge, judged = (Discriminator((6,), (7,)) for _ in range(2))
    twin.load_state_dict(net.state_dict())
    judged.load_state_dict(judge.state_dict())
    x, y = torch.rand(10, 6), torch.arange(10) % 3
    torch.manual_seed(1)
    fit_bidirectional(net, lambda step: (x, y), steps=3, discriminator=judge, lr=0.01, discriminator_lr=0.02)
    torch.manual_seed(1)
    options = dict(betas=(0.5, 0.999))
    classify = torch.optim.Adam(twin.parameters(), lr=0.01, **options)
    generate = torch.optim.Adam(twin.parameters(), lr=0.01, **options)
    judging = torch.optim.Adam(judged.parameters(), lr=0.02, **options)
    bce = F.binary_cross_entropy_with_logits

    def fake():
        return torch.sigmoid(twin.generate(2 * torch.rand(10, 3) - 1))

    for _ in range(3):
        steps = (
            (classify, lambda: F.cross_entropy(twin(x), y)),
            (judging, lambda: bce(judged(x), torch.ones(10, 1)) + bce(judged(fake().detach()), torch.zeros(10, 1))),
            (generate, lambda: bce(judged(fake()), torch.ones(10, 1))),
        )
        for optimizer, loss in steps:
            twin.zero_grad()
            judged.zero_grad()
            loss().backward()
            optimizer.step()
    for ours, theirs in ((net, twin), (judge, judged)):
        for name, value in ours.state_dict().items():
            torch.testing.assert_close(value, theirs.state_dict()[name])


def test_norms_of_either_direction_keep_their_own_statistics():
    example = BidirectionalNet.example()
    net = example.module.train()
    before = {name: value.clone() for name, value in net.state_dict().items() if "running_mean" in name}
    net.classify(example.inputs[0])
    moved = {
        name for name, value in net.state_dict().items() if name in before and not torch.equal(value, before[name])
    }
    assert moved == {"classifier_norms.1.running_mean"}
    net.generate(torch.rand(5, 3))
    assert len([n for n, v in net.state_dict().items() if n in before and not torch.equal(v, before[n])]) == 3


def test_without_biases_there_is_nothing_but_weights():
    net = model.mnist_gan_one_hidden(bias=False)
    assert count_parameters(net) == 101_632
    with torch.device("meta"):
        assert count_parameters(model.mnist_gan_two_conv(bias=False)) == 6_564_864


@pytest.mark.parametrize(
    ("build", "classifier"),
    [
        (model.mnist_no_hidden, 7_850),
        (model.mnist_one_hidden, 12_730),
        (model.mnist_two_hidden, 13_002),
        (model.mnist_four_hidden, 185_300),
        (model.mnist_three_conv, 122_270),
        (model.mnist_gan_one_hidden, 101_770),
        (model.mnist_gan_two_conv, 6_566_346),
    ],
)
def test_classifiers_have_the_published_sizes(build, classifier):
    with torch.device("meta"):
        net = build()
        assert sum(p.numel() for p in net.classifier_parameters()) == classifier
        assert net.generate(torch.empty(2, 10)).shape[1:] == net.in_shape
        assert net.classify(torch.empty(2, *net.in_shape)).shape == (2, 10)


def test_both_directions_together_reach_every_parameter():
    example = BidirectionalNet.example()
    net = example.module.train()
    (net.classify(example.inputs[0]).square().sum() + net.generate(torch.rand(5, 3)).square().sum()).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("bias", [True, False])
def test_generator_learns_the_class_means(bias):
    """Close to them, not equal: the classifier's steps move the weights too."""
    train = digits(2000).train
    torch.manual_seed(0)
    net = BidirectionalNet((64,), bias=bias, std=0.1)
    fit_bidirectional(net, Batches(tuple(train), 100), steps=1500, lr=3e-3)
    made = net.generate(torch.eye(10)).sigmoid()
    means = torch.stack([train.x[train.y == c].mean(0) for c in range(10)])
    assert float(torch.corrcoef(torch.stack([made.flatten(), means.flatten()]))[0, 1]) > 0.985
    assert 0.005 < float((made - means).abs().max()) < 0.3


@pytest.mark.slow
def test_a_trained_network_whose_logits_are_scaled_looks_robust_and_is_not():
    split = digits(2000)
    torch.manual_seed(0)
    net = BidirectionalNet((64,), hidden=(32,), bias=False)
    fit_bidirectional(net, Batches(tuple(split.train), 100), steps=500, mode="bp", lr=3e-3)
    plain = robustness_report(net, *split.val, (0.1,), noises=())
    net.layers[-1].weight.data *= 1000
    masked = robustness_report(net, *split.val, (0.1,), noises=())
    assert masked.clean == plain.clean
    assert masked.accuracy("fgsm", 0.1) > plain.accuracy("fgsm", 0.1) + 0.2
    assert masked.zero_gradient_fraction > 0.9
    assert abs(masked.right["margin_pgd"][0] - plain.right["margin_pgd"][0]) <= 2


@pytest.mark.parametrize("hybrid", [True, False])
def test_a_killed_fit_goes_on_bit_for_bit(hybrid, tmp_path):
    x, y = torch.rand(30, 6), torch.arange(30) % 3

    def fitted(checkpoint=None, batches=None):
        torch.manual_seed(0)
        net = BidirectionalNet((6,), 3, hidden=(4,))
        judge = Discriminator((6,), (4,)) if hybrid else None
        fit_bidirectional(
            net, batches or Batches((x, y), 10), steps=12, mode="bl_then_bp", discriminator=judge, checkpoint=checkpoint
        )
        return net.state_dict()

    whole, place, inner = fitted(), tmp_path / "state.safetensors", Batches((x, y), 10)

    def dies(step):
        if step == 4:
            raise KeyboardInterrupt
        return inner(step)

    with pytest.raises(KeyboardInterrupt):
        fitted(Checkpoint(place, every_seconds=0), dies)
    again = fitted(Checkpoint(place, every_seconds=0))
    assert all(torch.equal(again[name], whole[name]) for name in whole)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: BidirectionalNet((8, 8), 3), "in_shape"),
        (lambda: BidirectionalNet((64,), 3, convolutions=((4, 3, 1),)), "convolutions need"),
        (lambda: BidirectionalNet((6,), 3, activation="elu"), "relu, sigmoid"),
        (lambda: BidirectionalNet((6,), 3, classifier_norms=(0,)), "hidden places"),
        (lambda: BidirectionalNet((6,), 3, hidden=(4,), generator_norms=(0,)), "hidden places"),
        (lambda: Iteration(BidirectionalNet((6,), 3), steps=1, mode="han"), "bl_then_bp"),
        (lambda: Iteration(BidirectionalNet((6,), 3), steps=1, mode="bp", joint=True), "joint"),
        (lambda: BidirectionalNet((6,), 3).generate(torch.zeros(2, 4)), "expected shape"),
    ],
)
def test_bad_arguments_are_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
