"""Spiking neurons, networks and STDP: closed forms, gradients against autograd of the plain loop, and snntorch's."""

import math

import numpy as np
import pytest
import torch

from paperworks.learning.spiking import (
    IF,
    LIF,
    LeakyReadout,
    SpikingConvNet,
    SpikingMLP,
    STDPNetwork,
    Surrogate,
    Synaptic,
    cost,
    direct,
    encode,
    events,
    exponential_filter,
    latency,
    pair_update,
    rate,
    relu_network,
    side_by_side,
    spiking_loss,
    spiking_mlp_digits,
    trace_update,
)
from paperworks.learning.spiking.neurons import _Scan, plain_scan
from paperworks.learning.spiking.surrogates import DERIVATIVES, spike


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_membrane_under_constant_current_follows_the_closed_form():
    _, membrane = LIF(0.9, threshold=100.0, membrane=True)(torch.full((50, 1, 1), 0.3, dtype=torch.float64))
    t = torch.arange(1, 51, dtype=torch.float64)
    torch.testing.assert_close(membrane[:, 0, 0], 0.3 * (1 - 0.9**t) / (1 - 0.9))


@pytest.mark.parametrize("k", [2, 3, 7])
def test_integrate_and_fire_fires_every_k_steps_under_a_kth_of_the_threshold(k):
    current = torch.full((4 * k, 1, 1), 1.001 / k, dtype=torch.float64)  # it fires strictly above the threshold
    fired = IF(reset="zero")(current)[:, 0, 0].nonzero()[:, 0] + 1
    assert fired.tolist() == [k, 2 * k, 3 * k, 4 * k]


def test_without_memory_a_neuron_is_a_threshold():
    x = torch.randn(20, 3, 4, generator=generator())
    assert torch.equal(LIF(0.0)(x), (x > 1).float())
    assert torch.equal(LIF(0.0, reset="zero")(x), (x > 1).float())


def test_subtracting_reset_conserves_charge_and_a_delayed_one_too():
    x = torch.rand(40, 2, 3, dtype=torch.float64, generator=generator())
    spikes, membrane = IF(threshold=0.8, membrane=True)(x)
    assert spikes.sum() > 20
    torch.testing.assert_close(x.sum(0), 0.8 * spikes.sum(0) + membrane[-1] - 0.8 * spikes[-1])
    torch.testing.assert_close(IF(threshold=0.8, reset_delay=True)(x), spikes)  # nothing leaks in between


def test_a_spike_needs_more_than_the_threshold():
    assert IF()(torch.tensor([[[1.0]], [[0.5]]])).flatten().tolist() == [0.0, 0.0 + 1.0]


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("detach", [False, True])
def test_scan_and_its_gradient_equal_the_plain_loop(name, zero, detach):
    results = []
    for scan in (plain_scan, _Scan.apply):
        x = torch.randn(12, 3, 5, dtype=torch.float64, generator=generator(1)).requires_grad_()
        spikes, membrane = scan(x, 0.2, 0.8, 0.5, 0.45, zero, detach, Surrogate(name))
        weights = torch.randn(2, *x.shape, dtype=torch.float64, generator=generator(2))
        (spikes * weights[0] + membrane * weights[1]).sum().backward()
        results.append((spikes.detach(), membrane.detach(), x.grad))
    assert results[0][0].sum() > 10
    assert results[0][2].abs().sum() > 1
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)


def test_gradient_through_the_membrane_alone():
    grads = []
    for scan in (plain_scan, _Scan.apply):
        x = torch.randn(9, 2, 3, dtype=torch.float64, generator=generator(3)).requires_grad_()
        scan(x, 0.0, 0.9, 1.0, 0.9, False, False, Surrogate())[1].sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("atan", lambda v: 1 / (1 + (math.pi * v) ** 2)),
        ("fast_sigmoid", lambda v: 1 / (1 + 25 * abs(v)) ** 2),
        ("sigmoid", lambda v: 25 * math.exp(-25 * v) / (1 + math.exp(-25 * v)) ** 2),
        ("triangle", lambda v: max(0.0, 1 - abs(v))),
    ],
)
def test_surrogate_derivatives_are_the_stated_ones(name, formula):
    v = torch.tensor([-1.3, -0.2, 0.0, 0.04, 0.7], dtype=torch.float64, requires_grad=True)
    s = spike(v, Surrogate(name))
    assert s.tolist() == [0, 0, 0, 1, 1]
    s.sum().backward()
    torch.testing.assert_close(v.grad, torch.tensor([formula(each) for each in v.tolist()], dtype=torch.float64))


