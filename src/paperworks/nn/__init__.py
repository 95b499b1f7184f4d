"""Layers and blocks that two or more papers use, and what every model shares: saving, shape checks, sizes."""

from .mlp import MLP, StackedMLP
from .pretrained import Example, Pretrained, published_size
from .shapes import check_shape
from .swap import Swapped, swap_layers

__all__ = ["MLP", "Example", "Pretrained", "StackedMLP", "Swapped", "check_shape", "published_size", "swap_layers"]
