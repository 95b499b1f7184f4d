"""Multitasking Hebbian network: exact averages, equations, thresholds, laws and symmetries."""

import itertools
import math

import numpy as np
import pytest
import torch

from paperworks import cli
from paperworks.errors import DataFileError, PaperworksError
from paperworks.learning.multitasking_hebbian import (
    MultitaskingHebbian,
    dataset_entropy,
    dilute_patterns,
    examples_needed,
    hierarchical_overlaps,
    hierarchical_state,
    hierarchical_threshold,
    noisy_examples,
    one_step_overlap,
    overlaps,
    pattern_losses,
    phase_diagram,
    solve_self_consistency,
    ternarise,
)
from paperworks.learning.multitasking_hebbian.tool import estimated_quality, read_patterns, recall


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def spins(n, size, generator):
    return 2.0 * torch.randint(0, 2, (n, size), generator=generator) - 1


def all_states(n):
    return torch.tensor(list(itertools.product((-1.0, 1.0), repeat=n)))


@pytest.mark.parametrize("update", ["sequential", "block"])
def test_sampler_gives_the_averages_of_exact_enumeration(update):
    patterns = dilute_patterns(2, 10, 0.3, drawn(3))
    memory = MultitaskingHebbian.store(patterns, dilution=0.3)
    states, temperature = all_states(10), 0.7
    weight = torch.softmax(-10 * memory.energy(states).double() / temperature, 0)
    exact = weight @ overlaps(states, patterns).double().square()
    replicas = 4_000
    found = memory.recall(
        spins(replicas, 10, drawn(1)),
        temperature=temperature,
        sweeps=25,
        update=update,
        block_share=0.1,
        generator=drawn(2),
    )
    sampled = found.overlaps.double().square()
    assert ((sampled.mean(0) - exact).abs() < 4 * sampled.std(0) / math.sqrt(replicas)).all()


