"""Input functions for operator learning: random functions on [0, T], evaluated where one likes.

Each space draws functions as features and evaluates them: `features = space.random(n)`, then
`space.evaluate(features, x)`. Spaces of arXiv 1910.03193, section 3 and appendix.
"""

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor


class GRF:
    """Gaussian random field with the kernel exp(-|x - x'|^2 / (2 l^2)).

    The kernel's eigenfunctions on a fine grid are kept down to rounding (a smooth kernel has few), so that a function
    is a short vector of independent normal coefficients and costs little to draw, evaluate or integrate.

    Args:
        length_scale: l, in units of x.
        length: T, the domain is [0, T].
        n_grid: points of the fine grid, between which functions are interpolated by cubic splines.
    """

    def __init__(self, length_scale: float = 0.2, length: float = 1.0, n_grid: int = 1000):
        self.length_scale, self.length = length_scale, length
        self.x = np.linspace(0.0, length, n_grid)
        kernel = np.exp(-((self.x[:, None] - self.x[None, :]) ** 2) / (2 * length_scale**2))
        values, vectors = np.linalg.eigh(kernel)  # float64: a Cholesky factor would need jitter, float32 fails
        kept = values > 1e-13 * values[-1]
        self.basis = (vectors[:, kept] * np.sqrt(values[kept])).T  # (modes, n_grid)
        self._spline = CubicSpline(self.x, self.basis, axis=1)

    def random(self, n: int, generator: torch.Generator | None = None) -> np.ndarray:
        """Coefficients of n functions, shape (n, modes)."""
        return torch.randn(n, len(self.basis), generator=generator, dtype=torch.float64).numpy()

    def evaluate(self, features: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at x (k,), shape (n, k)."""
        return features @ self._spline(x)


class Chebyshev:
    """{sum_{i<N} a_i T_i(2x/T - 1), |a_i| <= M}, coefficients uniform."""

    def __init__(self, n_terms: int = 20, bound: float = 1.0, length: float = 1.0):
        self.n_terms, self.bound, self.length = n_terms, bound, length

    def random(self, n: int, generator: torch.Generator | None = None) -> np.ndarray:
        """Coefficients, shape (n, n_terms)."""
        return self.bound * (2 * torch.rand(n, self.n_terms, generator=generator, dtype=torch.float64).numpy() - 1)

    def evaluate(self, features: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at x (k,), shape (n, k)."""
        return np.polynomial.chebyshev.chebval(2 * np.asarray(x) / self.length - 1, features.T)


class PowerSeries:
    """{sum_{i<N} a_i x^i, |a_i| <= M}, coefficients uniform."""

    def __init__(self, n_terms: int = 100, bound: float = 1.0):
        self.n_terms, self.bound = n_terms, bound

    def random(self, n: int, generator: torch.Generator | None = None) -> np.ndarray:
        """Coefficients, shape (n, n_terms)."""
        return self.bound * (2 * torch.rand(n, self.n_terms, generator=generator, dtype=torch.float64).numpy() - 1)

    def evaluate(self, features: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at x (k,), shape (n, k)."""
        return np.polynomial.polynomial.polyval(np.asarray(x), features.T)


def as_float32(array: np.ndarray) -> Tensor:
    """A float32 tensor of an array."""
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