def test_steepness_of_a_surrogate_is_used():
    v = torch.tensor([0.3], dtype=torch.float64)
    assert float(Surrogate("fast_sigmoid", 2.0).derivative_(v.clone())) == pytest.approx(1 / 1.6**2)
    with pytest.raises(ValueError, match="scale"):
        Surrogate("atan", 0.0)
    with pytest.raises(ValueError, match=r"atan.*'tan'"):
        Surrogate("tan")


def test_synaptic_current_filters_before_the_neuron():
    x = torch.rand(15, 2, 3, dtype=torch.float64, generator=generator())
    current = exponential_filter(x, 0.7)
    by_hand = [sum(0.7 ** (t - u) * x[u] for u in range(t + 1)) for t in range(15)]
    torch.testing.assert_close(current, torch.stack(by_hand))
    assert torch.equal(Synaptic(0.7, 0.9)(x), LIF(0.9)(current))
    y = x.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda z: exponential_filter(z, 0.7), (y[:5],))


@pytest.mark.parametrize("beta", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("take", ["mean", "last", "max"])
def test_readout_without_a_loop_equals_the_loop(beta, take):
    x = torch.randn(9, 2, 3, dtype=torch.float64, generator=generator())
    membrane, seen = torch.zeros(2, 3, dtype=torch.float64), []
    for each in x:
        membrane = beta * membrane + each
        seen.append(membrane)
    stacked = torch.stack(seen)
    expected = {"mean": stacked.mean(0), "last": stacked[-1], "max": stacked.amax(0)}[take]
    torch.testing.assert_close(LeakyReadout(beta, take)(x), expected)


def test_decay_input_approaches_the_current_and_does_not_exceed_it():
    _, membrane = LIF(0.8, threshold=5.0, decay_input=True, membrane=True)(torch.full((80, 1, 1), 2.0))
    assert float(membrane[-1]) == pytest.approx(2.0, abs=1e-4)
    with pytest.raises(ValueError, match="decay_input"):
        IF(decay_input=True)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beta": 1.5}, "beta"),
        ({"threshold": 0.0}, "threshold"),
        ({"reset": "half"}, "subtract, zero"),
        ({"surrogate": "none"}, "surrogate"),
    ],
)
def test_neurons_refuse_what_makes_no_sense(options, told):
    with pytest.raises(ValueError, match=told):
        LIF(**options)
    with pytest.raises(ValueError, match=r"expected shape \(steps, batch"):
        LIF()(torch.rand(4))


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_traces_and_gradients_equal_snntorchs(reset):
    snntorch = pytest.importorskip("snntorch")
    theirs = snntorch.Leaky(0.85, threshold=0.7, reset_mechanism=reset, spike_grad=snntorch.surrogate.atan())
    ours = LIF(0.85, 0.7, reset=reset, reset_delay=True, detach_reset=True, membrane=True)
    weights = torch.randn(2, 25, 4, 6, generator=generator(5))
    found = []
    for run in (ours, lambda x: stepped(theirs, x, torch.zeros_like(x[0]))):
        x = torch.randn(25, 4, 6, generator=generator(4)).requires_grad_()
        spikes, membrane = run(x)
        (spikes * weights[0] + membrane * weights[1]).sum().backward()
        found.append((spikes.detach(), membrane.detach(), x.grad))
    assert found[0][0].sum() > 20
    for mine, other in zip(*found, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_synaptic_trace_equals_snntorchs():
    snntorch = pytest.importorskip("snntorch")
    theirs = snntorch.Synaptic(alpha=0.7, beta=0.85)
    x = torch.randn(25, 4, 6, generator=generator(4))
    synapse = membrane = torch.zeros(4, 6)
    expected = []
    for each in x:
        fired, synapse, membrane = theirs(each, synapse, membrane)
        expected.append((fired, membrane))
    spikes, membranes = Synaptic(0.7, 0.85, reset_delay=True, membrane=True)(x)
    torch.testing.assert_close(spikes, torch.stack([s for s, _ in expected]))
    torch.testing.assert_close(membranes, torch.stack([m for _, m in expected]), rtol=1e-4, atol=1e-5)


def stepped(neuron, x, membrane):
    made = []
    for each in x:
        fired, membrane = neuron(each, membrane)
        made.append((fired, membrane))
    return torch.stack([s for s, _ in made]), torch.stack([m for _, m in made])


# encodings


def test_rate_code_fires_with_its_probability_and_repeats_by_seed():
    x = torch.linspace(0, 1, 11)[None]
    spikes = rate(x, 4000, generator(0))
    error = (spikes.mean(0) - x).abs()
    assert (error <= 4 * (x * (1 - x) / 4000).sqrt() + 1e-9).all()
    assert torch.equal(spikes, rate(x, 4000, generator(0)))
    assert not torch.equal(spikes, rate(x, 4000, generator(1)))


def test_latency_code_fires_once_and_the_brighter_the_sooner():
    x = torch.tensor([[1.0, 0.75, 0.5, 0.1, 0.0]])
    spikes = latency(x, 9)[:, 0]
    assert spikes.sum(0).tolist() == [1, 1, 1, 1, 0]
    assert spikes.argmax(0)[:4].tolist() == [0, 2, 4, 7]


def test_direct_code_is_the_value_at_every_step_without_a_copy():
    x = torch.rand(2, 3)
    assert direct(x, 7).shape == (7, 2, 3)
    assert direct(x, 7).data_ptr() == x.data_ptr()


def test_values_that_are_no_rates_are_refused():
    for encoding in ("rate", "latency"):
        with pytest.raises(ValueError, match="from 0 to 1"):
            encode(torch.tensor([[-0.1, 0.5]]), 4, encoding)
    with pytest.raises(ValueError, match=r"rate, latency, direct"):
        encode(torch.rand(1, 2), 4, "morse")
    with pytest.raises(ValueError, match="steps"):
        latency(torch.rand(1, 2), 0)


def test_events_fall_into_their_step_polarity_and_pixel():
    frames = events([(0, 1, 2, 1), (49, 0, 0, 0), (50, 3, 1, 1), (100, 3, 1, -1)], 2, 4, 5)
    assert frames.nonzero().tolist() == [[0, 0, 0, 0], [0, 1, 2, 1], [1, 0, 1, 3], [1, 1, 1, 3]]
    table = np.array([(0.0, 1, 2, 1)], dtype=[("t", float), ("x", int), ("y", int), ("p", int)])
    assert events(table, 3, 4, 5)[0, 1, 2, 1] == 1
    assert events(np.zeros((0, 4)), 3, 4, 5).sum() == 0
    with pytest.raises(ValueError, match="x below 5"):
        events([(0, 5, 0, 1)], 2, 4, 5)
    with pytest.raises(ValueError, match=r"\(events, 4\)"):
        events([(0, 5, 0)], 2, 4, 5)


# networks


def test_products_of_all_steps_at_once_give_what_stepping_gives():
    net = SpikingMLP((5, 7, 3), steps=6, encoding="latency", threshold=0.4)
    x = torch.rand(4, 5, generator=generator())
    logits, spikes = net.run(x)
    hidden, out, fired, total = torch.zeros(4, 7), torch.zeros(4, 3), [], 0
    for given in latency(x, 6):
        hidden = 0.9 * hidden + net.layers[0](given)
        s = (hidden > 0.4).float()
        hidden = hidden - 0.4 * s
        out = 0.9 * out + net.layers[1](s)
        fired.append(s)
        total = total + out
    assert torch.equal(spikes[0], torch.stack(fired))
    torch.testing.assert_close(logits, total / 6)


def test_evaluation_of_the_rate_code_does_not_depend_on_chance_or_neighbours():
    net = SpikingMLP((5, 7, 3), steps=6, encoding="rate", threshold=0.4).eval()
    x = torch.rand(4, 5)
    assert torch.equal(net(x), net(x))
    torch.testing.assert_close(net(x)[2:3], net(x[2:3]))
    net.train()
    assert not torch.equal(net(x), net(x))


def test_spikes_counted_by_hand():
    net = SpikingMLP((4, 3, 2), steps=2, encoding="latency", beta=0.0, bias=False).eval()
    with torch.no_grad():
        net.layers[0].weight.copy_(torch.tensor([[2.0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2.0, 0]]))
    work = cost(net, torch.tensor([[1.0, 0.0, 0.1, 0.0]]))  # two input spikes, at steps 0 and 1; each makes one more
    assert work.synaptic_operations == 2 * 3 + 2 * 2
    assert work.neuron_updates == 2 * (3 + 2)
    assert work.nanojoules() == pytest.approx(10 * 0.9e-3)
    assert work.nanojoules(updates=True) == pytest.approx(10 * 0.9e-3 + 10 * 4.6e-3)


def test_direct_input_costs_multiplications_at_every_step():
    work = cost(spiking_mlp_digits(steps=4), torch.rand(2, 64) * 0.9 + 0.05)
    assert work.macs == 4 * 64 * 128
    assert cost(relu_network(spiking_mlp_digits()), torch.rand(2, 64)).macs == 64 * 128 + 128 * 10


def test_penalty_lowers_the_rate():
    x, y = torch.rand(64, 64, generator=generator()), torch.arange(64) % 10
    rates = []
    for penalty in (0.0, 100.0):
        torch.manual_seed(0)
        net = spiking_mlp_digits(steps=3)
        optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(15):
            optimizer.zero_grad()
            spiking_loss(net, (x, y), penalty=penalty, target=0.05).backward()
            optimizer.step()
        rates.append(float(net.run(x)[1][0].mean()))
    assert abs(rates[1] - 0.05) < 0.5 * abs(rates[0] - 0.05)


def test_a_spiking_network_learns():
    x = torch.rand(200, 6, generator=generator())
    y = (x[:, 0] > x[:, 1]).long()
    torch.manual_seed(0)
    for encoding, readout in (("direct", "membrane"), ("latency", "count")):
        net = SpikingMLP((6, 32, 2), steps=6, encoding=encoding, readout=readout, threshold=0.5)
        optimizer = torch.optim.Adam(net.parameters(), 2e-2)
        for _ in range(60):
            optimizer.zero_grad()
            spiking_loss(net, (x, y)).backward()
            optimizer.step()
        assert float((net.eval()(x).argmax(1) == y).float().mean()) > 0.85


def test_networks_side_by_side():
    net = spiking_mlp_digits(steps=2, encoding="latency")
    rows = side_by_side({"ann": relu_network(net), "snn": net}, torch.rand(8, 64), torch.zeros(8, dtype=torch.long))
    assert [row["network"] for row in rows] == ["ann", "snn"]
    assert rows[0]["macs"] == 9_472
    assert rows[0]["skipping_macs"] < rows[0]["macs"]
    assert rows[1]["macs"] == 0
    assert rows[1]["synaptic_operations"] > 0
    assert rows[1]["nanojoules_with_updates"] > rows[1]["nanojoules"]


def test_networks_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="encoding"):
        SpikingMLP(encoding="morse")
    with pytest.raises(ValueError, match="too small"):
        SpikingConvNet((1, 8, 8))
    with pytest.raises(ValueError, match="readout"):
        SpikingMLP(readout="voice")


