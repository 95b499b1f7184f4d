"""Pictures of predicted fields on a grid: one sample with its error map, spectra, a rollout strip, error over time.

Every maker takes plain tensors, inputs (n, t, c, *space) and truth and prediction (n, t, c, *space) in the data's own
units, in one or two space dimensions, and returns a picture: a dict of small plain lists with `title`, `kind`,
`caption`, as `Trial.picture` and a recipe's `pictures` keep them.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

LARGEST = 64  # points a side of a map, 200 of a curve: a picture is for looking at
CURVE = 200
STRIP = 4  # moments of a rollout that are shown
CHANNELS = 3  # channels of a sample that are shown

Picture = dict[str, Any]


def field_pictures(
    inputs: Tensor, truth: Tensor, prediction: Tensor, channel_names: Sequence[str] | None = None
) -> list[Picture]:
    """All that can be shown of a prediction: the sample of median error, spectra and, for several moments, the rollout.

    Raises:
        ValueError: the shapes do not belong together, or have neither one nor two space dimensions.
    """
    _check(inputs, truth, prediction)
    row = median_row(truth, prediction)
    error = float(relative_l2(truth[row : row + 1], prediction[row : row + 1])[0, -1])
    last = " at the last moment" if truth.shape[1] > 1 else ""
    caption = f"The sample of median error (row {row + 1} of these); relative L2 {error:.3g}{last}."
    pictures = sample_pictures(inputs, truth, prediction, row, channel_names, caption)
    pictures.append(spectrum_picture(truth, prediction))
    if truth.shape[1] > 1:
        pictures.append(rollout_strip(truth, prediction, row, channel_names))
        pictures.append(error_over_time(truth, prediction))
    return pictures


def relative_l2(truth: Tensor, prediction: Tensor) -> Tensor:
    """Relative L2 error of every sample and moment, over channels and space: (n, t)."""
    flat = [tensor.flatten(2).double() for tensor in (prediction - truth, truth)]
    return flat[0].norm(dim=-1) / flat[1].norm(dim=-1).clamp_min(1e-12)


def median_row(truth: Tensor, prediction: Tensor) -> int:
    """The sample whose error over all moments is the median one: neither the best nor the worst is shown."""
    errors = relative_l2(truth.flatten(1, 2)[:, None], prediction.flatten(1, 2)[:, None])[:, 0]
    return int(errors.nan_to_num(math.inf).argsort()[(len(errors) - 1) // 2])


def sample_pictures(
    inputs: Tensor,
    truth: Tensor,
    prediction: Tensor,
    row: int = 0,
    channel_names: Sequence[str] | None = None,
    caption: str = "",
) -> list[Picture]:
    """Input, truth, prediction and error of one sample at its last moment, channel by channel."""
    _check(inputs, truth, prediction)
    pictures = []
    for channel in range(min(truth.shape[2], CHANNELS)):
        given = inputs[row, -1, min(channel, inputs.shape[2] - 1)]
        exact, guess = truth[row, -1, channel], prediction[row, -1, channel]
        name = _channel(channel_names, channel, truth.shape[2])
        title = f"One sample{name and ', '}{name}"
        make = _curves_of_sample if truth.ndim == 4 else _maps_of_sample
        pictures.append({"title": title, "caption": caption, **make(given, exact, guess)})
    return pictures


def _curves_of_sample(given: Tensor, exact: Tensor, guess: Tensor) -> Picture:
    curves = {"input": given, "truth": exact, "prediction": guess, "error": (guess - exact).abs()}
    series = {name: _numbers(_smaller_curve(values)) for name, values in curves.items()}
    if len(series["input"]) != len(series["truth"]):
        del series["input"]  # on a grid of its own
    count = len(series["truth"])
    x = [round(i / count, 5) for i in range(count)]
    return {"kind": "lines", "x": x, "x_label": "position along the domain", "series": series}


def _maps_of_sample(given: Tensor, exact: Tensor, guess: Tensor) -> Picture:
    maps = [_smaller_map(each) for each in (given, exact, guess, (guess - exact).abs())]
    shared = _range(maps[1])
    own = [_range(maps[0]), shared, shared, _from_zero(maps[3])]
    return {
        "kind": "images",
        "images": [_numbers(each) for each in maps],
        "labels": ["input", "truth", "prediction", "absolute error"],
        "columns": 2,
        "ranges": own,
        "colours": [*(_colours(each) for each in own[:3]), "error"],
    }


def spectrum_picture(truth: Tensor, prediction: Tensor) -> Picture:
    """Energy by wave number, mean over samples and moments: truth, prediction, and what is wrong with it."""
    _check(truth, truth, prediction)
    fields = {"truth": truth, "prediction": prediction, "error": prediction - truth}
    spectra = {name: radial_spectrum(field.flatten(0, 1)) for name, field in fields.items()}
    largest = float(spectra["truth"].nan_to_num(0, 0).max())
    shown = {name: spectrum[1:].clamp_min(largest * 1e-14) for name, spectrum in spectra.items()}  # 0 is the mean
    count = len(shown["truth"])
    return {
        "title": "Spectrum",
        "kind": "lines",
        "caption": "Energy by wave number (averaged over directions), mean over samples. Where the error meets the "
        "truth, nothing of that scale is predicted.",
        "x": list(range(1, count + 1)),
        "x_label": "wave number",
        "y_label": "energy",
        "series": {name: _numbers(values) for name, values in shown.items()},
    }


def radial_spectrum(field: Tensor) -> Tensor:
    """Energy of each whole wave number: (n, c, *space) -> (k,), mean over n, sum over c and over the shell.

    The sum over all wave numbers, those beyond the shorter side's Nyquist number aside, is the mean square of the
    field (Parseval).
    """
    space = tuple(range(2, field.ndim))
    sizes = field.shape[2:]
    modes = torch.fft.fftn(field.double(), dim=space, norm="forward").abs().square().sum(1).mean(0)
    axes = [torch.fft.fftfreq(size, 1 / size, dtype=torch.float64) for size in sizes]
    radius = torch.stack(torch.meshgrid(*axes, indexing="ij")).square().sum(0).sqrt().round().long()
    count = min(sizes) // 2 + 1
    energy = torch.zeros(int(radius.max()) + 1, dtype=torch.float64)
    energy.index_add_(0, radius.flatten(), modes.cpu().flatten())
    return energy[:count]


def rollout_strip(
    truth: Tensor, prediction: Tensor, row: int = 0, channel_names: Sequence[str] | None = None, channel: int = 0
) -> Picture:
    """Truth, prediction and error of one sample as time goes on; in one dimension, space against time."""
    _check(truth, truth, prediction)
    exact, guess = truth[row, :, channel], prediction[row, :, channel]
    error = (guess - exact).abs()
    name = _channel(channel_names, channel, truth.shape[2])
    head = {"title": f"Rollout{name and ', '}{name}", "kind": "images"}
    if truth.ndim == 4:
        maps = [_smaller_map(each) for each in (exact, guess, error)]
        shared = _range(maps[0])
        return head | {
            "caption": f"Row {row + 1}: the domain from left to right, time downwards.",
            "images": [_numbers(each) for each in maps],
            "labels": ["truth", "prediction", "absolute error"],
            "columns": 2,
            "ranges": [shared, shared, _from_zero(maps[2])],
            "colours": [_colours(shared), _colours(shared), "error"],
            "stretch": True,
        }
    steps = len(exact)
    moments = sorted({round(i * (steps - 1) / (STRIP - 1)) for i in range(STRIP)})
    maps = [_smaller_map(each[moment]) for each in (exact, guess, error) for moment in moments]
    count = len(moments)
    shared, wrong = _range(torch.stack(maps[:count])), _from_zero(torch.stack(maps[2 * count :]))
    rows = ("truth", "pred.", "error")
    return head | {
        "caption": f"Row {row + 1}; above truth, in the middle the prediction, below the absolute error, all maps of a "
        "kind in one range of colours.",
        "images": [_numbers(each) for each in maps],
        "labels": [f"{kind} {moment + 1}" for kind in rows for moment in moments],
        "columns": count,
        "ranges": [shared] * (2 * count) + [wrong] * count,
        "colours": [_colours(shared)] * (2 * count) + ["error"] * count,
    }


def error_over_time(truth: Tensor, prediction: Tensor) -> Picture:
    """Relative L2 error of every moment: mean over samples, and the worst of them."""
    errors = relative_l2(truth, prediction)
    return {
        "title": "Error as time goes on",
        "kind": "lines",
        "caption": "Relative L2 error at every predicted moment.",
        "x": list(range(1, errors.shape[1] + 1)),
        "x_label": "moment",
        "y_label": "relative L2",
        "series": {"mean": _numbers(errors.mean(0)), "worst sample": _numbers(errors.max(0).values)},
    }


def _check(inputs: Tensor, truth: Tensor, prediction: Tensor) -> None:
    if truth.ndim not in (4, 5):
        raise ValueError(f"truth: expected (n, t, c, *space) in one or two dimensions, given {tuple(truth.shape)}")
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction: expected {tuple(truth.shape)}, given {tuple(prediction.shape)}")
    if inputs.ndim != truth.ndim or len(inputs) != len(truth):
        raise ValueError(f"inputs: expected ({len(truth)}, t, c, *space), given {tuple(inputs.shape)}")
    if not len(truth):
        raise ValueError("truth: no sample to show")


def _channel(names: Sequence[str] | None, channel: int, count: int) -> str:
    if names and channel < len(names):
        return str(names[channel])
    return f"channel {channel + 1}" if count > 1 else ""


def _range(values: Tensor) -> list[float]:
    """The colours' ends: both signs alike where a field has both, so that white is zero."""
    finite = values[torch.isfinite(values)]
    if not finite.numel():
        return [0.0, 1.0]
    low, high = float(finite.min()), float(finite.max())
    if low < 0 < high and min(-low, high) > 0.2 * max(-low, high):
        low, high = -max(-low, high), max(-low, high)
    return [low, high] if high > low else [low - 0.5, low + 0.5]


def _from_zero(error: Tensor) -> list[float]:
    finite = error[torch.isfinite(error)]
    return [0.0, max(float(finite.max()) if finite.numel() else 1.0, 1e-30)]


def _colours(ends: list[float]) -> str:
    return "signed" if ends[0] == -ends[1] else "field"


def _smaller_map(values: Tensor) -> Tensor:
    """At most 64 points a side, averaged over what falls into one."""
    values = values.detach().float().cpu()
    size = (min(values.shape[0], LARGEST), min(values.shape[1], LARGEST))
    return F.adaptive_avg_pool2d(values[None, None], size)[0, 0] if size != values.shape else values


def _smaller_curve(values: Tensor) -> Tensor:
    values = values.detach().float().cpu()
    return values if len(values) <= CURVE else F.adaptive_avg_pool1d(values[None, None], CURVE)[0, 0]


def _numbers(values: Tensor) -> Any:
    """Nested lists of short numbers; None where not finite."""
    if values.ndim > 1:
        return [_numbers(row) for row in values]
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]
