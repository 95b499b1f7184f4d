"""Mathematics of the projections, the search, the networks, and their files (arXiv 2602.17493)."""

import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError
from paperworks.learning.boolean_threshold import (
    BooleanThresholdClassifier,
    BooleanThresholdNetwork,
    BoolearnTrainer,
    Gate,
    Items,
    Problem,
    State,
    Wiring,
    all_inputs,
    cellular_automaton,
    circuit_of,
    code_words,
    find_networks,
    multiplier_table,
    project_bilinear,
    project_boolean_threshold,
    random_logic_network,
    read_dat,
    read_net,
    read_wth,
    rrr,
    weighted_concur,
    wiring_of,
    write_dat,
    write_net,
    write_wth,
)
from paperworks.learning.boolean_threshold.gradients import (
    bit_accuracy,
    hard,
    outputs,
    straight_through_sign,
    train_starts,
)
from paperworks.learning.boolean_threshold.logic import neuron_gate
from paperworks.learning.boolean_threshold.projections import margin_factors

DOUBLE = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# Projections


@pytest.mark.parametrize("c", [-3.0, -0.2, 0.0, 0.7, 4.0])
def test_bilinear_projection_reaches_the_product_and_is_nearest(c):
    w, x = draw(200, 5), draw(200, 5, seed=1)
    near_w, near_x = project_bilinear(w, x, c)
    torch.testing.assert_close((near_w * near_x).sum(-1), torch.full((200,), c, dtype=DOUBLE), atol=1e-9, rtol=0)
    # Lagrange: w' - w = u x' and x' - x = u w' with the same u
    u = ((near_w - w) * near_x).sum(-1) / near_x.square().sum(-1)
    torch.testing.assert_close(near_w - w, u[:, None] * near_x, atol=1e-7, rtol=0)
    torch.testing.assert_close(near_x - x, u[:, None] * near_w, atol=1e-7, rtol=0)
    assert (u.abs() < 1).all()


def test_bilinear_projection_in_one_dimension_and_its_symmetries():
    one = torch.ones(1, dtype=DOUBLE)
    w, x = project_bilinear(one, one, 4.0)
    torch.testing.assert_close(torch.cat([w, x]), torch.tensor([2.0, 2.0], dtype=DOUBLE))
    w, x = draw(50, 4), draw(50, 4, seed=1)
    there = project_bilinear(w, x, (w * x).sum(-1))
    torch.testing.assert_close(there[0], w)
    torch.testing.assert_close(there[1], x)
    torch.testing.assert_close(project_bilinear(x, w, 1.3), project_bilinear(w, x, 1.3)[::-1])


def test_two_newton_steps_in_single_precision_are_on_the_margin_and_near_the_nearest_point():
    w, x = draw(5000, 5).float(), draw(5000, 5, seed=1).float()
    rough, fine = project_bilinear(w, x, 1.29, steps=2), project_bilinear(w.double(), x.double(), 1.29)
    assert ((rough[0] * rough[1]).sum(-1) - 1.29).abs().max() < 1e-5
    below = (w * x).sum(-1) < 1.29
    assert (rough[0] - fine[0])[below].abs().max() < 1e-4


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
def test_what_is_beyond_the_margin_is_left_alone(steps):
    """Also where Newton's method, left to itself, would run away to the left and come back."""
    near, far = 10 ** draw(4000), 10 ** draw(4000, seed=1)
    there = near - far >= 1
    assert 1000 < there.sum() < 3000
    first, second = margin_factors(near, far, steps)
    assert (first[there] == 1).all()
    assert (second[there] == 1).all()
    assert (second[~there] > 1).all()


