"""Lagrangian PINN (arXiv 2205.02902): characteristics that carry the solution, trained on the equation alone."""

from .model import (
    LagrangianPINN,
    lpinn_parallel,
    lpinn_released,
    periodic_interpolation,
    pinn_parallel,
    pinn_released,
)
from .training import CollocationSampler, fit_pinn, polish

__all__ = [
    "CollocationSampler",
    "LagrangianPINN",
    "fit_pinn",
    "lpinn_parallel",
    "lpinn_released",
    "periodic_interpolation",
    "pinn_parallel",
    "pinn_released",
    "polish",
]
