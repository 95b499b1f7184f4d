"""What the recipes of all operator models share: a user's PDE data in, relative L2 errors, the same layout out.

Files with inputs and one frame make a static map (coefficient to solution); files with several frames a time stepper
that is trained on pairs of frames and scored one step ahead and rolled out. A paper's recipe is then

    recipe = field_recipe("fno", FNO, build, settings=dict(width=32))

where `build(description, settings)` finds `in_channels`, `out_channels`, `space` and `bc` in the description.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError, SettingError
from paperworks.training.recipe import Part, Recipe, UserData

from .field_files import FieldFiles, open_fields
from .field_pictures import field_pictures
from .field_writing import KINDS, write_predictions
from .pde_data import Fields

IN_MEMORY = 2**30  # bytes; larger files are read a batch at a time
MOST_PAIRS, MOST_TRAJECTORIES = 2_000, 100  # that scores are taken over, at equal distances
LOST = 1e6  # the error of a trajectory that left the numbers
CHUNK = 32  # samples predicted together
SHOWN = 2**28  # bytes of the samples that pictures are made of

Forward = Callable[[nn.Module, Tensor], Tensor]


class FieldRows:
    """Normalised rows (input, target, size of the target) of some samples, read when asked for.

    Input (rows, in_channels, *space): `history` frames from old to new, the static inputs, the parameters as constant
    channels; target (rows, out_channels, *space): the next frame, or the only one. The size is the target's L2 norm
    in units in which every channel has standard deviation 1 and its own mean, so that errors of normalised values
    divided by it are relative errors.
    """

    def __init__(self, files: FieldFiles, samples: list[int], description: Mapping[str, Any]):
        self.files, self.samples, self.description = files, samples, description
        self.history = description["history"] if description["kind"] == "series" else 0
        self.each = max(1, files.times - self.history)
        dims = len(files.space)
        column = lambda name: torch.tensor(description[name], dtype=torch.float32).view(-1, *[1] * dims)  # noqa: E731
        self.mean, self.std = column("mean"), column("std")
        self.input_mean, self.input_std = column("input_mean"), column("input_std")
        self.param_mean, self.param_std = column("param_mean"), column("param_std")
        self.memory: Fields | None = None

    def __len__(self) -> int:
        return len(self.samples) * self.each

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        if self.memory is None and self.files.nbytes <= IN_MEMORY:
            self.memory = self.files.read(self.samples)
        index = torch.as_tensor(rows)
        sample, start = index // self.each, index % self.each
        span = self.history + 1
        if self.memory is not None:
            frames = self.memory.fields[sample[:, None], start[:, None] + torch.arange(span)]
            static = self.static(self.memory[sample])
        else:
            places = [self.samples[i] for i in sample.tolist()]
            pairs = zip(places, start.tolist(), strict=True)
            read = [self.files.read([i], slice(first, first + span)) for i, first in pairs]
            frames = torch.cat([each.fields for each in read])
            static = torch.cat([self.static(each) for each in read])
        target = frames[:, -1] / self.std
        size = target.flatten(1).norm(dim=1)
        x = torch.cat([self.normalise(frames[:, :-1]).flatten(1, 2), static], 1)
        return x, target - self.mean / self.std, size

    def normalise(self, fields: Tensor) -> Tensor:
        """Fields (..., channel, *space) with mean 0 and standard deviation 1 a channel."""
        return (fields - self.mean) / self.std

    def restore(self, values: Tensor) -> Tensor:
        """The inverse, in the data's units."""
        return values * self.std + self.mean

    def static(self, data: Fields) -> Tensor:
        """Channels that do not change in time, normalised: inputs and parameters, (n, channel, *space)."""
        space = self.files.space
        parts = [data.fields.new_zeros(len(data), 0, *space)]
        if data.inputs is not None:
            parts.append((data.inputs - self.input_mean) / self.input_std)
        if self.description["params"]:
            values = data.params.view(*data.params.shape, *[1] * len(space))
            parts.append(((values - self.param_mean) / self.param_std).expand(-1, -1, *space))
        return torch.cat(parts, 1)


def relative_l2(guess: Tensor, target: Tensor, size: Tensor) -> Tensor:
    """Norm of each row's error over the target's size."""
    return (guess - target).flatten(1).norm(dim=1) / size.clamp_min(1e-6)


