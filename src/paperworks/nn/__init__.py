"""Layers and blocks that two or more papers use, and what every model shares: saving, shape checks, sizes."""

from .pretrained import Example, Pretrained, published_size
from .shapes import check_shape

__all__ = ["Example", "Pretrained", "check_shape", "published_size"]
