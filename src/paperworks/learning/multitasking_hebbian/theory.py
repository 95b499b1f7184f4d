"""What statistical mechanics says of the multitasking network at low load: mean-field equations, thresholds, laws."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class MeanField(NamedTuple):
    """A solution: overlaps with the patterns (K,), with the averaged examples (K,), and the iterations it took."""

    overlaps: Tensor
    example_overlaps: Tensor
    iterations: int


def hierarchical_overlaps(n_patterns: int, dilution: float) -> Tensor:
    """m_mu = (1 - d) d^(mu - 1): the overlaps when spins follow their first pattern that is not blank."""
    return (1 - dilution) * dilution ** torch.arange(n_patterns, dtype=torch.float64)


def hierarchical_threshold(n_patterns: int) -> float:
    """The dilution up to which that state is stable at zero temperature: the root of 1 - 2 d + d^K below 1.

    1 for K <= 2, 0.618 for K = 3, and down to 1/2.
    """
    if n_patterns <= 2:
        return 1.0
    low, high = 0.5, 1 - 1e-9
    # 1 - 2d + d^K is positive at 1/2, has a second root at 1, and is convex: bisect left of its minimum
    high = min(high, (2 / n_patterns) ** (1 / (n_patterns - 1)))
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - 2 * middle + middle**n_patterns > 0 else (low, middle)
    return (low + high) / 2


def one_step_overlap(entropy: float) -> float:
    """m' / (1 - d) = erf(1 / sqrt(2 rho)): one zero-temperature step from a pattern, by either way of learning."""
    return math.erf(1 / math.sqrt(2 * entropy)) if entropy > 0 else 1.0


def examples_needed(theta: float, quality: float) -> float:
    """M = 2 theta^2 (1 - r^2) / r^2: examples for which one step ends at the normalised overlap erf(theta)."""
    return 2 * theta**2 * (1 - quality**2) / quality**2


def pattern_columns(n_patterns: int, dilution: float) -> tuple[Tensor, Tensor]:
    """All 3^K columns (3^K, K) that the patterns can show at a site, and their probabilities (3^K,).

    Raises:
        ValueError: more than 10 patterns.
    """
    if n_patterns > 10:
        raise ValueError(f"n_patterns: at most 10 can be enumerated (3^10 columns), given {n_patterns}")
    columns = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=n_patterns)), dtype=torch.float64)
    each = torch.where(columns == 0, dilution, (1 - dilution) / 2)
    return columns, each.prod(1)


def solve_self_consistency(
    n_patterns: int,
    dilution: float,
    temperature: float,
    entropy: float = 0.0,
    start: Tensor | None = None,
    *,
    damping: float = 0.5,
    tolerance: float = 1e-12,
    iterations: int = 5_000,
    nodes: int = 41,
) -> MeanField:
    """The overlaps in equilibrium, as N grows at fixed K.

    With field g = sum_nu n_nu (xi^nu + sqrt(rho) |xi^nu| z_nu) / ((1 - d)(1 + rho)), z standard normal,

        m_mu = E[xi^mu tanh(g / T)],    n_mu = E[(xi^mu + sqrt(rho) |xi^mu| z_mu) tanh(g / T)];

    given the column of patterns, g is normal, so one Gauss-Hermite rule does for all z; the z_mu in front becomes a
    derivative (Stein's lemma). For rho = 0 both are m_mu = E[xi^mu tanh(sum_nu m_nu xi^nu / ((1 - d) T))].

    Args:
        start: overlaps to iterate from (K,); default the hierarchical ones. Symmetric ones stay symmetric.
        damping: share of the old value kept in each iteration.
    """
    if temperature <= 0:
        raise ValueError(f"temperature: above 0, given {temperature}; the limit 0 is hierarchical_overlaps")
    columns, chance = pattern_columns(n_patterns, dilution)
    there = columns.abs()
    beta = 1 / (temperature * (1 - dilution) * (1 + entropy))
    point, weight = np.polynomial.hermite_e.hermegauss(nodes if entropy else 1)
    point = torch.from_numpy(point)
    weight = torch.from_numpy(weight / weight.sum())
    n = hierarchical_overlaps(n_patterns, dilution) if start is None else start.double()
    m, taken = n, 0
    while taken < iterations:
        taken += 1
        width = (entropy * (there @ n.square())).sqrt()
        t = torch.tanh(beta * ((columns @ n)[:, None] + width[:, None] * point))
        m = (chance * (t @ weight)) @ columns
        slope = (chance * ((1 - t.square()) @ weight)) @ there
        new = m + entropy * beta * n * slope
        if (new - n).abs().max() < tolerance:
            break
        n = damping * n + (1 - damping) * new
    return MeanField(m, n, taken)


def spread(overlaps: Tensor) -> float:
    """(largest - smallest) / largest of the absolute overlaps: 0 where all patterns are recalled equally well."""
    size = overlaps.abs()
    return float((size.max() - size.min()) / size.max().clamp_min(1e-300))


def phase_diagram(n_patterns: int, dilutions: Tensor, temperatures: Tensor) -> Tensor:
    """The spread of the solution at every temperature (rows) and dilution, from a start tilted by a fifth; NaN where
    nothing is recalled (largest overlap below 1 % of 1 - d)."""
    tilt = 1 - 0.2 * torch.arange(n_patterns, dtype=torch.float64) / max(1, n_patterns - 1)
    result = torch.full((len(temperatures), len(dilutions)), math.nan, dtype=torch.float64)
    for row, temperature in enumerate(temperatures.tolist()):
        for column, d in enumerate(dilutions.tolist()):
            start = tilt * (1 - d) / n_patterns
            found = solve_self_consistency(n_patterns, d, temperature, start=start, tolerance=1e-9, iterations=2_000)
            if found.overlaps.abs().max() > 0.01 * (1 - d):
                result[row, column] = spread(found.overlaps)
    return result
