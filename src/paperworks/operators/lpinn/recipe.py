"""A transport equation of the user's solved from their initial condition: `paperworks fit lpinn start.csv --set ...`.

The file brings the state at the start on a periodic grid; the settings bring the equation. Later states in the file are
never learned from: the solution is scored against them. Scattered measurements (x, t, u) are learned from: beside a
start (`--set measurements=FILE`), or in its place, where the file is one of measurements.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError, SettingError
from paperworks.training.arrays import KINDS as ARRAY_KINDS
from paperworks.training.arrays import numeric, read_arrays
from paperworks.training.recipe import Part, Recipe, UserData

from ..field_files import open_fields
from ..field_pictures import Picture, error_over_time, rollout_strip, sample_pictures, spectrum_picture
from ..pinn import EQUATIONS, EulerianPINN
from .model import DIFFUSION, LagrangianPINN

METHODS = ("lagrangian", "eulerian")
FRAMES = 101  # times that a prediction has where the file names none
PATHS = 8  # characteristics in a picture
HELD = 0.1  # of the measurements, to validate on


class CollocationRows(tuple):
    """(points, x0, w0), each with rows on axis 0, then measurements (x, t, u); no x0 and w0 where no start is known.

    `known` are the states (x, t, u) to score against and `measured` the measurements, (m, 3), or None.
    """

    known: tuple[Tensor, Tensor, Tensor] | None = None
    measured: Tensor | None = None


class Source(NamedTuple):
    """What a file holds: states u (m, n) at places x (n,) and times t (m,), or scattered measurements (m, 3)."""

    x: np.ndarray
    t: np.ndarray | None
    u: np.ndarray | None
    measured: np.ndarray | None = None


def layout(path: Path, settings: Mapping[str, Any]) -> Source:
    """A file's states or measurements.

    Raises:
        DataFileError: says what is missing or does not fit.
    """
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _table(path)
    arrays = _own_arrays(path)
    if arrays is None:
        x, t, u = _trajectory(path, settings["trajectory"], settings["frame_time"])
    else:
        x = numeric(path, arrays, "x", 1)
        name = next((name for name in ("u", "u0") if name in arrays), None)
        u = numeric(path, arrays, name) if name else None
        t = numeric(path, arrays, "t", 1) if "t" in arrays else None
        if u is not None and u.ndim not in (1, 2):
            raise DataFileError(f"{path}: '{name}' has shape {u.shape}, expected (places,) or (times, places)")
        if u is not None and t is not None and u.shape == x.shape == t.shape:
            return Source(x, t, None, np.stack([x, t, u], 1))
        u = u[None] if u is not None and u.ndim == 1 else u
    if u is not None and u.shape[1] != len(x):
        raise DataFileError(f"{path}: {u.shape[1]} values a time, but {len(x)} places in 'x'")
    if u is not None and len(u) > 1 and (t is None or len(t) != len(u)):
        raise DataFileError(f"{path}: {len(u)} states need as many times in 't', given {0 if t is None else len(t)}")
    if t is not None and (np.diff(t) <= 0).any():
        raise DataFileError(f"{path}: the times in 't' must increase")
    return Source(x, t, u)


def _own_arrays(path: Path) -> Mapping[str, np.ndarray] | None:
    """The arrays of a file with places in a one-dimensional 'x'; None for one of many trajectories."""
    if path.suffix.lower() not in ARRAY_KINDS:
        return None
    if path.suffix.lower() != ".npz" and path.is_file():
        import h5py

        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:  # before anything is read: files of trajectories are large
                places = file.get("x")
                if not isinstance(places, h5py.Dataset) or (places.ndim > 1 and 1 not in places.shape):
                    return None
    arrays = read_arrays(path)
    if path.suffix.lower() == ".mat":  # in which everything has two axes at least
        arrays = {name: np.atleast_1d(np.squeeze(array)) for name, array in arrays.items()}
    return arrays if "x" in arrays and arrays["x"].ndim == 1 else None


def _trajectory(path: Path, which: int, frame_time: float) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """One sample of the layouts that `open_fields` reads, of one channel on a line: places, times, states."""
    try:
        files = open_fields(path)
    except DataFileError as error:
        told = f"{path} has no 'x' of one axis beside 'u', and is no file of trajectories either: {error}"
        raise DataFileError(told) from error
    if len(files.space) != 1 or len(files.channel_names) != 1:
        raise DataFileError(
            f"{path} holds {', '.join(files.channel_names)} on {len(files.space)} axes of space; one quantity on a "
            "line is expected, such as 'x' and 'u'"
        )
    if not 0 <= which < len(files):
        raise SettingError(f"setting trajectory={which}: {path} holds {len(files)}, from 0 to {len(files) - 1}")
    data = files.read([which])
    given = data.inputs if files.times == 1 else None  # the state of a map, not what it is asked for
    states = data.fields[0, :, 0] if given is None else given[0]
    t = files.t.numpy() if len(states) > 1 else None
    if t is not None and files.layout.t is None:
        if not 0 < frame_time < math.inf:
            raise DataFileError(
                f"{path} has {len(states)} states and no times; say --set frame_time=..., the time from one to the next"
            )
        t = frame_time * np.arange(len(states), dtype=np.float32)
    return files.coords[0].numpy(), t, states.numpy()


def _table(path: Path) -> Source:
    """Columns x, u, or x, t, u: states where every place is there at every time, else measurements."""
    if not path.is_file():
        raise DataFileError(f"{path} does not exist")
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        head = file.readline()
        delimiter = max(",;\t", key=head.count)
        names = [name.strip().lower() for name in head.strip().split(delimiter)]
        if "x" not in names:
            raise DataFileError(f"{path}: a header line with 'x' and 'u' (and 't') is expected, given {head.strip()!r}")
        columns = _numbers(path, csv.reader(file, delimiter=delimiter), names)
    x, t = columns[names.index("x")], columns[names.index("t")] if "t" in names else None
    u = columns[names.index("u")] if "u" in names else None
    if t is None:
        order = np.argsort(x)
        return Source(x[order], None, None if u is None else u[order][None])
    places, times = np.unique(x), np.unique(t)
    if len(places) * len(times) != len(x):
        if u is None:
            raise DataFileError(
                f"{path}: {len(x)} rows; every one of its {len(places)} places at every one of its {len(times)} times "
                f"is expected, {len(places) * len(times)} rows, or a column 'u' that was measured"
            )
        return Source(x, t, None, np.stack([x, t, u], 1))
    order = np.lexsort((x, t))
    return Source(places, times, None if u is None else u[order].reshape(len(times), len(places)))


def _numbers(path: Path, rows: Iterable[list[str]], names: list[str]) -> np.ndarray:
    """(columns, rows) float32."""
    found = []
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        try:
            values = [float(text) for text in row]
        except ValueError:
            values = []
        if len(values) != len(names) or not all(map(math.isfinite, values)):
            raise DataFileError(f"{path}, line {number}: {len(names)} finite numbers are expected, given {row}")
        found.append(values)
    if not found:
        raise DataFileError(f"{path} has a header line and no rows")
    return np.array(found, np.float32).T


def period_of(path: Path, x: np.ndarray, period: float) -> float:
    """The setting, or what an even grid spans: its last point lies one step before the first one's return."""
    if period:
        if not (period > 0 and math.isfinite(period)):
            raise SettingError(f"setting period={period}: a number above 0, or 0 to take it from the grid")
        return float(period)
    if not _is_even(x):
        raise DataFileError(f"{path}: 'x' is no even, increasing grid of 3 places or more; say --set period=...")
    return float(len(x) * np.diff(x.astype(np.float64)).mean())


