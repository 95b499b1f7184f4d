"""Periodic grids in Fourier space: wave numbers, and changes of resolution that keep a field's coefficients.

A grid of `size` points holds the coefficients |k| < size / 2. The Nyquist coefficient of an even size has no phase and
is left at zero, so that a field keeps its values when it is written on a finer grid and truncated again.
"""

import torch
from torch import Tensor


def wave_numbers(
    size: int, dim: int, length: float = 1.0, *, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """2 pi k / length of every axis, shaped to broadcast against `rfftn` of a grid of `size` points an axis."""
    axes = []
    for axis in range(dim):
        last = axis == dim - 1
        k = torch.fft.rfftfreq(size, 1 / size) if last else torch.fft.fftfreq(size, 1 / size)
        shape = [1] * dim
        shape[axis] = len(k)
        axes.append((2 * torch.pi / length * k.to(device, dtype)).reshape(shape))
    return tuple(axes)


def resample(fields: Tensor, size: int, dim: int) -> Tensor:
    """Periodic fields on `size` points an axis, by dropping or adding coefficients.

    Args:
        fields: (..., n, ..., n) with `dim` axes of space at the end, on the points j / n of the period.
        size: points of each of these axes; smaller truncates |k| >= size / 2, larger interpolates exactly.

    Returns:
        The same leading axes, on the points j / size.
    """
    n = fields.shape[-1]
    if n == size:
        return fields
    axes = tuple(range(-dim, 0))
    spectrum = torch.fft.rfftn(fields, dim=axes, norm="forward")
    kept = (min(n, size) - 1) // 2  # |k| up to here on both grids: Nyquist is dropped
    target = spectrum.new_zeros((*spectrum.shape[:-dim], *[size] * (dim - 1), size // 2 + 1))
    blocks: list[tuple[tuple[slice, ...], tuple[slice, ...]]] = [((), ())]
    for _ in range(dim - 1):
        low, high = slice(0, kept + 1), slice(-kept, None)
        parts = [low, high] if kept else [low]
        blocks = [((*a, part), (*b, part)) for a, b in blocks for part in parts]
    for source, place in blocks:
        last = slice(0, kept + 1)
        target[(..., *place, last)] = spectrum[(..., *source, last)]
    return torch.fft.irfftn(target, s=[size] * dim, dim=axes, norm="forward")
