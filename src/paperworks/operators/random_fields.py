"""Random functions that PDE data starts from: Gaussian random fields, turbulence spectra, sums of sines.

Coefficients are drawn from low to high wave numbers, one stream of numbers a sample. The same seed therefore gives the
same coefficients at every resolution, and sample i does not depend on how many samples are drawn.

Gaussian fields have the covariance sigma^2 (-Laplacian + tau^2)^-alpha without their mean: the input of the
Navier-Stokes, Darcy and Burgers data of arXiv 2010.08895 (appendix A.3).
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Amplitude = Literal["current", "released"]


def normal_numbers(n: int, count: int, seed: int, first: int = 0) -> np.ndarray:
    """(n, count) normal numbers; row i begins the endless stream of sample `first + i`."""
    rows = [np.random.default_rng([seed, first + i]).standard_normal(count) for i in range(n)]
    return np.stack(rows) if rows else np.zeros((0, count))


@lru_cache(maxsize=32)
def half_plane(k_max: int) -> tuple[np.ndarray, np.ndarray]:
    """kx, ky of one of k and -k each, 0 < max(|kx|, |ky|) <= k_max, in square shells of rising wave number."""
    kx, ky = np.meshgrid(np.arange(-k_max, k_max + 1), np.arange(k_max + 1), indexing="ij")
    kept = (ky > 0) | (kx > 0)
    kx, ky = kx[kept], ky[kept]
    order = np.lexsort((ky, kx, np.maximum(np.abs(kx), ky)))
    return kx[order], ky[order]


def _synthesise(coefficients: np.ndarray, size: int, k: tuple[np.ndarray, ...]) -> Tensor:
    """sum over all k of c_k exp(2 pi i k.x) for c_-k = conj(c_k), from one of each pair; float64 (n, size[, size])."""
    n = len(coefficients)
    if len(k) == 1:
        spectrum = np.zeros((n, size // 2 + 1), complex)
        spectrum[:, k[0]] = coefficients
        return torch.fft.irfft(torch.from_numpy(spectrum), size, norm="forward")
    kx, ky = k
    spectrum = np.zeros((n, size, size // 2 + 1), complex)
    spectrum[:, kx % size, ky] = coefficients
    axis = ky == 0  # both of a pair lie in the half that a real transform stores
    spectrum[:, -kx[axis] % size, 0] = coefficients[:, axis].conj()
    return torch.fft.irfft2(torch.from_numpy(spectrum), (size, size), norm="forward")


def periodic_field(
    n: int,
    size: int,
    *,
    dim: int = 2,
    alpha: float = 2.5,
    tau: float = 7.0,
    sigma: float | None = None,
    amplitude: Amplitude = "current",
    k_max: int | None = None,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Gaussian random fields on the periodic unit interval or square, at the points j / size.

    Args:
        n: fields.
        size: points an axis.
        dim: 1 or 2.
        alpha, tau: of the covariance sigma^2 (-Laplacian + tau^2)^-alpha.
        sigma: default tau^(alpha - dim/2), the authors' choice.
        amplitude: `current` has this covariance. `released` is a factor sqrt(2) larger: the public script of 2020
            drew real and imaginary parts of variance 1 where later torch versions draw 1/2 (history of
            neuraloperator/neuraloperator), and the published files predate the change.
        k_max: highest wave number; default all that the grid holds below Nyquist.
        seed, first: sample i of this call is sample `first + i` of the seed.

    Returns:
        (n, size) or (n, size, size), float64, with zero mean in space.
    """
    if dim not in (1, 2):
        raise ValueError(f"dim: 1 or 2, given {dim}")
    scale = tau ** (alpha - dim / 2) if sigma is None else sigma
    k_max = _checked_k_max(size, k_max)
    if dim == 1:
        squared = np.arange(1, k_max + 1) ** 2
    else:
        kx, ky = half_plane(k_max)
        squared = kx**2 + ky**2
    if amplitude not in ("current", "released"):
        raise ValueError(f"amplitude: current or released, given {amplitude!r}")
    scale *= math.sqrt(2) if amplitude == "released" else 1
    deviation = scale * (4 * np.pi**2 * squared + tau**2) ** (-alpha / 2)
    if k_max == 0:
        return torch.zeros(n, *[size] * dim, dtype=torch.float64)
    numbers = normal_numbers(n, 2 * deviation.size, seed, first)
    complex_normal = (numbers[:, 0::2] + 1j * numbers[:, 1::2]) / math.sqrt(2)
    k = (np.arange(1, k_max + 1),) if dim == 1 else half_plane(k_max)
    return _synthesise(complex_normal * deviation, size, k)


def _checked_k_max(size: int, k_max: int | None) -> int:
    held = (size - 1) // 2
    if k_max is not None and k_max > held:
        raise ValueError(f"k_max: a grid of {size} points holds wave numbers up to {held}, given {k_max}")
    return held if k_max is None else k_max