def _is_even(x: np.ndarray) -> bool:
    steps = np.diff(x.astype(np.float64))
    return len(x) >= 3 and bool(steps.min() > 0 and steps.max() <= 1.01 * steps.min())


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """The start as the initial condition, times counted from it; later states only to score against."""
    source = layout(path, settings)
    measured = source.measured
    if saved is not None:
        has_truth = source.u is not None or measured is not None
        measured = None if measured is None else _within(measured, saved, at_least=1)
        part = _part(saved, settings, source, measured, settings["seed"] + 1) if has_truth else None
        return UserData(saved, everything=part, extra=source)
    _check(settings)
    if settings["measurements"]:
        measured = _measurements(Path(settings["measurements"]), settings)
    if source.u is None and measured is None:
        raise DataFileError(f"{path} has no state to start from: expected 'u' beside 'x'")
    known = [source.t, None if measured is None else measured[:, 1]]
    times = np.concatenate([np.atleast_1d(each) for each in known if each is not None] or [np.zeros(1)])
    t_start = float(times.min() if source.u is None else 0.0 if source.t is None else source.t[0])
    t_max = settings["t_max"] or float(times.max()) - t_start or 1.0
    period = settings["period"]
    if source.u is None and not period:
        raise DataFileError(
            f"{path}: {len(source.x)} rows, not every one of its {len(np.unique(source.x))} places at every one of its "
            f"{len(np.unique(times))} times, are measurements, which do not show the period of x; say --set period=..."
        )
    saved = {
        "period": period_of(path, source.x, period),
        "t_start": t_start,
        "t_max": float(t_max),
        "mean": float(measured[:, 2].mean() if source.u is None else source.u[0].mean()),  # type: ignore[index]
        "method": settings["method"],
    }
    parts = [
        _part(saved, settings, source, rows, settings["seed"] + which)
        for which, rows in enumerate(_held_out(measured, saved, settings["seed"]))
    ]
    return UserData(description=saved, train=parts[0], validation=parts[1])