@pytest.mark.parametrize("exact", [False, True])
def test_neuron_projection_is_the_cheaper_of_two_and_idempotent(exact):
    w, x, y = draw(3000, 5), draw(3000, 5, seed=1), 2 * draw(3000, seed=2)
    margin = math.sqrt(5 / 3)
    new_w, new_x, sign = project_boolean_threshold(w, x, y, 3.0, exact)
    dot, costs, points = (w * x).sum(-1), [], []
    for s in (1.0, -1.0):
        a, b = project_bilinear(w, x, s * margin)
        there = (s * dot >= margin)[:, None]
        a, b = torch.where(there, w, a), torch.where(there, x, b)
        points.append((a, b))
        costs.append((y - s) ** 2 + ((a - w) ** 2 + (b - x) ** 2).sum(-1))
    up = costs[0] < costs[1]
    if not exact:
        up = torch.where(y * dot > 0, y > 0, up)
    assert torch.equal(sign > 0, up)
    for mine, plus, minus in zip((new_w, new_x), *points, strict=True):
        torch.testing.assert_close(mine, torch.where(up[:, None], plus, minus), atol=1e-9, rtol=0)
    assert (sign * (new_w * new_x).sum(-1) >= margin - 1e-9).all()
    again = project_boolean_threshold(new_w, new_x, sign, 3.0, exact)
    torch.testing.assert_close(again[0], new_w)
    assert torch.equal(again[2], sign)


def test_weighted_concur_averages_and_normalises():
    copies, g = draw(7, 5), draw(7, 5, seed=1).abs()
    torch.testing.assert_close(weighted_concur(copies, torch.ones_like(g), 0)[0], copies.mean(0))
    mean = weighted_concur(copies[:, :, None], g[:, :1, None].expand(7, 5, 1), 0, norm=None)[0, :, 0]
    torch.testing.assert_close(mean, (g[:, :1] * copies).sum(0) / g[:, 0].sum())
    assert float(weighted_concur(copies, g, 0, 5**0.5).norm()) == pytest.approx(5**0.5)


def test_rrr_finds_where_two_lines_meet_and_is_douglas_rachford_at_one():
    angle = 0.4
    direction = torch.tensor([math.cos(angle), math.sin(angle)], dtype=DOUBLE)
    line_a = lambda z: torch.stack([z[0], torch.zeros_like(z[0])])  # noqa: E731
    line_b = lambda z: direction * (direction @ z)  # noqa: E731
    start = torch.tensor([1.0, 2.0], dtype=DOUBLE)
    found, steps, gap = rrr(line_a, line_b, start, beta=0.7, steps=500)
    assert steps < 500
    assert gap <= 1e-6
    assert found.norm() < 1e-5
    one = rrr(line_a, line_b, start, beta=1.0, steps=1, stop=0.0)[0]
    reflect = lambda project, z: 2 * project(z) - z  # noqa: E731
    torch.testing.assert_close(one, line_a((start + reflect(line_b, reflect(line_a, start))) / 2))


# The search


def problem(dtype=DOUBLE, **options):
    x, y = multiplier_table(2)
    return Problem(wiring_of("multiplier_2x2"), 2.0 * x - 1, 2.0 * y - 1, dtype=dtype, **options)


def plain_step(wiring, w, x, y, g, data, labels, sigma, beta, gamma):
    """One iteration item by item, edge by edge, written from the definition."""
    n_items, first, n = len(y), 1 + wiring.n_inputs, wiring.n_nodes
    into = {k: [e for e, (r, _) in enumerate(wiring.edges) if r == k] for k in range(first, n)}
    out_of = {k: [e for e, (_, s) in enumerate(wiring.edges) if s == k] for k in range(n)}
    wa, xa, ya = w.clone(), x.clone(), y.clone()
    ya[:, :first] = data
    for i, k in itertools.product(range(n_items), range(first, n)):
        e = into[k]
        wa[i, e], xa[i, e], ya[i, k] = project_boolean_threshold(w[i, e], x[i, e], y[i, k], sigma)
    wr, xr, yr = 2 * wa - w, 2 * xa - x, 2 * ya - y
    wb, yb = torch.empty(w.shape[1], dtype=DOUBLE), torch.empty_like(y)
    for k in range(first, n):
        mean = (g[:, k, None] * wr[:, into[k]]).sum(0) / g[:, k].sum()
        wb[into[k]] = mean * math.sqrt(len(into[k])) / mean.norm()
    for i, k in itertools.product(range(n_items), range(n)):
        e = out_of[k]
        heads = [wiring.edges[j][0] for j in e]
        total = g[i, k] * yr[i, k] + (g[i, heads] * xr[i, e]).sum()
        yb[i, k] = total / (g[i, k] + g[i, heads].sum())
    yb[:, n - wiring.n_outputs :] = labels
    xb = yb[:, [s for _, s in wiring.edges]]
    gaps = (yb - ya) ** 2
    for k in range(first, n):
        gaps[:, k] += ((wb - wa)[:, into[k]] ** 2 + (xb - xa)[:, into[k]] ** 2).sum(1)
    mean_gap = gaps[:, first:].mean()
    g = g.clone()
    g[:, first:] += gamma * (gaps[:, first:] / mean_gap - g[:, first:])
    return w + beta * (wb - wa), x + beta * (xb - xa), y + beta * (yb - ya), g, wb, mean_gap.sqrt()


