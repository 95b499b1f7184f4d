"""Layers and blocks that two or more papers use, and what every model shares: saving, shape checks, sizes."""

from .mlp import MLP, StackedMLP
from .pretrained import Example, Pretrained, published_size
from .shapes import check_shape

__all__ = ["MLP", "Example", "Pretrained", "StackedMLP", "check_shape", "published_size"]