def _measurements(path: Path, settings: Mapping[str, Any]) -> np.ndarray:
    """Measurements (m, 3) from a file of their own, a full grid of them too."""
    source = layout(path, settings)
    if source.measured is not None:
        return source.measured
    if source.t is None or source.u is None:
        raise DataFileError(f"{path}: measurements have 'x', 't' and 'u'")
    t, x = np.meshgrid(source.t[: len(source.u)], source.x, indexing="ij")
    return np.stack([x.ravel(), t.ravel(), source.u.ravel()], 1)


def _held_out(measured: np.ndarray | None, d: Mapping[str, Any], seed: int) -> tuple[np.ndarray | None, ...]:
    """Measurements within the model's times, to train and to validate on; at least two."""
    if measured is None:
        return None, None
    kept = _within(measured, d, at_least=2)
    order = np.random.default_rng(seed).permutation(len(kept))
    held = max(1, round(HELD * len(kept)))
    return kept[order[held:]], kept[order[:held]]


def _within(measured: np.ndarray, d: Mapping[str, Any], at_least: int) -> np.ndarray:
    """Measurements within the model's times."""
    later = measured[:, 1] - d["t_start"]
    kept = measured[(later >= -1e-6) & (later <= 1.001 * d["t_max"])]
    if len(kept) < at_least:
        raise DataFileError(
            f"{len(kept)} of {len(measured)} measurements lie in the model's times, {d['t_start']:g} to "
            f"{d['t_start'] + d['t_max']:g}; at least {at_least} are needed, and fitting with --set t_max=... widens "
            "the times"
        )
    return kept


def _check(s: Mapping[str, Any]) -> None:
    for name, allowed in {"equation": EQUATIONS, "method": METHODS, "diffusion": DIFFUSION}.items():
        if s[name] not in allowed:
            raise SettingError(f"setting {name}={s[name]}: one of {', '.join(allowed)}")
    for name in ("points", "width", "depth", "x_depth"):
        if s[name] < 1:
            raise SettingError(f"setting {name}={s[name]}: a whole number from 1")
    for name in ("viscosity", "t_max"):
        if not 0 <= s[name] < math.inf:
            raise SettingError(f"setting {name}={s[name]}: a number from 0")


