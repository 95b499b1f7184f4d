"""Bidirectional learning (arXiv 1805.08006): one set of weights that classifies and, transposed, generates."""

from .model import BidirectionalNet, Discriminator, TiedConv, TiedLinear
from .training import Iteration, fit_bidirectional

__all__ = ["BidirectionalNet", "Discriminator", "Iteration", "TiedConv", "TiedLinear", "fit_bidirectional"]