@pytest.mark.parametrize("rule", ["storing", "supervised", "unsupervised", "pseudo_inverse"])
def test_fields_and_energy_are_those_of_the_full_couplings(rule):
    patterns = dilute_patterns(3, 30, 0.4, drawn())
    if rule in ("supervised", "unsupervised"):
        memory = MultitaskingHebbian.learn(noisy_examples(patterns, 7, 0.5, drawn(1)), quality=0.5, rule=rule)
    else:
        memory = MultitaskingHebbian.store(patterns, rule=rule)
    states = spins(6, 30, drawn(2))
    couplings = memory.couplings()
    assert couplings.diagonal().abs().max() == 0
    torch.testing.assert_close(couplings, couplings.T, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(memory.fields(states), states @ couplings.T, rtol=1e-4, atol=1e-5)
    energy = -0.5 * torch.einsum("bi,ij,bj->b", states, couplings, states) / 30
    torch.testing.assert_close(memory.energy(states), energy, rtol=1e-4, atol=1e-5)


def test_pseudo_inverse_keeps_its_patterns_and_projects():
    patterns = dilute_patterns(3, 40, 0.0, drawn())
    memory = MultitaskingHebbian.store(patterns, rule="pseudo_inverse")
    projection = memory.duals.T @ memory.factors / 40
    torch.testing.assert_close(projection @ projection, projection, rtol=1e-4, atol=1e-5)
    assert torch.equal(memory.recall(patterns, sweeps=3).states, patterns)


def test_energy_is_the_sum_of_squared_overlaps_and_of_losses():
    patterns = dilute_patterns(3, 50, 0.4, drawn()).double()
    states = spins(5, 50, drawn(1)).double()
    memory = MultitaskingHebbian.store(patterns.float(), dilution=0.4)
    m, a = overlaps(states, patterns), (patterns != 0).double().mean(1)
    diagonal = a.sum() / (2 * 50 * 0.6)
    expected = -m.square().sum(1) / (2 * 0.6) + diagonal
    torch.testing.assert_close(memory.energy(states.float()).double(), expected, rtol=1e-4, atol=1e-6)
    losses = pattern_losses(states, patterns)
    torch.testing.assert_close(losses, ((1 + a) ** 2 - 4 * m.square()) / 4, rtol=0, atol=1e-12)
    by_losses = (losses - (1 + a) ** 2 / 4).sum(1) / (2 * 0.6)
    torch.testing.assert_close(by_losses, -m.square().sum(1) / (2 * 0.6), rtol=0, atol=1e-12)


def test_no_move_at_zero_temperature_raises_the_energy():
    memory = MultitaskingHebbian.store(dilute_patterns(4, 60, 0.5, drawn()))
    states = spins(8, 60, drawn(1))
    before = memory.energy(states)
    for seed in range(5):
        after = memory.recall(states, sweeps=1, update="sequential", generator=drawn(seed))
        assert (after.energy <= before + 1e-6).all()
        states, before = after.states, after.energy
    settled = memory.recall(states, sweeps=30, update="sequential", generator=drawn(9)).states
    field = memory.fields(settled)
    assert ((field.abs() < 1e-6) | (torch.sign(field) == settled)).all()


def test_forward_follows_the_field_block_by_block():
    memory = MultitaskingHebbian.store(dilute_patterns(3, 24, 0.3, drawn()), sweeps=2, n_blocks=4)
    states = spins(5, 24, drawn(1))
    slow = states.clone()
    for _ in range(2):
        for first in range(4):
            field = memory.fields(slow)[:, first::4]
            slow[:, first::4] = torch.where(field == 0, slow[:, first::4], torch.sign(field))
    assert torch.equal(memory(states), slow)


def test_perfect_examples_make_all_rules_one():
    patterns = dilute_patterns(3, 40, 0.3, drawn())
    examples = noisy_examples(patterns, 5, 1.0, drawn(1))
    assert torch.equal(examples, patterns[:, None].expand_as(examples))
    stored = MultitaskingHebbian.store(patterns).couplings()
    for rule in ("supervised", "unsupervised"):
        learnt = MultitaskingHebbian.learn(examples, quality=1.0, rule=rule).couplings()
        torch.testing.assert_close(learnt, stored, rtol=1e-5, atol=1e-6)


def test_gauge_invariance_and_flipped_patterns():
    patterns, states, gauge = dilute_patterns(3, 40, 0.3, drawn()), spins(4, 40, drawn(1)), spins(1, 40, drawn(2))
    plain = MultitaskingHebbian.store(patterns).recall(states, sweeps=4, generator=drawn(5))
    turned = MultitaskingHebbian.store(patterns * gauge).recall(states * gauge, sweeps=4, generator=drawn(5))
    assert torch.equal(turned.states, plain.states * gauge)
    torch.testing.assert_close(turned.overlaps, plain.overlaps)
    signs = torch.tensor([1.0, -1.0, 1.0])
    flipped = MultitaskingHebbian.store(patterns * signs[:, None]).recall(states, sweeps=4, generator=drawn(5))
    torch.testing.assert_close(flipped.overlaps, plain.overlaps * signs)


def test_examples_have_their_quality_and_patterns_their_dilution():
    patterns = dilute_patterns(4, 20_000, 0.3, drawn())
    assert abs(float((patterns == 0).float().mean()) - 0.3) < 0.01
    assert abs(float(patterns.mean())) < 0.01
    examples = noisy_examples(patterns, 6, 0.4, drawn(1))
    assert torch.equal(examples == 0, (patterns == 0)[:, None].expand_as(examples))
    kept = (examples * patterns[:, None]).sum() / (examples != 0).sum()
    assert abs(float(kept) - 0.4) < 0.01
    assert abs(estimated_quality(examples) - 0.4) < 0.01


# Theory


def test_hierarchical_state_has_the_hierarchical_overlaps():
    expected = hierarchical_overlaps(4, 0.4)
    assert float(expected.sum()) == pytest.approx(1 - 0.4**4)
    patterns = dilute_patterns(4, 200_000, 0.4, drawn())
    found = overlaps(hierarchical_state(patterns, drawn(1)), patterns)[0].double()
    assert (found - expected).abs().max() < 5 / math.sqrt(200_000)


def test_thresholds_are_roots():
    assert hierarchical_threshold(2) == 1.0
    assert hierarchical_threshold(3) == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-9)
    assert hierarchical_threshold(5) == pytest.approx(0.51879, abs=1e-5)
    assert hierarchical_threshold(40) == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.2])
