"""MgNO (arXiv 2310.19809): operators whose linear maps are multigrid V-cycles."""

from .losses import difference_h1, fourier_h1, relative_l2
from .model import MgConv, MgNO, mgno_darcy_rough, mgno_laptop

__all__ = ["MgConv", "MgNO", "difference_h1", "fourier_h1", "mgno_darcy_rough", "mgno_laptop", "relative_l2"]