@pytest.mark.parametrize("graph", ["layered", "free"])
def test_a_step_is_what_the_definition_says(graph):
    if graph == "layered":
        wiring = Wiring.layered((3, 2, 2))
    else:  # an edge that skips a layer, neurons with different senders, an output before another
        edges = ((4, 0), (4, 1), (4, 2), (5, 0), (5, 2), (5, 3), (6, 4), (6, 1), (7, 0), (7, 4), (7, 5))
        wiring = Wiring(8, 3, 2, edges)
    bits = all_inputs(3)[:5]
    labels = 2.0 * bits[:, :2].double() - 1
    p = Problem(wiring, 2.0 * bits - 1, labels, dtype=DOUBLE)
    state = p.start([3])
    w, x, y, g = (tensor[..., 0].T.contiguous() for tensor in p.copies(state))
    g = torch.cat([torch.ones(5, 4, dtype=DOUBLE), 0.5 + draw(5, wiring.n_nodes - 4).abs()], 1)
    state = p.state(w.T[..., None], x.T[..., None], y.T[4:][: len(p.hidden), :, None], g.T[4:, :, None])
    data = torch.cat([-torch.ones(5, 1, dtype=DOUBLE), 2.0 * bits.double() - 1], 1)
    for _ in range(4):
        weights, gap, _ = p.step(state, 0.2, 0.05)
        w, x, y, g, wb, expected = plain_step(wiring, w, x, y, g, data, labels, 3.0, 0.2, 0.05)
        found = p.copies(state)
        for mine, theirs in zip(found, (w, x, y, g[:, 4:]), strict=True):
            torch.testing.assert_close(mine[..., 0].T, theirs, atol=1e-10, rtol=0)
        torch.testing.assert_close(p.listed(weights)[:, 0], wb, atol=1e-10, rtol=0)
        assert float(gap) == pytest.approx(float(expected), abs=1e-10)


