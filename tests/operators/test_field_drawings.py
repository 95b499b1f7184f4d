"""Spectra obey Parseval; pictures are drawn for every kind of data, and show what they were given."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.operators.field_drawings import draw_fields, power_spectrum
from paperworks.operators.random_fields import periodic_field


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_shells_add_up_to_the_mean_square(dims):
    x = torch.arange(16).double() / 16
    wave = torch.cos(2 * math.pi * 3 * x) + 0.5
    field = (wave.reshape(-1, *[1] * (dims - 1)) * torch.ones([16] * dims)).expand(2, *[16] * dims)
    power = power_spectrum(field, dims)
    assert power.shape == (2, 8)
    torch.testing.assert_close(power.sum(1), field.square().flatten(1).mean(1))
    torch.testing.assert_close(power[0, [0, 3]], torch.tensor([0.25, 0.5], dtype=torch.float64))


def test_the_spectrum_is_that_of_the_random_field():
    u = periodic_field(500, 32, dim=1, alpha=2, tau=5, sigma=25)
    k = torch.arange(1, 16).double()
    expected = 2 * 625 * (4 * math.pi**2 * k**2 + 25) ** -2
    assert (power_spectrum(u, 1)[:, 1:].mean(0) / expected).log().abs().max() < 0.3


def test_axes_of_different_sizes_are_counted_in_the_same_waves():
    x, y = torch.arange(16).double()[:, None] / 16, torch.arange(48).double() / 48
    along_x, along_y = torch.cos(2 * math.pi * 2 * x + 0 * y), torch.cos(2 * math.pi * 6 * y + 0 * x)
    torch.testing.assert_close(power_spectrum(along_x, 2), power_spectrum(along_y, 2))


@pytest.mark.slow
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("times", [1, 5])
def test_every_kind_of_data_is_drawn(tmp_path, dims, times):
    truth = torch.randn(2, times, *[12] * dims)
    given = torch.randn(2, *[12] * dims) if times == 1 else None
    files = draw_fields(tmp_path, given, truth, truth + 0.1, (torch.arange(12.0),) * dims, ("a", "u"))
    assert files == ["fields.png", "rollout.gif"][: 1 + (times > 1)]
    for name in files:
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image.convert("L")).std() > 1
            assert getattr(image, "n_frames", 1) == (5 if name == "rollout.gif" else 1)


def test_a_constant_prediction_of_nothing_is_drawn(tmp_path):
    zero = torch.zeros(1, 3, 8, 8)
    assert draw_fields(tmp_path, None, zero, zero, (torch.arange(8.0),) * 2, ("", "u"))
