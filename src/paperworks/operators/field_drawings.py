"""Pictures of predicted fields beside the truth: panels with error maps, spectra, growth of the error, an animation."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHOWN = 4  # samples, or frames of a strip
MOST_FRAMES = 40  # of an animation
TRUTH, GUESS, ERROR = "#1f5a8a", "#c4572b", "#8a1f5a"


def power_spectrum(fields: Tensor, dims: int) -> Tensor:
    """Sum of |c_k|^2 over shells of wave numbers, (..., *space) -> (..., shells).

    Shell k holds the wave numbers that round to k, counted in waves along the shortest axis, up to below its Nyquist
    number; the shells of a field that lies in them add up to its mean square.
    """
    space = fields.shape[-dims:]
    power = torch.fft.fftn(fields.double(), dim=tuple(range(-dims, 0)), norm="forward").abs().square()
    squared = torch.zeros(space, dtype=torch.float64)
    for axis, size in enumerate(space):
        k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64) * (min(space) / size)
        squared = squared + k.square().reshape([-1 if other == axis else 1 for other in range(dims)])
    shell = squared.sqrt().round().long().flatten()
    shells = (min(space) - 1) // 2 + 1
    out = torch.zeros(*fields.shape[:-dims], shells, dtype=torch.float64)
    kept = shell < shells
    return out.index_add_(-1, shell[kept], power.flatten(-dims)[..., kept])


def draw_fields(
    folder: Path, given: Tensor | None, truth: Tensor, guess: Tensor, coords: tuple[Tensor, ...], names: tuple[str, str]
) -> list[str]:
    """Draw a comparison into a folder.

    Args:
        folder: where the files go.
        given: (n, *space) the inputs of a static map; None for trajectories.
        truth, guess: (n, time, *space) one channel of some samples, with one frame for a static map.
        coords: positions along the axes of space.
        names: of the input and of the channel that is drawn.

    Returns:
        The names of the files: `fields.png`, and for trajectories `rollout.gif`.
    """
    from matplotlib.figure import Figure

    dims = truth.ndim - 2
    if dims == 3:  # the middle plane
        middle = truth.shape[-1] // 2
        given, truth, guess = (None if a is None else a[..., middle] for a in (given, truth, guess))  # type: ignore[misc]
        coords, dims = coords[:2], 2
    series = truth.shape[1] > 1
    if series:
        frames = sorted({round(i) for i in torch.linspace(0, truth.shape[1] - 1, SHOWN).tolist()})
        columns = [(f"frame {i}", None, truth[0, i], guess[0, i]) for i in frames]
    else:
        shown = range(min(SHOWN, len(truth)))
        columns = [(f"sample {i}", None if given is None else given[i], truth[i, 0], guess[i, 0]) for i in shown]
    with_input = columns[0][1] is not None
    rows = (1 if dims == 1 else 2) + 1 + with_input
    figure = Figure(figsize=(2.4 * len(columns) + 0.8, 1.9 * rows + 2.6), dpi=90)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.9 * rows, 2.6])
    upper, lower = parts
    upper.subplots_adjust(0.07, 0.06 if dims == 1 else 0.02, 0.97, 1 - 0.12 / rows, 0.3 if dims == 1 else 0.12, 0.2)
    axes = upper.subplots(rows, len(columns), squeeze=False)
    for column, (title, source, true, told) in enumerate(columns):
        panels = [(names[0], source)] if source is not None else []
        for row, (name, values) in enumerate(panels):
            _panel(upper, axes[row, column], values, coords, name if column == 0 else "")
        below = axes[len(panels) :, column]
        first = column == 0
        if dims == 1:
            _lines(
                below[0], coords[0], {"truth": (true, TRUTH), "prediction": (told, GUESS)}, names[1] if first else ""
            )
            _lines(below[1], coords[0], {"error": (told - true, ERROR)}, "error" if first else "")
        else:
            bounds = (float(true.min()), float(true.max()))
            _panel(upper, below[0], true, coords, f"{names[1]}, truth" if first else "", bounds)
            _panel(upper, below[1], told, coords, "prediction" if first else "", bounds)
            largest = float((told - true).abs().max()) or 1.0
            _panel(upper, below[2], told - true, coords, "error" if first else "", (-largest, largest), "RdBu_r")
        axes[0, column].set_title(title, fontsize=9)
    _curves(lower, truth, guess, dims, series)
    figure.savefig(folder / "fields.png")
    files = ["fields.png"]
    if series:
        _animate(folder / "rollout.gif", truth[0], guess[0], coords, dims)
        files.append("rollout.gif")
    return files


def _panel(
    figure: Any,
    axes: Any,
    values: Tensor,
    coords: Any,
    label: str,
    bounds: Any = (None, None),
    colours: str = "cividis",
) -> None:
    if values.ndim == 1:
        _lines(axes, coords[0], {"": (values, TRUTH)}, label)
        return
    extent = (float(coords[0][0]), float(coords[0][-1]), float(coords[1][0]), float(coords[1][-1]))
    image = axes.imshow(
        values.numpy().T, origin="lower", extent=extent, aspect="auto", cmap=colours, vmin=bounds[0], vmax=bounds[1]
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_ylabel(label, fontsize=9)
    figure.colorbar(image, ax=axes, shrink=0.85).ax.tick_params(labelsize=7)


def _lines(axes: Any, x: Tensor, lines: dict[str, tuple[Tensor, str]], label: str) -> None:
    for number, (name, (values, colour)) in enumerate(lines.items()):
        axes.plot(
            x.numpy(), values.numpy(), color=colour, linestyle="-" if number == 0 else "--", linewidth=1.2, label=name
        )
    axes.tick_params(labelsize=7)
    axes.set_ylabel(label, fontsize=9)
    if len(lines) > 1 and label:
        axes.legend(fontsize=7, frameon=False)


def _curves(figure: Any, truth: Tensor, guess: Tensor, dims: int, series: bool) -> None:
    """Spectra of the last frame, mean over samples; and the error against time."""
    figure.subplots_adjust(0.08, 0.2, 0.98, 0.94, 0.22)
    axes = figure.subplots(1, 1 + series, squeeze=False)[0]
    for values, colour, name in (
        (truth, TRUTH, "truth"),
        (guess, GUESS, "prediction"),
        (guess - truth, ERROR, "error"),
    ):
        power = power_spectrum(values[:, -1], dims).mean(0)[1:]
        axes[0].loglog(
            range(1, len(power) + 1), power.clamp_min(1e-30).numpy(), color=colour, linewidth=1.2, label=name
        )
    axes[0].set_xlabel("wave number" + (", last frame" if series else ""), fontsize=8)
    axes[0].set_ylabel("power", fontsize=8)
    axes[0].legend(fontsize=7, frameon=False)
    if series:
        size, apart = (value.flatten(2).norm(dim=2) for value in (truth, guess - truth))
        errors = (apart / size.clamp_min(1e-30)).mean(0)
        axes[1].plot(range(len(errors)), errors.numpy(), color=ERROR, linewidth=1.2)
        axes[1].set_xlabel("frame", fontsize=8)
        axes[1].set_ylabel("relative L2 error, rolled out", fontsize=8)
    for each in axes:
        each.tick_params(labelsize=7, which="both")
        each.spines[["top", "right"]].set_visible(False)


def _animate(path: Path, truth: Tensor, guess: Tensor, coords: Any, dims: int) -> None:
    """Truth and prediction of one trajectory side by side, or on top of each other in one dimension."""
    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 2.6), dpi=80)
    figure.subplots_adjust(0.09, 0.1, 0.98, 0.88, 0.05)
    chosen = range(0, len(truth), math.ceil(len(truth) / MOST_FRAMES))
    low, high = float(truth.min()), float(truth.max())
    x, pictures = coords[0].numpy(), (truth.numpy(), guess.numpy())
    if dims == 1:
        axes = figure.subplots()
        drawn = [axes.plot(x, pictures[0][0], color=TRUTH, label="truth")[0]]
        drawn.append(axes.plot(x, pictures[1][0], color=GUESS, linestyle="--", label="prediction")[0])
        axes.set_ylim(low - 0.1 * (high - low), high + 0.1 * (high - low))
        axes.legend(fontsize=7, frameon=False, loc="upper right")
    else:
        pair = figure.subplots(1, 2)
        drawn = []
        for each, values, name in zip(pair, pictures, ("truth", "prediction"), strict=True):
            drawn.append(each.imshow(values[0].T, origin="lower", cmap="cividis", vmin=low, vmax=high, aspect="auto"))
            each.set_title(name, fontsize=9)
            each.set_axis_off()

    def show(frame: int) -> list[Any]:
        for artist, values in zip(drawn, pictures, strict=True):
            if dims == 1:
                artist.set_ydata(values[frame])
            else:
                artist.set_data(values[frame].T)
        return drawn

    FuncAnimation(figure, show, frames=chosen, init_func=lambda: drawn).save(path, writer=PillowWriter(fps=8))