def test_a_solution_is_a_fixed_point():
    """AND of two inputs: D = 3, w = (1, 1, 1), margin 1 = delta at sigma 3."""
    wiring = Wiring.layered((2, 1))
    x = 2.0 * all_inputs(2).double() - 1
    y = torch.where((x > 0).all(1), 1.0, -1.0).double()[:, None]
    p = Problem(wiring, x, y, dtype=DOUBLE)
    w = torch.ones(3, 4, 1, dtype=DOUBLE)
    seen = torch.cat([-torch.ones(1, 4, dtype=DOUBLE), x.T])[..., None]
    state = p.state(w, seen, torch.empty(0, 4, 1))
    before = [tensor.clone() for tensor in state.tensors()[:-1]]
    _, gap, _ = p.step(state, 0.2, 0.1)
    assert float(gap) < 1e-12
    for mine, theirs in zip(state.tensors()[:-1], before, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert torch.isfinite(state.g).all()


def test_shared_weights_have_norm_sqrt_of_the_degree():
    p = problem()
    state = p.start(range(3))
    weights, _, _ = p.step(state, 0.2, 1e-3)
    for w, group in zip(weights, p.groups, strict=True):
        torch.testing.assert_close(w.square().sum(2), torch.full_like(w[:, :, 0], group.shape[2]))


def test_starts_side_by_side_are_what_they_are_alone():
    p = problem()
    together, alone = p.start([5, 6, 7]), p.start([6])
    for _ in range(30):
        p.step(together, 0.2, 1e-3)
        p.step(alone, 0.2, 1e-3)
    for many, one in zip(together.tensors(), alone.tensors(), strict=True):
        torch.testing.assert_close(many[..., 1], one[..., 0], atol=1e-9, rtol=0)
    kept = together.kept(torch.tensor([0, 2]))
    assert isinstance(kept, State)
    assert torch.equal(kept.y[..., 1], together.y[..., 2])


def test_order_of_items_does_not_matter():
    x, y = multiplier_table(2)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    one, other = problem(), Problem(wiring_of("multiplier_2x2"), 2.0 * x[order] - 1, 2.0 * y[order] - 1, dtype=DOUBLE)
    a = one.start([1])
    w, v, nodes, _ = one.copies(a)
    b = other.state(w[:, order], v[:, order], nodes[5:13][:, order])
    for _ in range(20):
        _, gap_a, _ = one.step(a, 0.2, 1e-3)
        _, gap_b, _ = other.step(b, 0.2, 1e-3)
    torch.testing.assert_close(gap_a, gap_b, atol=1e-9, rtol=0)


def test_ended_starts_make_room_and_nothing_else_changes():
    p = problem()
    settings = dict(max_iterations=40, check_every=20, trace_every=10)
    few = find_networks(p, range(5), at_once=2, **settings)
    many = find_networks(p, range(5), at_once=5, **settings)
    assert [a.seed for a in few] == list(range(5))
    for one, other in zip(few, many, strict=True):
        assert one.iterations == other.iterations == 40
        assert one.gap == pytest.approx(other.gap)
        assert [step for step, _ in one.trace] == [10, 20, 30, 40]


def test_an_and_gate_is_found():
    x = all_inputs(2)
    found = BoolearnTrainer(n_restarts=8, max_iterations=400).fit(
        (2, 1), 2.0 * x - 1, 2.0 * x.prod(1, keepdim=True) - 1
    )
    assert len(found.solved) == 8
    assert all(a.accuracy == 1 for a in found.solved)
    assert str(found.network().to_logic(["a", "b"], ["both"])) == "both = a AND b"


def test_a_generative_model_invents_its_inputs():
    """Four patterns out of two bits: inputs are found with the network, and the network gives the patterns back."""
    patterns = torch.tensor([[1, 1, 0], [1, 0, 1], [0, 1, 1], [0, 0, 0]])
    for inputs, widths in (("signs", (2, 3)), ("one_hot", (4, 3))):
        trainer = BoolearnTrainer(n_restarts=6, max_iterations=1500, first_only=True)
        best = trainer.fit(widths, None, 2.0 * patterns - 1, inputs=inputs).best
        assert best.inputs is not None
        assert best.inputs.shape == (4, widths[0])
        assert best.inputs.abs().eq(1).all()
        if best.solved:
            net = BooleanThresholdNetwork.from_weights(Wiring.layered(widths), best.weights)
            assert torch.equal(net(best.inputs) > 0, patterns > 0)
        if inputs == "one_hot":
            assert best.inputs.eq(1).sum(1).eq(1).all()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (dict(x=torch.zeros(3, 5)), "expected shape"),
        (dict(y=torch.zeros(16, 4)), "labels are -1 or 1"),
        (dict(x=2 * torch.ones(16, 4)), r"\[-1, 1\]"),
        (dict(sigma=0.0), "sigma"),
        (dict(inputs="analog"), "inputs"),
    ],
)
def test_problems_are_refused_in_words(change, word):
    x, y = multiplier_table(2)
    given = {"x": 2.0 * x - 1, "y": 2.0 * y - 1, **change}
    with pytest.raises(ValueError, match=word):
        Problem(wiring_of("multiplier_2x2"), given.pop("x"), given.pop("y"), **given)


