"""Changing resolution in Fourier space keeps coefficients."""

import math

import pytest
import torch

from paperworks.operators.spectral_grid import resample, wave_numbers


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize(("coarse", "fine"), [(8, 12), (7, 12), (8, 13), (9, 15)])
def test_refining_and_truncating_gives_the_field_back(dim, coarse, fine):
    field = torch.randn(2, 3, *[coarse] * dim).double()
    smooth = resample(resample(field, fine, dim), coarse, dim)  # only the Nyquist coefficient of an even size is lost
    if coarse % 2:
        torch.testing.assert_close(smooth, field)
    torch.testing.assert_close(resample(resample(smooth, fine, dim), coarse, dim), smooth)


@pytest.mark.parametrize("size", [5, 8, 16, 33])
def test_a_low_mode_is_the_same_function_on_every_grid(size):
    def wave(n):
        x = torch.arange(n).double() / n
        return (torch.sin(2 * math.pi * (2 * x[:, None] - x)) + 0.5)[None]

    torch.testing.assert_close(resample(wave(12), size, 2), wave(size))


def test_what_is_above_the_coarse_nyquist_is_dropped_and_not_aliased():
    x = torch.arange(32).double() / 32
    assert resample(torch.cos(2 * math.pi * 8 * x)[None], 16, 1).abs().max() < 1e-14
    assert resample(torch.cos(2 * math.pi * 9 * x)[None], 16, 1).abs().max() < 1e-14


def test_wave_numbers_differentiate():
    x = 3.0 / 16 * torch.arange(16).double()
    (k,) = wave_numbers(16, 1, 3.0)
    slope = torch.fft.irfft(1j * k * torch.fft.rfft(torch.sin(2 * math.pi / 3 * 2 * x)), 16)
    torch.testing.assert_close(slope, 4 * math.pi / 3 * torch.cos(2 * math.pi / 3 * 2 * x))
