"""AF-KAN (arXiv 2503.06112): KAN layers of activation functions with a linear layer's parameter count."""

from .model import AFKAN, AFKANLayer

__all__ = ["AFKAN", "AFKANLayer"]
