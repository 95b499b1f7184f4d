"""Synaptic operations against counts made by hand."""

import pytest
import torch
from torch import nn

from paperworks.measure import EnergyPerOperation, count_synaptic_work
from paperworks.measure.energy import add_neuron_updates, counting, repeated


@pytest.mark.parametrize(("place", "reached"), [((2, 2), 9), ((0, 0), 4), ((0, 2), 6), ((4, 3), 6)])
def test_spike_into_padded_convolution_reaches_inner_edge_and_corner_synapses(place, reached):
    net = nn.Sequential(nn.Conv2d(2, 7, 3, padding=1))
    x = torch.zeros(1, 2, 5, 5)
    x[0, 1, place[0], place[1]] = 1
    work = count_synaptic_work(net, x, samples=1)
    assert (work.synaptic_operations, work.spikes, work.macs) == (reached * 7, 1, 0)


def test_strides_dilation_and_groups_agree_with_counting_one_spike_at_a_time():
    net = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False))
    nn.init.ones_(net[0].weight)
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(3, 4, 8, 8, generator=generator) < 0.3).float()
    by_hand = float(net(x).detach().sum())  # with weights of one an output counts the spikes in its window
    assert count_synaptic_work(net, x, samples=3).synaptic_operations == pytest.approx(by_hand / 3)


def test_a_network_that_skips_zeros_pays_for_nonzero_inputs_only():
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 0.5, 0]]))
    work = count_synaptic_work(net, torch.tensor([[0.5, 0, 0.25, 0]]), samples=1)
    assert (work.macs, work.skipping_macs, work.synaptic_operations) == (12 + 6, 2 * 3 + 2 * 2, 0)
    assert work.layers == {"0": (12, 6, 0), "2": (6, 4, 0)}
    assert work.nanojoules() == pytest.approx(18 * 4.6e-3)
    assert work.nanojoules(EnergyPerOperation(mac=1), skip_zeros=True) == pytest.approx(10e-3)


def test_pooled_spikes_count_with_their_number():
    net = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(1, 5, 1))
    net[1].input_spike_unit = 0.25
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, :2, :2] = torch.tensor([[1.0, 1], [1, 0]])
    assert count_synaptic_work(net, x, samples=1).synaptic_operations == 3 * 5


def test_samples_must_be_counted():
    with pytest.raises(ValueError, match="samples"):
        count_synaptic_work(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2), samples=0)


def test_updates_and_repeats_are_counted_once_each_a_sample():
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            add_neuron_updates(7 * len(x))
            with repeated(5):
                y = self.linear(x)
                add_neuron_updates(2 * len(x))
            return self.linear(torch.ones_like(x)) + y

    net, x = Told(), torch.full((4, 3), 0.5)
    add_neuron_updates(1000)  # nobody counts
    assert not counting()
    work = count_synaptic_work(net, x, samples=4)
    assert work.neuron_updates == 7 + 5 * 2
    assert work.macs == 5 * 6
    assert work.synaptic_operations == 6
    assert work.layers == {"linear": (30.0, 30.0, 6.0)}
    assert not counting()