def test_one_pattern_without_blanks_is_the_curie_weiss_magnet(temperature):
    m = float(solve_self_consistency(1, 0.0, temperature).overlaps)
    assert m == pytest.approx(math.tanh(m / temperature), abs=1e-9)
    assert (m > 0.1) == (temperature < 1)


def test_nothing_is_recalled_above_temperature_one():
    for d in (0.0, 0.4, 0.8):
        assert float(solve_self_consistency(3, d, 1.1).overlaps.abs().max()) < 1e-6
        assert float(solve_self_consistency(3, d, 0.9).overlaps.abs().max()) > 0.05 * (1 - d)


def test_symmetric_state_of_two_patterns_is_stable_only_above_one_minus_d():
    """The growth of a small difference in one undamped iteration, at low temperature, is (1 - d) / T."""
    d = 0.9
    for temperature, grows in ((0.05, True), (0.2, False)):
        symmetric = solve_self_consistency(2, d, temperature, start=torch.tensor([0.05, 0.05])).overlaps
        nudge = torch.tensor([1.0, -1.0], dtype=torch.float64) * 1e-6
        after = solve_self_consistency(2, d, temperature, start=symmetric + nudge, damping=0.0, iterations=1)
        moved = after.example_overlaps - symmetric
        growth = float((moved[0] - moved[1]) / (nudge[0] - nudge[1]))
        assert (growth > 1) is grows
        spread = phase_diagram(2, torch.tensor([d]), torch.tensor([temperature]))
        assert (float(spread) > 0.05) is grows


def test_mean_field_with_noise_equals_sampling_its_gaussians():
    d, temperature, rho = 0.3, 0.3, 0.8
    found = solve_self_consistency(2, d, temperature, entropy=rho, nodes=61)
    n, generator = 400_000, drawn()
    columns = dilute_patterns(2, n, d, generator).double()
    noisy = columns + math.sqrt(rho) * columns.abs() * torch.randn(2, n, generator=generator, dtype=torch.float64)
    state = torch.tanh(found.example_overlaps @ noisy / (temperature * (1 - d) * (1 + rho)))
    assert ((columns * state).mean(1) - found.overlaps).abs().max() < 5 / math.sqrt(n)
    assert ((noisy * state).mean(1) - found.example_overlaps).abs().max() < 10 / math.sqrt(n)


@pytest.mark.parametrize("rule", ["supervised", "unsupervised"])
def test_learnt_network_settles_where_mean_field_says(rule):
    d, quality, n = 0.3, 0.5, 6_000
    patterns = dilute_patterns(2, n, d, drawn(1))
    memory = MultitaskingHebbian.learn(
        noisy_examples(patterns, 30, quality, drawn(2)), quality=quality, dilution=d, rule=rule
    )
    start = hierarchical_state(patterns, drawn(3)).expand(4, -1)
    found = memory.recall(start, patterns, temperature=0.1, sweeps=30, generator=drawn(4)).overlaps.mean(0).double()
    theory = solve_self_consistency(2, d, 0.1, entropy=dataset_entropy(quality, 30)).overlaps
    assert (found - theory).abs().max() < 4 / math.sqrt(n)


def test_one_step_follows_the_error_function_and_its_inverse():
    theta, quality = 0.8, 0.3
    examples = examples_needed(theta, quality)
    assert one_step_overlap(dataset_entropy(quality, examples)) == pytest.approx(math.erf(theta), abs=1e-12)
    assert one_step_overlap(0.0) == 1.0
    n, d, m = 20_000, 0.3, 40
    pattern = dilute_patterns(1, n, d, drawn())
    memory = MultitaskingHebbian.learn(noisy_examples(pattern, m, quality, drawn(1)), quality=quality)
    start = torch.where(pattern != 0, pattern, spins(1, n, drawn(2)))
    step = float((torch.sign(memory.fields(start)) * pattern).sum() / pattern.abs().sum())
    assert abs(step - one_step_overlap(dataset_entropy(quality, m))) < 3 / math.sqrt(n * (1 - d))


