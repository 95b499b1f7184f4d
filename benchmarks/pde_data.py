"""Solvers: one Navier-Stokes step against seven times its own four real transforms, and against the usual form."""

from typing import Any

import torch

from paperworks.operators.navier_stokes import NavierStokes
from paperworks.operators.random_fields import turbulent_vorticity
from timing import interleaved

SAMPLES = 16


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a grid and a comparison; a ratio of 1 is the bound."""
    rows = []
    for size in (64, 128):
        equation = NavierStokes(size, nu=1e-3, length=2 * torch.pi, dtype=torch.float32)
        state = equation.coefficients(turbulent_vorticity(SAMPLES, size))
        step = equation.stepper("ab2cn", 1e-3)
        fields = torch.randn(SAMPLES, 2, size, size)
        spectra = torch.fft.rfft2(fields)
        limit = [(f"step at {size}^2, {SAMPLES} samples", _call(step, state), _transforms(spectra, fields, 7))]
        rows += interleaved(limit, rounds, peer="its 2 + 2 real FFTs, 7 times", peer_version=torch.__version__)
        usual = [(f"advection at {size}^2", _call(equation.advection, state), _call(equation.advective_form, state))]
        rows += interleaved(usual, rounds, peer="u.grad w form, 4 + 1 real FFTs", peer_version=torch.__version__)
    return rows


def _call(function: Any, state: torch.Tensor) -> Any:
    return lambda: function(state)


def _transforms(spectra: torch.Tensor, fields: torch.Tensor, times: int) -> Any:
    def transforms() -> None:
        for _ in range(times):
            torch.fft.irfft2(spectra, fields.shape[-2:])
            torch.fft.rfft2(fields)

    return transforms