# STDP


def test_pairs_follow_the_exponential_window():
    dt = torch.tensor([5.0, -5.0, 0.0])
    expected = [2 * math.exp(-5 / 10), -3 * math.exp(-5 / 40), 0.0]
    assert pair_update(dt, 2.0, 3.0, 10.0, 40.0).tolist() == pytest.approx(expected)


def test_traces_give_the_sum_over_all_pairs():
    pre = (torch.rand(40, 3, generator=generator()) < 0.2).double()
    post = (torch.rand(40, 2, generator=generator(1)) < 0.2).double()
    by_pairs = torch.zeros(3, 2, dtype=torch.float64)
    for t_pre, i in pre.nonzero().tolist():
        for t_post, j in post.nonzero().tolist():
            by_pairs[i, j] += pair_update(torch.tensor(float(t_post - t_pre)).double(), 1.5, 0.7, 12.0, 30.0)
    torch.testing.assert_close(trace_update(pre, post, 1.5, 0.7, 12.0, 30.0), by_pairs)


def test_learning_keeps_weights_in_bounds_and_their_sum():
    torch.manual_seed(0)
    net = STDPNetwork(16, 5, 2, weight_sum=3.0)
    before = net.weight.clone()
    fired = net.learn(torch.rand(20, 16, generator=generator()), batch_size=4, lr=0.1)
    assert fired[0] > 1
    assert not torch.equal(net.weight, before)
    assert float(net.weight.min()) >= 0
    assert float(net.weight.max()) <= 1
    torch.testing.assert_close(net.weight.sum(0), torch.full((5,), 3.0), rtol=1e-3, atol=0)
    assert float(net.theta.max()) > 0