@pytest.mark.parametrize("options", [dict(beta=2.0), dict(gamma=1.0), dict(stop="loss"), dict(max_iterations=0)])
def test_searches_are_refused_in_words(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        find_networks(problem(), [0], **options)


def test_official_trajectory():
    """A start of the authors' program, its iterations and its metric, recorded once: see benchmarks/parity."""
    kept = json.loads((Path(__file__).parent / "boolean_threshold_trajectory.json").read_text())
    wiring = Wiring.layered(kept["widths"])
    x, y = (torch.tensor(kept[name], dtype=DOUBLE) for name in ("x", "y"))
    p = Problem(wiring, x, y, kept["sigma"], dtype=DOUBLE)
    w, v, free = (torch.tensor(kept["start"][name], dtype=DOUBLE).T[..., None] for name in ("w", "x", "free"))
    state = p.state(w, v, free)
    for gap in kept["gaps"]:
        weights, found, _ = p.step(state, kept["beta"], kept["gamma"])
        assert float(found) == pytest.approx(gap, abs=1e-12)
    expected = torch.tensor(kept["weights"], dtype=DOUBLE)
    torch.testing.assert_close(p.listed(weights)[:, 0], expected, atol=1e-11, rtol=0)


# Problems


def test_tables_of_products():
    x, y = multiplier_table(2)
    assert len(x) == 16
    rows = {tuple(a.tolist()): b.tolist() for a, b in zip(x, y, strict=True)}
    assert rows[1, 1, 1, 0] == [0, 1, 1, 0]  # 3 x 2 = 6
    powers = 2 ** torch.arange(5, -1, -1)
    x, y = multiplier_table(3)
    assert torch.equal((x[:, :3] @ powers[3:]) * (x[:, 3:] @ powers[3:]), y @ powers)


def test_rule_30_grows_from_a_single_one():
    row = torch.zeros(1, 11, dtype=torch.long)
    row[0, 5] = 1
    grown = ["".join(map(str, cellular_automaton(30, row, steps)[0].tolist())).strip("0") for steps in range(5)]
    assert grown == ["1", "111", "11001", "1101111", "110010001"]
    wide = torch.randint(0, 2, (4, 9), generator=torch.Generator().manual_seed(0))
    assert torch.equal(cellular_automaton(0b10, wide, 1, 1), wide)  # rule 2 of one neighbour copies


def test_words_are_distinct():
    words = code_words(8, torch.Generator().manual_seed(0))
    assert words.shape == (8, 8)
    assert len({tuple(word) for word in words.tolist()}) == 8


@pytest.mark.parametrize(("kind", "sizes"), [("and_or", {1, 3}), ("majority", {1, 3})])
def test_random_networks_hold_their_margin_and_use_every_signal_they_can(kind, sizes):
    widths = (8, 8, 8)
    w = random_logic_network(widths, torch.Generator().manual_seed(0), kind)
    wiring = Wiring.layered(widths)
    for block in wiring.blocks:
        own = w[torch.tensor(block.edges)]
        torch.testing.assert_close(own.square().sum(1), torch.full((8,), 9.0))
        assert set(own.ne(0).sum(1).tolist()) <= sizes
        assert own[:, 1:].ne(0).any(0).all()  # eight neurons use all eight signals
        assert (own[:, 0].ne(0).any()) == (kind == "and_or")
        for row in own:
            some = row[row != 0]
            corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(some))))
            assert (corners @ some).abs().min() >= 3**0.5 - 1e-6  # sqrt(9 / 3)


# Networks and circuits


def test_majority_of_five_weights_has_the_margin():
    """D = 5: three weights of sqrt(5 / 3) reach the margin of sigma = 3, and no more."""
    w = math.sqrt(5 / 3)
    assert 3 * w * w == pytest.approx(5)
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=DOUBLE)
    assert float((w * corners.sum(1)).abs().min()) == pytest.approx(1.29099, abs=1e-5)


