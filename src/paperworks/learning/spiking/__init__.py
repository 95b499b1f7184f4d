"""Spiking networks as a reader of the review arXiv 1804.08150 meets them: neurons, three ways to train, their cost."""

from .convert import ConvertedNetwork, SpikingReLU, convert_to_spiking
from .encode import direct, encode, events, latency, rate
from .model import (
    SpikingConvNet,
    SpikingMLP,
    cost,
    relu_network,
    side_by_side,
    spiking_conv_mnist,
    spiking_loss,
    spiking_mlp_digits,
    spiking_mlp_mnist,
)
from .neurons import IF, LIF, LeakyReadout, Synaptic, exponential_filter
from .stdp import STDPNetwork, pair_update, trace_update
from .surrogates import Surrogate

__all__ = [
    "IF",
    "LIF",
    "ConvertedNetwork",
    "LeakyReadout",
    "STDPNetwork",
    "SpikingConvNet",
    "SpikingMLP",
    "SpikingReLU",
    "Surrogate",
    "Synaptic",
    "convert_to_spiking",
    "cost",
    "direct",
    "encode",
    "events",
    "exponential_filter",
    "latency",
    "pair_update",
    "rate",
    "relu_network",
    "side_by_side",
    "spiking_conv_mnist",
    "spiking_loss",
    "spiking_mlp_digits",
    "spiking_mlp_mnist",
    "trace_update",
]
