"""Pictures of fields: spectra obey Parseval, the sample shown is the median one, and every picture is drawn."""

import math

import pytest
import torch

from paperworks.gallery import figures
from paperworks.operators.field_pictures import (
    error_over_time,
    field_pictures,
    median_row,
    radial_spectrum,
    relative_l2,
    rollout_strip,
    sample_pictures,
    spectrum_picture,
)


@pytest.mark.parametrize("size", [(16,), (12, 12), (9, 15)])
def test_the_spectrum_of_a_band_limited_field_sums_to_its_mean_square(size):
    """Parseval: no wave number beyond the shorter side's Nyquist number is there to be lost."""
    field = torch.randn(5, 2, *size, dtype=torch.float64)
    modes = torch.fft.fftn(field, dim=tuple(range(2, field.ndim)))
    axes = [torch.fft.fftfreq(n, 1 / n) for n in size]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt()
    modes[..., radius.round() > min(size) // 2] = 0
    field = torch.fft.ifftn(modes, dim=tuple(range(2, field.ndim))).real
    total = field.square().sum(1).mean()
    assert radial_spectrum(field).sum() == pytest.approx(float(total), rel=1e-12)


@pytest.mark.parametrize("wave", [1, 3, 7])
def test_a_plane_wave_has_one_wave_number(wave):
    x = torch.arange(32) / 32
    field = torch.sin(2 * math.pi * wave * x).expand(1, 1, 32, 32)
    spectrum = radial_spectrum(field)
    assert spectrum[wave] == pytest.approx(0.5, rel=1e-5)  # the mean square of a sine
    assert spectrum.sum() - spectrum[wave] < 1e-6


def test_relative_error_is_that_of_the_scale():
    truth = torch.randn(4, 3, 2, 8, 8)
    assert relative_l2(truth, 1.1 * truth) == pytest.approx(torch.full((4, 3), 0.1).numpy(), rel=1e-4)


def test_the_sample_shown_is_the_median_one():
    truth = torch.ones(5, 1, 1, 8)
    prediction = truth * torch.tensor([1.5, 1.1, 1.0, 1.9, 1.3]).reshape(5, 1, 1, 1)
    assert median_row(truth, prediction) == 4
    diverged = prediction.clone()
    diverged[1] = math.nan
    assert median_row(truth, diverged) == 0


@pytest.mark.parametrize(
    ("space", "times", "channels"), [((250,), 1, 1), ((20,), 3, 2), ((10, 14), 1, 2), ((80, 70), 3, 1)]
)
def test_every_picture_is_small_plain_and_drawn(space, times, channels):
    truth = torch.randn(3, times, channels, *space)
    inputs = torch.randn(3, 1, 1, *space)
    pictures = field_pictures(inputs, truth, truth + 0.1 * torch.randn_like(truth), ["u", "v"][:channels])
    kinds = [picture["title"].split(",")[0] for picture in pictures]
    assert kinds.count("One sample") == channels
    assert "Spectrum" in kinds
    assert ("Rollout" in kinds) == ("Error as time goes on" in kinds) == (times > 1)
    for picture in pictures:
        assert figures.picture(picture)
        for panel in picture.get("images", []):
            assert len(panel) <= 64
            assert all(len(row) <= 64 and all(isinstance(v, float) for v in row) for row in panel)


def test_truth_and_prediction_share_their_colours_and_the_error_begins_at_zero():
    truth = torch.randn(2, 5, 1, 8, 8)
    sample = sample_pictures(truth[:, :1], truth, 3 * truth)[0]
    assert sample["labels"] == ["input", "truth", "prediction", "absolute error"]
    assert sample["ranges"][1] == sample["ranges"][2]
    assert sample["ranges"][3][0] == 0.0
    strip = rollout_strip(truth, 3 * truth)
    assert len(strip["images"]) == 3 * strip["columns"] == 12
    assert strip["labels"][:4] == ["truth 1", "truth 2", "truth 4", "truth 5"]
    assert len({tuple(each) for each in strip["ranges"][:8]}) == 1


def test_a_diverged_prediction_is_drawn_with_holes():
    truth = torch.randn(2, 3, 1, 8, 8)
    prediction = truth.clone()
    prediction[:, -1] = math.inf
    for picture in field_pictures(truth[:, :1], truth, prediction):
        assert figures.picture(picture), picture["title"]


def test_error_over_time_is_that_of_each_moment():
    truth = torch.ones(2, 3, 1, 8)
    prediction = truth * torch.tensor([1.0, 1.1, 1.2]).reshape(1, 3, 1, 1)
    prediction[1] = truth[1]
    series = error_over_time(truth, prediction)["series"]
    assert series["worst sample"] == pytest.approx([0, 0.1, 0.2], abs=1e-4)
    assert series["mean"] == pytest.approx([0, 0.05, 0.1], abs=1e-4)


def test_the_spectrum_of_a_low_pass_misses_what_it_cut():
    truth = torch.randn(8, 1, 1, 32)
    low = torch.fft.rfft(truth)
    low[..., 5:] = 0
    series = spectrum_picture(truth, torch.fft.irfft(low, n=32))["series"]
    assert series["error"][:4] == pytest.approx([0] * 4, abs=1e-9)
    assert series["error"][4:] == pytest.approx(series["truth"][4:], rel=1e-3)
    assert max(series["prediction"][4:]) < 1e-9


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ((torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 4), torch.zeros(2, 1, 4)), "truth"),
        ((torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 5)), "prediction"),
        ((torch.zeros(3, 1, 1, 4), torch.zeros(2, 1, 1, 4), torch.zeros(2, 1, 1, 4)), "inputs"),
        ((torch.zeros(0, 1, 1, 4),) * 3, "no sample"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        field_pictures(*wrong)