@pytest.mark.parametrize("kind", ["and_or", "majority", "random"])
def test_circuits_and_their_texts_compute_what_the_network_computes(kind):
    """On all inputs: the circuit, the simplified one, BLIF and Verilog."""
    widths = (7, 6, 5, 4)
    wiring = Wiring.layered(widths)
    net = BooleanThresholdNetwork(widths)
    if kind == "random":
        torch.manual_seed(0)
        net.reset_parameters()
    else:
        weights = random_logic_network(widths, torch.Generator().manual_seed(1), kind)
        net = BooleanThresholdNetwork.from_weights(wiring, weights)
    bits = all_inputs(7).numpy()
    expected = net.predict(bits).astype(bool)
    names = ["a", "b", "3rd", "and", "e e", "e_e", "g"]
    outs = ["out", "n9", "y:1", "y_1"]
    full, small = (net.to_logic(names, outs, simplify=simplify) for simplify in (False, True))
    assert len(small.gates) <= len(full.gates)
    for circuit in (full, small):
        assert (circuit.evaluate(bits) == expected).all()
        assert (run_blif(circuit.to_blif(), bits) == expected).all()
        assert (run_verilog(circuit.to_verilog(), bits) == expected).all()


def test_constants_and_copies_disappear():
    gates = (
        Gate("one", (), (True,)),
        Gate("no_a", ("a",), (True, False)),
        Gate("same", ("no_a", "one"), (False, False, False, True)),  # AND with 1
        Gate("out", ("same", "b"), (False, True, True, True)),
        Gate("twin", ("b", "a"), (True, False, True, True)),  # the same function
        Gate("never", ("a", "one"), (False, False, False, False)),
    )
    from paperworks.learning.boolean_threshold import LogicCircuit

    circuit = LogicCircuit(("a", "b"), {"p": "out", "q": "twin", "r": "never", "s": "no_a"}, gates)
    small, bits = circuit.simplified(), all_inputs(2).numpy()
    assert (small.evaluate(bits) == circuit.evaluate(bits)).all()
    assert str(small).splitlines() == ["out = NOT a OR b", "never = 0", "s = NOT a", "p = out", "q = out", "r = never"]
    assert len(small.gates) == 3  # the OR, the constant, a negated output
    for text, run in ((small.to_blif(), run_blif), (small.to_verilog(), run_verilog)):
        assert (run(text, bits) == circuit.evaluate(bits)).all()


@pytest.mark.parametrize(
    ("weights", "constant", "kind", "text"),
    [
        ((1.0, 1.0), -1.0, "AND", "a AND b"),
        ((1.0, -1.0), 1.0, "OR", "a OR NOT b"),
        ((1.0, 1.0, 1.0), 0.0, "MAJORITY", "MAJORITY(a, b, c)"),
        ((2.0, 0.1, 0.0), 0.0, "COPY", "a"),
        ((-2.0, 0.1, 0.0), 0.3, "NOT", "NOT a"),
        ((0.1, 0.0), 0.5, "CONSTANT", "1"),
        ((2.0, 1.0, 1.0), 0.0, "THRESHOLD", "(a AND c) OR (a AND b)"),
        ((1.0, 1.0, 1.0, 1.0), -1.0, "3 OF 4", "3 OF 4(a, b, c, d)"),
    ],
)
def test_gates_of_neurons(weights, constant, kind, text):
    gate = neuron_gate("n", weights, list("abcd")[: len(weights)], constant)
    assert (gate.kind, gate.expression) == (kind, text)


def test_a_neuron_of_many_inputs_is_no_gate():
    with pytest.raises(ValueError, match="not sparse"):
        circuit_of(Wiring.layered((15, 1)), [0.0] + [1.0] * 15)


def signals_of(names, bits):
    return {name: bits[:, place].astype(bool) for place, name in enumerate(names)}


