"""Modular addition: the exact solution, the decoding, the flow against the true gradient."""

import math

import pytest
import torch

from paperworks.analysis.modular_addition import (
    FourierRows,
    ModularAdditionMLP,
    ModularTask,
    construct_exact_solution,
    dominant_frequency,
    flawed_indicator,
    fourier_basis,
    fourier_decode,
    fourier_encode,
    frequency_histogram,
    grokking_stages,
    inverse_participation,
    largest_coefficient_frequency,
    lottery_rates,
    phase_misalignment,
    phase_symmetry,
    predict_winner,
)
from paperworks.analysis.modular_addition.lottery import blow_up_time, integrate
from paperworks.analysis.modular_addition.task import Pairs


def all_pairs(p: int) -> torch.Tensor:
    return torch.cartesian_prod(torch.arange(p), torch.arange(p))


@pytest.mark.parametrize("p", [3, 7, 9, 23])
@pytest.mark.parametrize("phases", [3, 5])
def test_exact_solution_is_the_flawed_indicator(p, phases):
    logits = construct_exact_solution(p, phases)(all_pairs(p))
    expected = flawed_indicator(p, 1.0, 1.0, phases)
    assert (logits.view(p, p, p) - expected).abs().max() < 1e-10
    assert torch.equal(logits.argmax(-1), all_pairs(p).sum(-1) % p)


@pytest.mark.parametrize("phases", [1, 2])
def test_one_or_two_phases_are_at_chance(phases):
    p = 23
    right = construct_exact_solution(p, phases)(all_pairs(p)).argmax(-1) == all_pairs(p).sum(-1) % p
    assert right.double().mean().item() == pytest.approx(1 / p, abs=0.5 / p)


def test_four_phases_tie_with_the_right_answer():
    p = 23
    logits = construct_exact_solution(p, 4)(all_pairs(p))
    right = logits.gather(1, (all_pairs(p).sum(-1) % p)[:, None])[:, 0]
    tied = (logits > logits.max(-1, keepdim=True).values - 1e-9).sum(-1)
    assert torch.all(right > logits.max(-1).values - 1e-9)
    assert (tied >= 2).double().mean() > 0.9


def test_basis_is_orthonormal_and_decoding_inverts_encoding():
    basis = fourier_basis(11)
    assert (basis @ basis.T - torch.eye(11).double()).abs().max() < 1e-14
    rows = torch.randn(5, 23, dtype=torch.float64)
    assert (fourier_encode(fourier_decode(rows)) - rows).abs().max() < 1e-13


def test_shifting_the_input_rotates_phases():
    row = torch.randn(1, 23, dtype=torch.float64)
    k = torch.arange(1, 12, dtype=torch.float64)
    before, after = fourier_decode(row).phi, fourier_decode(row.roll(-3, dims=1)).phi
    turned = torch.remainder(after - before - 2 * math.pi * k * 3 / 23 + math.pi, 2 * math.pi) - math.pi
    assert turned.abs().max() < 1e-9


def test_aligned_neurons_have_no_misalignment():
    model = construct_exact_solution(11)
    into, out = fourier_decode(model.w_in.detach()), fourier_decode(model.w_out.detach().T)
    k, rows = dominant_frequency(into.alpha), torch.arange(model.width)
    assert phase_misalignment(into.phi[rows, k], out.phi[rows, k]).abs().max() < 1e-9
    assert torch.equal(largest_coefficient_frequency(model.w_in.detach()), k)
    assert torch.equal(frequency_histogram(k, 11), torch.full((5,), 3))
    assert phase_symmetry(into.phi[k == 0, 0], (1, 2, 4)).abs().max() < 1e-12
    assert phase_symmetry(into.phi[k == 0, 0], (3,)).item() == pytest.approx(1)


def test_inverse_participation_of_a_single_frequency():
    phi = torch.tensor([0.3], dtype=torch.float64)
    alpha = torch.zeros(1, 5, dtype=torch.float64)
    alpha[0, 2] = 1.0
    row = fourier_encode(FourierRows(alpha, torch.zeros(1, 5).double() + phi, torch.zeros(1).double()))
    assert inverse_participation(row).item() == pytest.approx(1)
    assert inverse_participation(row, "coefficient").item() == pytest.approx(math.cos(0.3) ** 4 + math.sin(0.3) ** 4)


def test_flow_conserves_its_invariants_and_unstable_point_stays():
    alpha, beta = (0.01 + 0.1 * torch.rand(2, 50, dtype=torch.float64)).unbind(0)
    gap = 6 * torch.rand(50, dtype=torch.float64) - 3
    _, (a, b, d) = integrate(alpha, beta, gap, until=1.0, accuracy=0.02)
    assert ((a**2 - 2 * b**2) - (alpha**2 - 2 * beta**2)).abs().max() < 1e-6
    assert (a**2 * b * d.sin() - alpha**2 * beta * gap.sin()).abs().max() < 1e-6
    rates = lottery_rates(alpha, beta, torch.full_like(alpha, math.pi))
    assert max(rate.abs().max() for rate in rates[2:]) < 1e-12


def test_aligned_frequency_blows_up_as_the_closed_form_says():
    start = torch.tensor([0.1], dtype=torch.float64)
    # alpha^2 = 2 beta^2 stays so, hence beta' = 2 beta^2 and the blow-up comes at 1 / (2 beta)
    time = blow_up_time(math.sqrt(2) * start, start, torch.zeros(1).double())
    assert time.item() == pytest.approx(1 / 0.2, rel=0.05)