def field_recipe(
    slug: str,
    model: type[nn.Module],
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], nn.Module],
    *,
    settings: Mapping[str, Any] | None = None,
    forward: Forward | None = None,
    any_size: bool = False,
) -> Recipe:
    """The recipe of an operator model.

    Args:
        slug: the paper.
        model: the class whose `from_pretrained` loads what was fitted.
        build: `(description, settings) -> model`. The description holds `kind` (static or series), `in_channels`,
            `out_channels`, `space` (points an axis), `bc`, `history`, `channel_names`, `input_names`, `param_names`.
        settings: the model's own, over `validation`, `history`, `steps`, `batch_size`, `lr` of this recipe.
        forward: `(model, input) -> output` where the model is not called with (rows, in_channels, *space) to give
            (rows, out_channels, *space).
        any_size: whether a fitted model predicts on other grids than that of its training.
    """
    apply: Forward = forward or (lambda net, x: net(x))

    def read(path: Path, chosen: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
        return read_fields(path, chosen, saved, any_size)

    def loss(net: nn.Module, batch: Any) -> Tensor:
        x, target, size = batch
        return relative_l2(apply(net, x), target, size).mean()

    def score(net: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
        return field_scores(net, part.rows, apply)

    def predict(net: nn.Module, data: UserData, out: Path) -> int:
        assert data.everything is not None
        return predict_fields(net, data.everything.rows, apply, out)

    def pictures(net: nn.Module, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
        return fitted_pictures(net, part.rows, apply)

    own = dict(validation=0.1, history=1, steps=2_000, batch_size=16, lr=1e-3)
    made = (read, build, model, loss, score, predict)
    return Recipe(slug, {**own, **(settings or {})}, *made, pictures=pictures, writes=".npz")


def read_fields(
    path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None, any_size: bool = False
) -> UserData:
    """A file's samples; the last part of them is kept for validation when fitting.

    Raises:
        DataFileError: nothing to learn from, or another problem than the model was fitted to.
    """
    files = open_fields(path)
    if saved is not None:
        _check_alike(files, saved, any_size)
        rows = FieldRows(files, list(range(len(files))), saved)
        return UserData(saved, everything=Part(rows, len(rows)))
    if not files.has_fields:
        wanted = ", ".join(f"'{block.name}'" for block in files.layout.fields)
        raise DataFileError(f"{path} has inputs but nothing to learn from: expected {wanted} too")
    if len(files) < 2:
        raise DataFileError(f"{path} holds {len(files)} sample; at least 2 are needed")
    history = settings["history"]
    if history < 1:
        raise SettingError(f"setting history={history}: at least 1 frame is given")
    kind = "static" if files.times == 1 else "series"
    if kind == "static" and not files.input_names:
        raise DataFileError(f"{path} has one frame and no inputs; expected inputs, or at least 2 frames")
    if kind == "series" and files.times <= history:
        raise DataFileError(f"{path} has {files.times} frames; with --set history={history} at least {history + 1}")
    count = max(1, round(settings["validation"] * len(files)))
    fitted, kept = list(range(len(files) - count)), list(range(len(files) - count, len(files)))
    told = files.statistics(fitted)
    params = files.params[fitted]
    varied = bool(len(files.param_names)) and bool((params != params[:1]).any())
    static = len(files.input_names) + (len(files.param_names) if varied else 0)
    description = {
        "layout": files.layout.name,
        "kind": kind,
        "history": history,
        "times": files.times,
        "space": list(files.space),
        "bc": list(files.bc),
        "channel_names": list(files.channel_names),
        "input_names": list(files.input_names),
        "param_names": list(files.param_names),
        "params": varied,
        "in_channels": static + (history * len(files.channel_names) if kind == "series" else 0),
        "out_channels": len(files.channel_names),
        "mean": list(told.mean),
        "std": [value or 1.0 for value in told.std],
        "input_mean": list(told.input_mean),
        "input_std": [value or 1.0 for value in told.input_std],
        "param_mean": params.mean(0).tolist(),
        "param_std": [float(value) or 1.0 for value in params.numpy().std(0)],
    }
    parts = [FieldRows(files, samples, description) for samples in (fitted, kept)]
    return UserData(description, *(Part(rows, len(rows)) for rows in parts))


def _check_alike(files: FieldFiles, saved: Mapping[str, Any], any_size: bool) -> None:
    names = [("input_names", files.input_names)]
    names += [("channel_names", files.channel_names)] if files.has_fields else []
    for what, given in names:
        if list(given) != list(saved[what]):
            raise DataFileError(
                f"{files.path}: {what.replace('_', ' ')} {list(given)}; the model was fitted on {list(saved[what])}"
            )
    if saved["params"] and len(files.param_names) != len(saved["param_names"]):
        raise DataFileError(f"{files.path}: expected the parameters {', '.join(saved['param_names'])} of each sample")
    given, fitted = list(files.space), list(saved["space"])
    if len(given) != len(fitted) or (given != fitted and not any_size):
        raise DataFileError(f"{files.path}: a grid of {given} points; the model was fitted on {fitted}")
    if saved["kind"] == "series" and (not files.has_fields or files.times < saved["history"]):
        raise DataFileError(f"{files.path} has {files.times} frames; the model starts from {saved['history']}")


def roll_out(net: nn.Module, rows: FieldRows, samples: list[int], frames: int, forward: Forward) -> Tensor:
    """(samples, frames, channel, *space) in the data's units: the given first frames, and what follows by the model."""
    device = next(net.parameters()).device
    data = rows.files.read(samples, slice(0, rows.history))
    static = rows.static(data).to(device)
    states = [state.to(device) for state in rows.normalise(data.fields).unbind(1)]
    while len(states) < frames:
        states.append(forward(net, torch.cat([*states[-rows.history :], static], 1)))
    told = rows.restore(torch.stack(states, 1).cpu())
    told[:, : rows.history] = data.fields
    return told[:, :frames]


def field_scores(net: nn.Module, rows: FieldRows, forward: Forward) -> dict[str, float]:
    """Mean relative L2 errors, each channel in units of its standard deviation.

    `relative_l2`: of the static map, or one step ahead from true frames. `rollout_relative_l2`: from the first frames
    to the last, the mean over the frames that the model made. Over at most 2,000 pairs and 100 trajectories.
    """
    if not rows.files.has_fields:
        raise DataFileError(f"{rows.files.path} has nothing to score against")
    device = next(net.parameters()).device
    errors: list[Tensor] = []
    chosen = list(range(0, len(rows), -(-len(rows) // MOST_PAIRS)))
    with torch.no_grad():
        for part in _chunks(chosen):
            x, target, size = (tensor.to(device) for tensor in rows[part])
            errors.append(relative_l2(forward(net, x), target, size))
        scores = {"relative_l2": float(torch.cat(errors).mean())}
        if rows.history:
            scores["rollout_relative_l2"] = _rollout_error(net, rows, forward)
    return scores


def fitted_pictures(net: nn.Module, rows: FieldRows, forward: Forward) -> list[dict[str, Any]]:
    """Input, truth, prediction, error, spectrum, and of time series the rollout, in the data's units.

    Of at most 32 samples at equal distances, fewer of large ones; none for fields in three dimensions.
    """
    if not rows.files.has_fields or len(rows.files.space) > 2:
        return []
    count = max(1, min(CHUNK, SHOWN * len(rows.files) // max(1, rows.files.nbytes)))
    samples = rows.samples[:: -(-len(rows.samples) // count)]
    data = rows.files.read(samples)
    if rows.history:
        guess = roll_out(net, rows, samples, rows.files.times, forward)[:, rows.history :]
        given, truth = data.fields[:, : rows.history], data.fields[:, rows.history :]
    else:
        device = next(net.parameters()).device
        guess = rows.restore(forward(net, rows.static(data).to(device)).cpu())[:, None]
        given, truth = rows.static(data)[:, None] if data.inputs is None else data.inputs[:, None], data.fields
    return field_pictures(given, truth, guess, rows.description["channel_names"])


def _rollout_error(net: nn.Module, rows: FieldRows, forward: Forward) -> float:
    chosen = rows.samples[:: -(-len(rows.samples) // MOST_TRAJECTORIES)]
    errors = []
    for part in _chunks(chosen):
        guess = roll_out(net, rows, part, rows.files.times, forward)[:, rows.history :] / rows.std
        truth = rows.files.read(part, slice(rows.history, None)).fields / rows.std
        difference, size = ((value.flatten(2).norm(dim=2)) for value in (guess - truth, truth))
        errors.append((difference / size.clamp_min(1e-6)).mean(1))
    # A model that is barely trained may leave the numbers: its error is large and not unknown
    return float(torch.cat(errors).nan_to_num(LOST, LOST).clamp_max(LOST).mean())


def _chunks(rows: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]


def predict_fields(net: nn.Module, rows: FieldRows, forward: Forward, out: Path) -> int:
    """Write the solutions, or the trajectories from the first frames: as many frames as the file has, or, where it has
    the first ones alone, as those fitted to had."""
    if out.suffix not in KINDS:
        raise DataFileError(f"{out}: fields go to a file ending in {', '.join(KINDS)}; give --out predictions.npz")
    device = next(net.parameters()).device
    files, told = rows.files, rows.description
    times = files.times if rows.history == 0 or files.times > rows.history else told["times"]

    def chunks() -> Iterator[Tensor]:
        for part in _chunks(rows.samples):
            if rows.history:
                yield roll_out(net, rows, part, times, forward)
            else:
                x = rows.static(files.read(part)).to(device)
                yield rows.restore(forward(net, x).cpu())[:, None]

    return write_predictions(out, files, chunks(), times, tuple(told["channel_names"]))