def test_at_most_one_neuron_fires_a_step_and_it_silences_the_rest():
    net = STDPNetwork(4, 3, 2, weight_sum=2.0)
    membrane = torch.zeros(2, 3)
    fired = net._compete(membrane, torch.tensor([[1.5, 1.2, 3.0], [0.2, 0.9, 0.1]]))
    assert fired.tolist() == [[0, 0, 1], [0, 0, 0]]
    assert membrane[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(membrane[1], torch.tensor([0.2, 0.9, 0.1]))
    assert net._compete(membrane, torch.zeros(2, 3)) is None


def test_two_patterns_are_told_apart_without_labels():
    torch.manual_seed(0)
    patterns = torch.zeros(2, 16)
    patterns[0, :8] = patterns[1, 8:] = 0.9
    y = torch.arange(60) % 2
    x = (patterns[y] + 0.05 * torch.rand(60, 16, generator=generator())).clamp(0, 1)
    net = STDPNetwork(16, 6, 2, weight_sum=4.0)
    net.learn(x, passes=3, batch_size=1, lr=0.1)
    net.assign_labels(x, y, generator())
    assert float((net.predict(x) == y).float().mean()) > 0.95
    own = net.fields((2, 8)).sum(2)
    assert float(own.max(1).values.mean()) > 3.0  # each neuron has moved to one half


def test_stdp_refuses_what_makes_no_sense():
    with pytest.raises(ValueError, match="weight_sum"):
        STDPNetwork(4, 3, weight_sum=9.0)
    net = STDPNetwork(4, 3, 2, weight_sum=2.0)
    with pytest.raises(ValueError, match="labels from 0 to 1"):
        net.assign_labels(torch.rand(2, 4), torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="expected shape"):
        net.learn(torch.rand(2, 5))


def test_without_rising_thresholds_few_neurons_win_everything():
    x = torch.rand(60, 16, generator=generator())
    shares = []
    for step in (0.0, 0.2):
        torch.manual_seed(0)
        net = STDPNetwork(16, 8, 2, weight_sum=4.0, theta_step=step)
        net.learn(x, batch_size=10, passes=3, lr=0.05)
        counts = net.respond(x, generator()).sum(0)
        shares.append(float(counts.max() / counts.sum()))
    assert shares[0] > 1.25 * shares[1]