def test_flow_is_the_gradient_of_the_true_loss():
    """At small weights, each rate against automatic differentiation of the mean cross-entropy: the signs too."""
    torch.manual_seed(0)
    p, width, size = 11, 6, 1e-4
    model = ModularAdditionMLP(p, width, "square").double()
    for weight in model.parameters():
        weight.data = size * torch.randn(weight.shape, dtype=torch.float64)
    model.loss(ModularTask(p).train).backward()
    into, out = fourier_decode(model.w_in.detach()), fourier_decode(model.w_out.detach().T)
    h = 1e-3  # a tiny step along minus the gradient, and the change of the waves it makes
    ahead = [
        fourier_decode(w.detach() - h * g)
        for w, g in ((model.w_in, model.w_in.grad), (model.w_out.T, model.w_out.grad.T))
    ]
    behind = [
        fourier_decode(w.detach() + h * g)
        for w, g in ((model.w_in, model.w_in.grad), (model.w_out.T, model.w_out.grad.T))
    ]

    def slope(i: int, name: str) -> torch.Tensor:
        change = getattr(ahead[i], name) - getattr(behind[i], name)
        if name == "phi":
            change = torch.remainder(change + math.pi, 2 * math.pi) - math.pi
        return change / (2 * h) * p

    expected = lottery_rates(into.alpha, out.alpha, phase_misalignment(into.phi, out.phi))
    measured = slope(0, "alpha"), slope(1, "alpha"), slope(0, "phi"), slope(1, "phi")
    for rate, found in zip(expected, measured, strict=True):
        assert (rate - found).norm() / rate.norm() < 1e-6


def test_winner_of_an_aligned_large_wave_is_that_wave():
    model = ModularAdditionMLP(11, 4, "square").double()
    waves = FourierRows(torch.full((4, 5), 0.01), torch.rand(4, 5), torch.zeros(4))
    alpha = waves.alpha.clone().double()
    alpha[:, 3] = 0.1
    model.w_in.data = fourier_encode(FourierRows(alpha, waves.phi.double(), waves.dc.double()))
    model.w_out.data = fourier_encode(FourierRows(alpha, 2 * waves.phi.double(), waves.dc.double())).T
    for score in ("ode", "alpha_beta_cos", "alpha"):
        assert torch.all(predict_winner(model, score) == 3)
    with pytest.raises(ValueError, match="one of ode"):
        predict_winner(model, "luck")


def test_inputs_commute_and_unordered_batch_is_exact():
    torch.manual_seed(0)
    model = ModularAdditionMLP(9, 16, "gelu", init_scale=1.0).double()
    pairs = all_pairs(9)
    assert torch.equal(model(pairs), model(pairs.flip(-1)))
    task = ModularTask(9, train_fraction=0.7, seed=3)
    ordered = torch.cat([task.train.pairs.repeat_interleave(task.train.weights, 0)])
    labels = task.train.labels.repeat_interleave(task.train.weights, 0)
    whole = Pairs(ordered, labels, torch.ones(len(labels), dtype=torch.long))
    gradients = []
    for batch in (task.train, whole):
        model.zero_grad()
        model.loss(batch).backward()
        gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_splits():
    task = ModularTask(11, train_fraction=0.75, seed=1)
    assert int(task.train.weights.sum()) == int(0.75 * 121)
    assert int(task.train.weights.sum()) + len(task.test.labels) == 121
    seen = {tuple(pair) for pair in task.train.pairs.tolist()}
    swapped = [tuple(sorted(pair)) in seen for pair in task.test.pairs.tolist()]
    assert swapped == task.swap_seen.tolist()
    honest = ModularTask(11, train_fraction=0.75, split="unordered", seed=1)
    assert not honest.swap_seen.any()
    with pytest.raises(ValueError, match="odd"):
        ModularTask(10)


def test_identity_activation_separates_x_and_y():
    model = ModularAdditionMLP(7, 8, "identity", init_scale=1.0).double()
    logits = model(all_pairs(7)).view(7, 7, 7)
    mixed = logits - logits.mean(0, keepdim=True) - logits.mean(1, keepdim=True) + logits.mean((0, 1))
    assert mixed.abs().max() < 1e-12


def test_single_frequency_start():
    model = ModularAdditionMLP(11, 20, init="single_freq", init_scale=0.3).double()
    waves = fourier_decode(model.w_in.detach())
    assert (waves.alpha.max(-1).values - 0.3).abs().max() < 1e-6
    assert inverse_participation(model.w_in.detach()).min() > 1 - 1e-6
    assert torch.all(frequency_histogram(dominant_frequency(waves.alpha), 11) == 4)


def test_stages_are_first_crossings():
    assert grokking_stages([0, 10, 20, 30], [0.1, 0.96, 1, 1], [0, 0.5, 0.7, 0.99]) == (10, 30)
    assert grokking_stages([0, 10], [0.1, 0.2], [0.0, 0.1]) == (None, None)


def test_official_names_load_strictly():
    model = ModularAdditionMLP(5, 4)
    state = {"mlp.W_in": torch.randn(4, 5), "mlp.W_out": torch.randn(5, 4)}
    assert torch.equal(model.load_official(state).w_in, state["mlp.W_in"])
    with pytest.raises(ValueError, match="expected"):
        model.load_official({"W_in": state["mlp.W_in"]})
    with pytest.raises(ValueError, match="shape"):
        model.load_official({**state, "mlp.W_in": torch.randn(5, 5)})
