"""Darcy flow on the unit square: -div(a grad u) = f, u = 0 on the boundary; finite differences, solved directly.

The five-point scheme with arithmetic means of the coefficient at the faces, as in the data of arXiv 2010.08895; here
the coefficient is given at the nodes, boundary included, and nothing is interpolated.
"""

from typing import Literal

import numpy as np
import scipy.linalg
import scipy.sparse
import torch
from scipy.sparse.linalg import splu
from torch import Tensor

from paperworks.nn import check_shape

BANDED_UP_TO = 65  # nodes an axis; above, a sparse factorisation fills less than a band


def solve_darcy(a: Tensor, f: float | Tensor = 1.0) -> Tensor:
    """Solutions of -div(a grad u) = f.

    Args:
        a: (n, size, size), positive, at the nodes linspace(0, 1, size).
        f: a number, (size, size) or (n, size, size).

    Returns:
        (n, size, size), float64, zero on the boundary.
    """
    check_shape("a", a, ("n", "size", a.shape[-1]))
    size = a.shape[-1]
    if a.shape[1] != size:
        raise ValueError(f"a: expected a square, given {a.shape[1]} x {size}")
    if size < 4:
        raise ValueError(f"a: at least 4 nodes an axis, given {size}")
    if not bool((a > 0).all()):
        raise ValueError("a: expected positive values everywhere")
    right = np.broadcast_to(torch.as_tensor(f, dtype=torch.float64).numpy(), a.shape)[:, 1:-1, 1:-1] / (size - 1) ** 2
    out = np.zeros(tuple(a.shape))
    for i, coefficient in enumerate(a.double().numpy()):
        b = right[i].ravel()
        if size <= BANDED_UP_TO:
            u = scipy.linalg.solveh_banded(_band(coefficient), b, overwrite_ab=True, lower=True, check_finite=False)
        else:
            factor = splu(
                darcy_matrix(coefficient),
                permc_spec="MMD_AT_PLUS_A",
                options=dict(SymmetricMode=True),
                diag_pivot_thresh=0,
            )
            u = factor.solve(b)
        out[i, 1:-1, 1:-1] = u.reshape(size - 2, size - 2)
    return torch.from_numpy(out)


def _faces(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients between neighbours along x (size - 1, size - 2) and y (size - 2, size - 1)."""
    return (a[1:, 1:-1] + a[:-1, 1:-1]) / 2, (a[1:-1, 1:] + a[1:-1, :-1]) / 2


def _diagonals(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The diagonal, the coupling to the next node along y (the last one zero), and to the next along x."""
    along_x, along_y = _faces(a)
    centre = along_x[1:] + along_x[:-1] + along_y[:, 1:] + along_y[:, :-1]
    next_y = -along_y[:, 1:].copy()
    next_y[:, -1] = 0
    return centre.ravel(), next_y.ravel(), -along_x[1:].ravel()


def _band(a: np.ndarray) -> np.ndarray:
    """The lower band of the matrix, as LAPACK stores it."""
    m = a.shape[-1] - 2
    band = np.zeros((m + 1, m * m))
    band[0], band[1], band[m] = _diagonals(a)
    return band


def darcy_matrix(a: np.ndarray) -> scipy.sparse.csc_matrix:
    """The matrix of the inner nodes, times the square of the spacing: symmetric, positive definite, an M-matrix."""
    m = a.shape[-1] - 2
    centre, next_y, next_x = _diagonals(a)
    next_y, next_x = next_y[:-1], next_x[: m * m - m]
    upper = scipy.sparse.diags_array([next_y, next_x], offsets=[1, m], shape=(m * m, m * m))  # type: ignore[arg-type]
    return scipy.sparse.csc_matrix(scipy.sparse.diags_array(centre) + upper + upper.T)


def darcy_coefficient(
    g: Tensor, kind: Literal["piecewise", "lognormal"] = "piecewise", high: float = 12.0, low: float = 3.0
) -> Tensor:
    """The coefficient of a random field g: `high` where g >= 0 and `low` elsewhere, or exp(g).

    The published files hold 12 and 3; the public demonstration script writes 12 and 4.
    """
    if kind == "piecewise":
        return torch.where(g >= 0, high, low).to(g.dtype)
    if kind == "lognormal":
        return g.exp()
    raise ValueError(f"kind: piecewise or lognormal, given {kind!r}")