def run_blif(text, bits):
    """Evaluate BLIF: covers of 1s only."""
    lines = [line.split() for line in text.splitlines()]
    inputs, outputs = (next(line[1:] for line in lines if line[0] == key) for key in (".inputs", ".outputs"))
    signals, target, names = signals_of(inputs, bits), "", []
    for line in lines:
        if line[0] == ".names":
            *names, target = line[1:]
            assert target not in signals
            signals[target] = np.zeros(len(bits), bool)
        elif line[0][0] != ".":
            row = np.ones(len(bits), bool)
            for name, wanted in zip(names, line[0] if names else "", strict=True):
                row &= True if wanted == "-" else signals[name] == (wanted == "1")
            signals[target] = signals[target] | row
    return np.stack([signals[name] for name in outputs], 1)


def run_verilog(text, bits):
    """Evaluate assignments in order, with Python's operators of the same meaning."""
    inputs, outputs = (re.findall(rf"{kind} wire (\w+)", text) for kind in ("input", "output"))
    signals = signals_of(inputs, bits)
    for name, formula in re.findall(r"(?:wire|assign) (\w+) = (.*);", text):
        assert name not in signals
        formula = formula.replace("1'b1", "True").replace("1'b0", "False")
        signals[name] = np.broadcast_to(eval(formula, {"__builtins__": {}}, signals), len(bits))
    return np.stack([signals[name] for name in outputs], 1)


def test_network_takes_the_sign_of_zero_as_minus_one_and_binarises_when_told():
    net = BooleanThresholdNetwork((2, 1))
    with torch.no_grad():
        net.weights.copy_(torch.tensor([0.0, 1.0, 1.0]))
    x = torch.tensor([[1.0, -1.0], [0.4, 0.1], [1.0, -0.9]])
    assert net(x)[:, 0].tolist() == [-1, 1, 1]
    net.binarize_inputs = True
    assert net(x)[:, 0].tolist() == [-1, 1, -1]


def test_free_graph_network_is_saved_and_loaded(tmp_path):
    wiring = Wiring(6, 2, 1, ((3, 0), (3, 1), (4, 1), (4, 2), (5, 3), (5, 4), (5, 0)))
    net = BooleanThresholdNetwork.from_weights(wiring, [1.0, 2.0, 1.0, 1.5, 1.0, 1.0, 1.0])
    net.save_pretrained(tmp_path)
    again = BooleanThresholdNetwork.from_pretrained(tmp_path)
    x = 2.0 * all_inputs(2) - 1
    assert torch.equal(again(x), net(x))
    assert again.wiring == wiring


@pytest.mark.parametrize(
    ("nodes", "outs", "edges", "word"),
    [
        (4, 1, ((3, 3),), "higher number"),
        (4, 1, ((3, 0), (3, 0)), "twice"),
        (5, 1, ((4, 0),), "no in-edge"),
        (5, 2, ((3, 0), (4, 3)), "send nothing"),
    ],
)
def test_wirings_that_are_none(nodes, outs, edges, word):
    with pytest.raises(ValueError, match=word):
        Wiring(nodes, 2, outs, edges)


def test_classifier_learns_labels_and_bits():
    bits = all_inputs(3).numpy()
    labels = np.where(bits.sum(1) >= 2, "many", "few")
    model = BooleanThresholdClassifier(hidden=(), n_restarts=8, max_iterations=3000).fit(bits, labels)
    assert model.score(bits, labels) == 1
    assert set(model.predict(bits)) == {"few", "many"}
    assert model.network_.to_logic(list("abc"), ["many"]).gates[0].kind == "MAJORITY"
    both = np.stack([bits[:, 0] & bits[:, 1], bits[:, 2]], 1)
    model = BooleanThresholdClassifier(hidden=(), n_restarts=8, max_iterations=3000).fit(bits, both)
    assert (model.predict(bits) == both).all()
    classes = bits[:, 0] + bits[:, 0] * bits[:, 1]
    model = BooleanThresholdClassifier(hidden=(4,), n_restarts=4, max_iterations=800).fit(bits, classes)
    assert set(model.predict(bits)) <= {0, 1, 2}
    with pytest.raises(ValueError, match="at least two"):
        model.fit(bits, np.zeros(8))


# Files