def _part(d: Mapping[str, Any], s: Mapping[str, Any], source: Source, measured: np.ndarray | None, seed: int) -> Part:
    drawn = torch.Generator().manual_seed(seed % 2**63)
    rows = [torch.rand(s["points"], 2, generator=drawn) * torch.tensor([d["period"], d["t_max"]])]
    places = torch.from_numpy(source.x).float()
    states = None if source.u is None else torch.from_numpy(np.ascontiguousarray(source.u)).float()
    if states is not None:
        chosen = torch.randint(len(places), (s["points"],), generator=drawn)
        rows += [places[chosen], states[0][chosen]]
    found = None
    if measured is not None:
        found = torch.from_numpy(measured - np.array([0, d["t_start"], 0], measured.dtype)).float()
        rows.append(found[torch.randint(len(found), (s["points"],), generator=drawn)])
    part = CollocationRows(rows)
    part.measured = found
    if states is not None and source.t is not None and len(states) > 1:
        later = torch.from_numpy(source.t - np.float32(d["t_start"])).float()
        kept = later <= 1.001 * d["t_max"]
        part.known = (places, later[kept], states[kept])
    return Part(part, s["points"])


def build(description: Mapping[str, Any], s: Mapping[str, Any]) -> nn.Module:
    """The network of the chosen method for the equation."""
    d = description
    common = dict(equation=s["equation"], speed=s["speed"], viscosity=s["viscosity"], period=d["period"],
                  t_max=d["t_max"], width=s["width"], offset=d["mean"])  # fmt: skip
    if s["method"] == "eulerian":
        return EulerianPINN(depth=s["depth"], **common)
    return LagrangianPINN(depth=(s["depth"], s["x_depth"]), diffusion=s["diffusion"], **common)


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Mean squares of the residuals, of the error at the start and of that at measurements."""
    points, *start, measured = batch if len(batch) % 2 == 0 else (*batch, None)
    x0, w0 = start or (points[:0, 0], points[:0, 0])
    return model.loss(points, x0, w0, measured=measured)  # type: ignore[operator]


def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """`loss` on the part's points, `start_error` relative to the spread at the start, `measured_error` relative to that
    of the part's measurements (those held out to validate on), `relative_l2` over known states.

    An error is relative to the norm of u minus the mean at the start, so that a large mean does not hide it.
    """
    assert isinstance(model, EulerianPINN | LagrangianPINN)
    device = next(model.parameters()).device
    rows: CollocationRows = part.rows

    def relative(guess: Tensor, truth: Tensor) -> float:
        return float((guess - truth).norm() / (truth - description["mean"]).norm().clamp_min(1e-12))

    with torch.enable_grad():
        some = tuple(tensor[:4096].to(device) for tensor in rows)
        found = {"loss": float(loss(model, some).detach())}
    if len(some) > 2:
        _, x0, w0, *_ = some
        found["start_error"] = relative(model.predict(x0, torch.zeros(1, device=device))[0], w0)
    with torch.no_grad():
        if rows.measured is not None:
            measured = rows.measured.to(device)
            found["measured_error"] = relative(model.values_at(measured[:, :2]), measured[:, 2])
        if rows.known is not None:
            x, t, u = (tensor.to(device) for tensor in rows.known)
            found["relative_l2"] = relative(model.predict(x, t), u)
    return found


def pictures(model: nn.Module, part: Part, description: Mapping[str, Any]) -> list[Picture]:
    """The solution: against the known states where there are any, as a map else; measurements; characteristics."""
    assert isinstance(model, EulerianPINN | LagrangianPINN)
    device = next(model.parameters()).device
    rows: CollocationRows = part.rows
    made: list[Picture] = []
    if rows.known is not None:
        x, t, u = rows.known
        guess = model.predict(x.to(device), t.to(device)).cpu()
        given, truth, found = (states[None, :, None] for states in (u[:1], u[1:], guess[1:]))
        made += sample_pictures(given, truth, found, caption="The start, and the last state of the file.")
        made += [rollout_strip(truth, found), error_over_time(truth, found)]
        if _is_even(x.numpy()):
            made.insert(1, spectrum_picture(truth, found))
        for picture in made[:1]:
            picture["title"] = "The last state"
        for picture in made:
            picture["caption"] = picture["caption"].removeprefix("Row 1: ")
    else:
        made.append(_map(model, description))
    if rows.measured is not None:
        measured = rows.measured[:400]
        guess = model.values_at(measured[:, :2].to(device)).cpu()
        made.append(
            {
                "title": "Measurements",
                "kind": "scatter",
                "caption": "A perfect model puts them on the diagonal.",
                "x_label": "measured",
                "y_label": "predicted",
                "series": {"places and times": [_short(measured[:, 2]), _short(guess)]},
            }
        )
    if isinstance(model, LagrangianPINN):
        labels = torch.arange(PATHS, device=device) * (model.period / PATHS)
        times = torch.linspace(0, model.t_max, 51, device=device)
        paths = model.characteristics(labels, times).cpu().T
        made.append(
            {
                "title": "Characteristics",
                "kind": "lines",
                "caption": "Where the labels go, one line a label: the solution is carried along them, and where two "
                "meet it has two values at one place.",
                "x": _short(times.cpu() + description["t_start"]),
                "x_label": "t",
                "y_label": "X",
                "series": {f"from x = {float(path[0]):.3g}": _short(path) for path in paths},
            }
        )
    return made


def _map(model: EulerianPINN | LagrangianPINN, description: Mapping[str, Any]) -> Picture:
    """The solution over one period and all times."""
    device = next(model.parameters()).device
    x = torch.arange(64, device=device) * (model.period / 64)
    u = model.predict(x, torch.linspace(0, model.t_max, 64, device=device)).cpu()
    start = description["t_start"]
    return {
        "title": "The solution",
        "kind": "images",
        "caption": f"One period from left to right, t from {start:g} to {start + model.t_max:g} downwards; the file "
        "has nothing to compare it with.",
        "images": [[_short(row) for row in u]],
        "labels": ["prediction"],
        "columns": 1,
    }


def _short(values: Tensor) -> list[float | None]:
    return [float(f"{value:.4g}") if math.isfinite(value) else None for value in values.tolist()]


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """Write the solution at the file's places and times: `.npz` with x, t, u (times, places), or a CSV of x, t, u.

    At measurements' places and times for a file of measurements: x, t and u of one length.
    """
    assert isinstance(model, EulerianPINN | LagrangianPINN)
    d, source = data.description, data.extra
    x, t, scattered = source.x, source.t, source.measured is not None
    if t is None or (len(t) < 2 and not scattered):
        t = d["t_start"] + np.linspace(0, d["t_max"], FRAMES, dtype=np.float32)
    device = next(model.parameters()).device
    places, later = (torch.from_numpy(np.asarray(a, np.float32)).to(device) for a in (x, t - d["t_start"]))
    if later.min() < 0 or later.max() > 1.001 * d["t_max"]:
        raise DataFileError(
            f"times {t.min():g} to {t.max():g}: the model was fitted from {d['t_start']:g} over {d['t_max']:g}"
        )
    with torch.no_grad():
        found = model.values_at(torch.stack([places, later], 1)) if scattered else model.predict(places, later)
    u = found.cpu().numpy()
    if out.suffix == ".npz":
        np.savez(out, x=x, t=t, u=u)
    elif out.suffix == ".csv":
        columns = (x, t, u) if scattered else (np.tile(x, len(t)), np.repeat(t, len(x)), u.ravel())
        with out.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["x", "t", "u"])
            rows.writerows([f"{value:.7g}" for value in row] for row in zip(*columns, strict=True))
    else:
        raise DataFileError(f"{out}: the solution goes to .npz or .csv; give --out solution.npz")
    return u.size


recipe = Recipe(
    slug="lpinn",
    settings=dict(equation="burgers", speed=1.0, viscosity=0.01, period=0.0, t_max=0.0, method="lagrangian",
                  diffusion="eulerian", width=50, depth=4, x_depth=2, trajectory=0, frame_time=0.0,
                  measurements="", points=65_536,
                  steps=3_000, batch_size=256, lr=5e-3, clip=1.0),
    read=read,
    build=build,
    model=lambda description: EulerianPINN if description.get("method") == "eulerian" else LagrangianPINN,
    loss=loss,
    score=score,
    predict=predict,
    pictures=pictures,
)  # fmt: skip
