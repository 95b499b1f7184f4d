"""Attacks against classifiers whose robust accuracy is known, and the signs of a masked gradient."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from paperworks.measure import add_noise, fgsm, margin_pgd, pgd, robustness_report, zero_gradient_rows
from paperworks.measure.robustness import EPS, input_gradient, logits_of, margin


def linear(seed, n_in=6, classes=4):
    torch.manual_seed(seed)
    return nn.Linear(n_in, classes)


def rows(count=200, n_in=6, seed=0, low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, n_in, generator=generator)


def perceptron(seed=2):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))


def exactly_robust(net, x, y, eps, bounds):
    """Of a linear model: for every rival the worst point of the box, coordinate by coordinate."""
    low, high = x - eps, x + eps
    if bounds:
        low, high = low.clamp(*bounds), high.clamp(*bounds)
    robust = torch.ones(len(x), dtype=torch.bool)
    for rival in range(net.out_features):
        difference = net.weight[rival] - net.weight[y]
        worst = torch.where(difference > 0, high, low)
        gap = (difference * worst).sum(1) + net.bias[rival] - net.bias[y]
        robust &= (gap < 0) | (y == rival)
    return robust


@pytest.mark.parametrize("bounds", [None, (0.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_margin_pgd_is_exact_on_a_linear_classifier(seed, bounds):
    net, x = linear(seed), rows(seed=seed)
    y = net(x).argmax(1)
    for eps in (0.01, 0.05, 0.1):
        report = robustness_report(net, x, y, (eps,), bounds=bounds, rivals=3, noises=())
        exact = exactly_robust(net, x, y, eps, bounds)
        assert torch.equal(report.masks["margin_pgd"][0], exact)
        assert 0 < int(exact.sum()) < len(x)


def test_fgsm_is_exact_with_two_classes_and_without_bounds():
    net, x = linear(5, classes=2), rows(seed=5)
    y = net(x).argmax(1)
    distance = -margin(net(x), y) / (net.weight[0] - net.weight[1]).abs().sum()  # to the border, in L-infinity
    report = robustness_report(net, x, y, EPS, bounds=None)
    for place, eps in enumerate(EPS):
        for attack in ("fgsm", "fgsm_true", "fgsm_float64", "margin_pgd"):
            assert torch.equal(report.masks[attack][place], distance > eps)


def test_report_counts_what_its_masks_hold_and_falls_with_eps():
    net, x = perceptron(), rows()
    y = net(x).argmax(1)
    y[::7] = (y[::7] + 1) % 4  # wrong from the start
    report = robustness_report(net, x, y, EPS, source=perceptron(1), batch_size=64, restarts=2)
    assert report.total == 200
    assert report.clean == int((net(x).argmax(1) == y).sum())
    for name, counts in report.right.items():
        assert counts == tuple(report.masks[name].sum(1).tolist())
    pgd_counts = report.right["margin_pgd"]
    assert list(pgd_counts) == sorted(pgd_counts, reverse=True)
    assert pgd_counts[-1] < pgd_counts[0] < report.clean
    strongest = [min(report.right[a][i] for a in ("fgsm_true", "margin_pgd", "transfer")) for i in range(len(EPS))]
    assert all(w <= s for w, s in zip(report.right["worst"], strongest, strict=True))
    assert report.accuracy("margin_pgd", 0.1) == pgd_counts[EPS.index(0.1)] / 200
    assert report.curves()["margin PGD"] == [report.clean / 200, *(c / 200 for c in pgd_counts)]
    assert report.text().count("\n") == len(report.right)


def test_many_steps_are_at_least_as_strong_as_one():
    net, x = perceptron(3), rows(seed=3)
    y = net(x).argmax(1)
    report = robustness_report(net, x, y, (0.05, 0.1, 0.2), noises=())
    assert all(p <= f for p, f in zip(report.right["margin_pgd"], report.right["fgsm_true"], strict=True))


def test_examples_stay_in_the_ball_and_in_bounds():
    net, x = perceptron(), rows()
    y = net(x).argmax(1)
    generator = torch.Generator().manual_seed(0)
    for moved in (
        fgsm(net, x, eps=0.2),
        margin_pgd(net, x, y, 0.2, restarts=3, generator=generator),
        pgd(net, x, y, 0.2, loss="cross_entropy", stop=False),
        add_noise(x, "uniform", 0.2, generator=generator),
    ):
        assert float((moved - x).abs().max()) <= 0.2 + 1e-6
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1
    assert float(add_noise(x, "positive", 0.2).sub(x).min()) >= 0
    with pytest.raises(ValueError, match="uniform, positive, gaussian"):
        add_noise(x, "salt")


def test_gradients_are_autograds():
    net, x = perceptron().double(), rows().double()
    y = torch.arange(200) % 4
    leaf = x.clone().requires_grad_()
    F.cross_entropy(net(leaf), y, reduction="sum").backward()
    torch.testing.assert_close(input_gradient(net, x, y), leaf.grad)
    leaf.grad = None
    margin(net(leaf), y).sum().backward()
    torch.testing.assert_close(input_gradient(net, x, y, "margin"), leaf.grad)
    assert all(p.grad is not None for p in net.parameters())  # by the backward passes above
    net.zero_grad()
    robustness_report(net, x, y, (0.1,), attacks=["fgsm", "margin_pgd"])
    assert all(p.grad is None for p in net.parameters())


def test_large_logits_mask_the_gradient_and_margin_pgd_sees_through():
    """The same decisions, multiplied: FGSM stops working, nothing became robust."""
    net, x = perceptron(), rows()
    y = net(x).argmax(1)
    plain = robustness_report(net, x, y, (0.1,))
    scaled = perceptron()
    scaled[2].weight.data *= 1e5
    scaled[2].bias.data *= 1e5
    masked = robustness_report(scaled, x, y, (0.1,))
    assert plain.zero_gradient == 0
    assert not any("zero" in sign for sign in plain.signs())
    assert masked.zero_gradient > 0.95 * 200
    assert masked.right["fgsm"][0] > 190 > 100 > plain.right["fgsm"][0]
    assert masked.right["margin_pgd"] == plain.right["margin_pgd"]
    assert any("zero" in sign for sign in masked.signs())
    assert any("margin PGD" in sign for sign in masked.signs())


def test_float64_recovers_what_float32_rounds_away():
    net, x = perceptron(), rows()
    y = net(x).argmax(1)
    scale = 300 / float(net(x).detach().topk(2).values.diff(dim=1).abs().median())
    net[2].weight.data *= scale
    net[2].bias.data *= scale
    report = robustness_report(net, x, y, (0.1,))
    assert report.right["fgsm_float64"][0] < report.right["fgsm"][0] - 10
    assert any("float64" in sign for sign in report.signs())
    assert int(zero_gradient_rows(net, x).sum()) == report.zero_gradient > 10


def test_own_label_repairs_a_wrong_prediction():
    net, x = linear(0, classes=2), rows()
    y = 1 - net(x).argmax(1)
    report = robustness_report(net, x, y, (0.5,), noises=())
    assert report.clean == 0
    assert report.right["fgsm"][0] > 0
    assert report.right["fgsm_true"][0] == report.right["margin_pgd"][0] == 0


def test_transfer_uses_the_other_networks_gradient():
    net, other, x = linear(0), linear(1), rows()
    y = net(x).argmax(1)
    report = robustness_report(net, x, y, (0.2,), attacks=["transfer"], noises=(), source=other)
    expected = net(fgsm(other, x, y, 0.2)).argmax(1) == y
    assert torch.equal(report.masks["transfer"][0], expected)
    same = robustness_report(net, x, y, (0.2,), attacks=["transfer", "fgsm_true"], noises=(), source=net)
    assert same.right["transfer"] == same.right["fgsm_true"]


def test_any_callable_and_wrapped_outputs():
    weight, x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), rows()
    y = (x @ weight).argmax(1)
    report = robustness_report(lambda x: SimpleNamespace(logits=x @ weight), x, y, (0.1,))
    assert "fgsm_float64" not in report.right
    assert report.clean == 200
    with pytest.raises(ValueError, match="needs a torch module"):
        robustness_report(lambda x: x @ weight, x, y, attacks=["fgsm_float64"])
    with pytest.raises(ValueError, match="no gradient to attack"):
        robustness_report(lambda x: (x @ weight).detach(), x, y)


def test_modes_come_back_and_seeds_repeat():
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)).train()
    net[1].eval()
    before = net[1].running_mean.clone()
    x, y = rows(), torch.arange(200) % 3
    first, second = (robustness_report(net, x, y, (0.1,), restarts=2, seed=4) for _ in range(2))
    assert first.right == second.right
    assert [part.training for part in net] == [True, False, True, True]
    assert torch.equal(net[1].running_mean, before)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(x=torch.full((4, 6), 2.0)), "outside bounds"),
        (dict(x=torch.full((4, 6), math.nan)), "outside bounds"),
        (dict(x=torch.zeros(0, 6), y=torch.zeros(0, dtype=torch.long)), "expected shapes"),
        (dict(y=torch.zeros(3, dtype=torch.long)), "expected shapes"),
        (dict(y=torch.zeros(4)), "whole numbers"),
        (dict(y=torch.tensor([0, 1, 2, 9])), "4 classes"),
        (dict(eps=(-0.1,)), "from 0"),
        (dict(attacks=["deepfool"]), "attacks fgsm"),
        (dict(attacks=["transfer"]), "give source="),
        (dict(model=nn.Linear(6, 1)), "two classes or more"),
        (dict(model=lambda x: x @ torch.full((6, 4), math.inf)), "not finite"),
    ],
)
def test_bad_arguments_are_refused_in_words(change, words):
    given = dict(model=linear(0), x=torch.rand(4, 6), y=torch.tensor([0, 1, 2, 3]), eps=(0.1,)) | change
    with pytest.raises(ValueError, match=words):
        robustness_report(**given)


def test_pgd_without_stopping_is_the_plain_loop():
    net, x = perceptron(2), rows(seed=2)
    y = net(x).argmax(1)
    for loss in ("margin", "cross_entropy"):
        moved = pgd(net, x, y, 0.1, steps=7, step_size=0.03, loss=loss, stop=False)
        slow = x.clone()
        for _ in range(7):
            gradient = input_gradient(net, slow, y, loss)
            slow = (slow + 0.03 * gradient.sign()).clamp(x - 0.1, x + 0.1).clamp(0, 1)
        torch.testing.assert_close(moved, slow)
    for steps, restarts in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="from 1"):
            pgd(net, x, y, steps=steps, restarts=restarts)


def test_stopping_early_fools_no_fewer_rows():
    net, x = perceptron(2), rows(seed=2)
    y = net(x).argmax(1)
    for restarts, rivals in itertools.product((1, 3), (0, 2)):
        generator = torch.Generator().manual_seed(1)
        early = margin_pgd(net, x, y, 0.1, restarts=restarts, rivals=rivals, generator=generator)
        end = margin_pgd(net, x, y, 0.1, stop=False)
        survivors = logits_of(net, early).argmax(1) == y
        assert not bool((survivors & (logits_of(net, end).argmax(1) != y)).any())


def test_attacks_are_those_of_torchattacks():
    """Where it is installed: the same images from the same steps."""
    torchattacks = pytest.importorskip("torchattacks", exc_type=ImportError)
    net, x = nn.Sequential(nn.Flatten(), perceptron()).eval(), rows().reshape(200, 1, 2, 3)
    y = net(x).argmax(1)
    one = torchattacks.FGSM(net, eps=0.1)(x, y)
    many = torchattacks.PGD(net, eps=0.1, alpha=0.02, steps=10, random_start=False)(x, y)
    torch.testing.assert_close(fgsm(net, x, y, 0.1), one)
    ours = pgd(net, x, y, 0.1, steps=10, step_size=0.02, loss="cross_entropy", stop=False)
    assert float(((ours - many).abs() > 1e-4).float().mean()) < 1e-3