def neumann_field(
    n: int,
    size: int,
    *,
    dim: int = 2,
    alpha: float = 2.0,
    tau: float = 3.0,
    sigma: float | None = None,
    n_modes: int | None = None,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Gaussian random fields with zero normal derivative on the unit interval or square, at its nodes, ends included.

    A cosine series: sum_k sigma (pi^2 |k|^2 + tau^2)^(-alpha/2) xi_k phi_k with the cosines phi_k normalised in L2.
    The authors' script evaluates it in cell centres and interpolates to the nodes; here it is evaluated at the nodes.

    Args:
        n: fields.
        size: nodes an axis, linspace(0, 1, size).
        dim: 1 or 2.
        alpha, tau: of the covariance.
        sigma: default tau^(alpha - dim/2).
        n_modes: cosines an axis; default `size`. Give it to get the same function at several sizes.
        seed, first: sample i of this call is sample `first + i` of the seed.

    Returns:
        (n, size) or (n, size, size), float64.
    """
    if dim not in (1, 2):
        raise ValueError(f"dim: 1 or 2, given {dim}")
    scale = tau ** (alpha - dim / 2) if sigma is None else sigma
    modes = size if n_modes is None else n_modes
    k = np.arange(modes)
    cosines = np.where(k > 0, math.sqrt(2), 1.0) * np.cos(np.pi * np.linspace(0, 1, size)[:, None] * k)
    if dim == 1:
        deviation = scale * (np.pi**2 * k**2 + tau**2) ** (-alpha / 2)
        deviation[0] = 0
        return torch.from_numpy((normal_numbers(n, modes, seed, first) * deviation) @ cosines.T)
    k1, k2 = (grid.ravel() for grid in np.meshgrid(k, k, indexing="ij"))
    order = np.lexsort((k2, k1, np.maximum(k1, k2)))
    deviation = scale * (np.pi**2 * (k1**2 + k2**2) + tau**2) ** (-alpha / 2)
    deviation[0] = 0
    coefficients = np.zeros((n, modes * modes))
    coefficients[:, order] = normal_numbers(n, modes * modes, seed, first) * deviation[order]
    return torch.from_numpy(cosines @ coefficients.reshape(n, modes, modes) @ cosines.T)


def turbulent_vorticity(
    n: int,
    size: int,
    *,
    spectrum: Literal["gaussian", "mcwilliams"] = "gaussian",
    k_peak: float = 4.0,
    k_max: int | None = None,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Random vorticity on the periodic square of length 2 pi, each sample with a root mean square speed of 1.

    Args:
        n, size: fields, points an axis.
        spectrum: `gaussian` has vorticity amplitudes k^2 exp(-(k / k_peak)^2); `mcwilliams` stream function amplitudes
            (k (1 + (k / 6)^4))^(-1/2), the decaying turbulence of McWilliams (J. Fluid Mech. 146, 1984).
        k_peak: of `gaussian`.
        k_max: highest wave number; default all that the grid holds below Nyquist.
        seed, first: sample i of this call is sample `first + i` of the seed.

    Returns:
        (n, size, size), float64.
    """
    k_max = _checked_k_max(size, k_max)
    kx, ky = half_plane(k_max)
    k = np.sqrt(kx**2 + ky**2)
    if spectrum == "gaussian":
        deviation = k**2 * np.exp(-((k / k_peak) ** 2))
    elif spectrum == "mcwilliams":
        deviation = k**2 / np.sqrt(k * (1 + (k / 6) ** 4))
    else:
        raise ValueError(f"spectrum: gaussian or mcwilliams, given {spectrum!r}")
    numbers = normal_numbers(n, 2 * len(k), seed, first)
    coefficients = (numbers[:, 0::2] + 1j * numbers[:, 1::2]) * deviation
    speed = np.sqrt(2 * (np.abs(coefficients) ** 2 / k**2).sum(1, keepdims=True))
    return _synthesise(coefficients / speed, size, (kx, ky))


def random_sines(
    x: Tensor,
    *,
    length: float = 1.0,
    k_max: int = 8,
    terms: int = 2,
    special: float = 0.1,
    seed: int = 0,
    first: int = 0,
) -> Tensor:
    """Sums of sines with random amplitudes and phases, evaluated at x: PDEBench's initial states in one dimension.

    Args:
        x: (n, ...) positions, of any number a sample; row i is sample `first + i`.
        length: the period.
        k_max, terms: each of `terms` sines has a wave number from 1 to k_max, an amplitude in [0, 1), a phase.
        special: probability of taking the absolute value with a random sign, and of keeping a random window only.
        seed, first: which samples.

    Returns:
        The shape of x, float64.
    """
    values = []
    for i, places in enumerate(x.double()):
        draw = np.random.default_rng([seed, first + i])
        k, a = draw.integers(1, k_max + 1, terms), draw.uniform(0, 1, terms)
        phase = draw.uniform(0, 2 * np.pi, terms)
        absolute, windowed = draw.uniform(size=2) < special
        sign, start, width = draw.choice([-1.0, 1.0]), draw.uniform(0.1, 0.45), draw.uniform(0.1, 0.45)
        u = sum(
            float(a[j]) * torch.sin(2 * np.pi * float(k[j]) / length * places + float(phase[j])) for j in range(terms)
        )
        assert isinstance(u, Tensor)
        if absolute:
            u = float(sign) * u.abs()
        if windowed:
            share = (places / length) % 1
            u = u * ((share >= start) & (share <= start + width))
        values.append(u)
    return torch.stack(values) if values else x.double()