def test_files_are_read_as_they_were_written(tmp_path):
    x, y = (table.numpy() for table in multiplier_table(2))
    for items in (
        Items(x, y, "boolean", 0),
        Items(x / 3, y[:, 0] * 2, "analog", 3),
        Items(None, y, "one_hot", 0),
    ):
        write_dat(tmp_path / "a.dat", items)
        again = read_dat(tmp_path / "a.dat")
        assert (again.input_kind, again.n_classes) == (items.input_kind, items.n_classes)
        assert (again.outputs == items.outputs).all()
        assert (again.inputs is None) == (items.inputs is None)
        if items.inputs is not None:
            np.testing.assert_allclose(again.inputs, items.inputs, atol=0)
    wiring = Wiring.layered((3, 2, 1))
    write_net(tmp_path / "a.net", wiring, np.arange(11) / 8)
    again, weights = read_net(tmp_path / "a.net")
    assert again == wiring
    assert (weights == np.arange(11) / 8).all()
    write_wth(tmp_path / "a.wth", (4, 4, 4, 4))
    assert (tmp_path / "a.wth").read_text() == "3\n4 4 4 4\n"
    assert read_wth(tmp_path / "a.wth") == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.dat", "2\n2 1\n2 1\n1 0\n", "announced"),
        ("a.dat", "1\n2 1\n2 1\n0.5 0\n", "0 or 1"),
        ("a.dat", "1\n3 1\n2 1\n1 0\n", "type 3"),
        ("a.dat", "1\n2 1\n4 1\n1 7\n", "from 0 to 3"),
        ("a.dat", "one\n", "no .dat file"),
        ("a.net", "3 2 1 1\n2 1\n", "announced"),
        ("a.net", "3 2 1 1\n1 2 0.5\n", "higher number"),
        ("a.wth", "3\n4 4\n", "widths"),
    ],
)
def test_files_that_are_none(tmp_path, name, text, word):
    (tmp_path / name).write_text(text)
    read = {"dat": read_dat, "net": read_net, "wth": read_wth}[name[2:]]
    with pytest.raises(DataFileError, match=word):
        read(tmp_path / name)
    with pytest.raises(DataFileError, match="missing"):
        read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("slope", "of_sum"), [("clip", lambda s: (s.abs() <= 1).double()), ("tanh", lambda s: 1 - s.tanh() ** 2)]
)
def test_the_baseline_s_signs_borrow_the_gradient_they_are_told_to(slope, of_sum):
    sums = torch.linspace(-3, 3, 31, dtype=DOUBLE).requires_grad_()
    signs = straight_through_sign(sums, slope)
    assert torch.equal(signs, torch.where(sums > 0, 1.0, -1.0).double())
    (signs * torch.arange(31)).sum().backward()
    torch.testing.assert_close(sums.grad, torch.arange(31) * of_sum(sums.detach()))


@pytest.mark.parametrize("kind", ["sign", "tanh"])
def test_trained_starts_are_judged_by_the_weights_they_return(kind):
    x = 2.0 * all_inputs(3) - 1
    y = torch.stack([x[:, 0] * x[:, 1], torch.where(x.sum(1) > 0, 1.0, -1.0)], 1)  # a parity and a majority
    given = dict(kind=kind, starts=12, seed=5, slope="tanh")
    found = train_starts((3, 4, 2), x, y, steps=400, lr=0.03, check_every=25, **given)
    assert set(found) == ({"sign"} if kind == "sign" else {"tanh", "binarised"})
    for name, trained in found.items():
        right = bit_accuracy(outputs(trained.layers, x, torch.tanh if name == "tanh" else hard), y)
        torch.testing.assert_close(right, trained.accuracy)
        assert torch.equal(trained.accuracy == 1, trained.steps > 0)
    own = found[kind]
    assert (own.steps > 0).any(), "a parity of two is within reach"
    untrained = train_starts((3, 4, 2), x, y, steps=1, lr=1e-9, **given)[kind]
    assert own.accuracy.mean() > untrained.accuracy.mean() + 0.1
