"""Magnitude-invariant parametrisations (arXiv 2304.07645): hypernetworks whose weights keep their size."""

from .model import (
    HyperModel,
    HyperNetwork,
    encode,
    hypernetize,
    initial_weights,
    proportionality,
)
from .quantiles import QuantileNetwork

__all__ = [
    "HyperModel",
    "HyperNetwork",
    "QuantileNetwork",
    "encode",
    "hypernetize",
    "initial_weights",
    "proportionality",
]