# Files


def test_tool_recalls_what_a_file_holds(tmp_path, monkeypatch, capsys):
    patterns = dilute_patterns(3, 400, 0.4, drawn()).int().numpy()
    np.savetxt(tmp_path / "patterns.csv", patterns, fmt="%d", delimiter=",")
    assert np.array_equal(read_patterns(tmp_path / "patterns.csv").int().numpy(), patterns)
    out = tmp_path / "state.npz"
    monkeypatch.setattr("sys.argv", ["paperworks", "recall", str(tmp_path / "patterns.csv"), "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (0, None)
    assert "dilution" in capsys.readouterr().out
    with np.load(out) as written:
        np.testing.assert_allclose(written["overlaps"], written["state"] @ patterns.T / 400, atol=1e-5)


def test_tool_learns_from_examples(tmp_path):
    patterns = dilute_patterns(2, 900, 0.3, drawn())
    np.savez(tmp_path / "examples.npz", examples=noisy_examples(patterns, 30, 0.4, drawn(1)).numpy())
    for labels in (True, False):
        answer = recall(tmp_path / "examples.npz", labels=labels)
        assert answer["overlaps"][0] > 0.5
        assert answer["rule"] == ("supervised" if labels else "unsupervised")
    with pytest.raises(PaperworksError, match="quality"):
        recall(tmp_path / "examples.npz", quality=1.5)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "1,0,-1\n1,0\n", "line 2"),
        ("a.csv", "1,0,2\n", "line 1"),
        ("a.csv", "", "empty"),
        ("a.csv", "1,x,0\n", "'x'"),
        ("a.npz", {"patterns": np.array([[0.5, 1.0]])}, "expected -1, 0 or 1"),
        ("a.npz", {"patterns": np.array([[np.nan, 1.0]])}, "a.npz"),
        ("a.npz", {"other": np.zeros((2, 2))}, "expected 'patterns'"),
        ("a.npz", {"patterns": np.zeros(3)}, "shape"),
        ("a.npz", {"patterns": np.zeros((0, 3))}, "a.npz"),
        ("a.npz", {"patterns": np.zeros((2, 3))}, "nothing to store"),
        ("a.txt", "1", "a.txt"),
    ],
)
def test_broken_files_are_told(tmp_path, name, content, told):
    path = tmp_path / name
    if isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_text(content)
    with pytest.raises(DataFileError, match=told):
        read_patterns(path)


def test_absent_file_is_told(tmp_path):
    with pytest.raises(DataFileError, match="nowhere"):
        read_patterns(tmp_path / "nowhere.csv")


def test_ternarise_cuts_at_quantiles():
    cut = ternarise(torch.randn(3, 1_000, generator=drawn()), blank=0.4)
    assert (cut == 0).float().mean(1).sub(0.4).abs().max() < 0.01
    assert cut.mean(1).abs().max() < 0.01


def test_wrong_arguments_are_refused():
    memory = MultitaskingHebbian.store(dilute_patterns(2, 10, 0.2, drawn()))
    for call in (
        lambda: MultitaskingHebbian(4, 2, "other"),
        lambda: dilute_patterns(2, 5, 1.0),
        lambda: noisy_examples(torch.ones(1, 3), 2, 0.0),
        lambda: memory.recall(torch.ones(1, 10), temperature=-1.0),
        lambda: memory.recall(torch.ones(1, 10), update="other"),
        lambda: memory(torch.ones(1, 11)),
        lambda: solve_self_consistency(11, 0.2, 0.5),
        lambda: solve_self_consistency(2, 0.2, 0.0),
    ):
        with pytest.raises(ValueError, match=r"."):
            call()
