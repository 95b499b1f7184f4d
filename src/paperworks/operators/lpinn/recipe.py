"""A transport equation of the user's solved from their initial condition: `paperworks fit lpinn start.csv --set ...`.

The file brings the state at the start on a periodic grid; the settings bring the equation. Later states in the file are
never learned from: the solution is scored against them.
"""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError, SettingError
from paperworks.training.arrays import numeric, read_arrays
from paperworks.training.recipe import Part, Recipe, UserData

from ..pinn import EQUATIONS, EulerianPINN
from .model import DIFFUSION, LagrangianPINN

METHODS = ("lagrangian", "eulerian")
FRAMES = 101  # times that a prediction has where the file names none


class CollocationRows(tuple):
    """(points, x0, w0), each with rows on axis 0; and `known`, the states (x, t, u) to score against, or None."""

    known: tuple[Tensor, Tensor, Tensor] | None = None


def layout(path: Path, settings: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """x (n,), t (m,) or None, u (m, n) or None.

    Raises:
        DataFileError: says what is missing or does not fit.
    """
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _table(path)
    arrays = read_arrays(path)
    if "tensor" in arrays and "x-coordinate" in arrays:  # PDEBench: (trajectories, times, places)
        fields = numeric(path, arrays, "tensor", 3)
        which = settings["trajectory"]
        if not 0 <= which < len(fields):
            raise SettingError(f"setting trajectory={which}: {path} holds {len(fields)}, from 0 to {len(fields) - 1}")
        x, u = numeric(path, arrays, "x-coordinate", 1), fields[which]
        t = numeric(path, arrays, "t-coordinate", 1)[: len(u)] if "t-coordinate" in arrays else None
    else:
        x = numeric(path, arrays, "x", 1)
        name = next((name for name in ("u", "u0") if name in arrays), None)
        u = numeric(path, arrays, name) if name else None
        t = numeric(path, arrays, "t", 1) if "t" in arrays else None
        if u is not None and u.ndim not in (1, 2):
            raise DataFileError(f"{path}: '{name}' has shape {u.shape}, expected (places,) or (times, places)")
        u = u[None] if u is not None and u.ndim == 1 else u
    if u is not None and u.shape[1] != len(x):
        raise DataFileError(f"{path}: {u.shape[1]} values a time, but {len(x)} places in 'x'")
    if u is not None and len(u) > 1 and (t is None or len(t) != len(u)):
        raise DataFileError(f"{path}: {len(u)} states need as many times in 't', given {0 if t is None else len(t)}")
    if t is not None and (np.diff(t) <= 0).any():
        raise DataFileError(f"{path}: the times in 't' must increase")
    return x, t, u


def _table(path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Columns x, u, or x, t, u with every place at every time."""
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
        return x[order], None, None if u is None else u[order][None]
    places, times = np.unique(x), np.unique(t)
    if len(places) * len(times) != len(x):
        raise DataFileError(
            f"{path}: {len(x)} rows; every one of its {len(places)} places at every one of its {len(times)} times is "
            f"expected, {len(places) * len(times)} rows"
        )
    order = np.lexsort((x, t))
    return places, times, None if u is None else u[order].reshape(len(times), len(places))


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
    steps = np.diff(x.astype(np.float64))
    if len(x) < 3 or steps.min() <= 0 or steps.max() > 1.01 * steps.min():
        raise DataFileError(f"{path}: 'x' is no even, increasing grid of 3 places or more; say --set period=...")
    return float(len(x) * steps.mean())


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """The start as the initial condition, times counted from it; later states only to score against."""
    x, t, u = layout(path, settings)
    if saved is None:
        _check(settings)
        if u is None:
            raise DataFileError(f"{path} has no state to start from: expected 'u' beside 'x'")
        last = 0.0 if t is None else float(t[-1] - t[0])
        t_max = settings["t_max"] or last or 1.0
        saved = {
            "period": period_of(path, x, settings["period"]),
            "t_start": 0.0 if t is None else float(t[0]),
            "t_max": float(t_max),
            "mean": float(u[0].mean()),
            "method": settings["method"],
        }
        parts = [_part(saved, settings, x, t, u, settings["seed"] + which) for which in (0, 1)]
        return UserData(description=saved, train=parts[0], validation=parts[1])
    part = None if u is None else _part(saved, settings, x, t, u, settings["seed"] + 1)
    return UserData(saved, everything=part, extra=(x, t))


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


def _part(
    d: Mapping[str, Any], s: Mapping[str, Any], x: np.ndarray, t: np.ndarray | None, u: np.ndarray, seed: int
) -> Part:
    drawn = torch.Generator().manual_seed(seed % 2**63)
    points = torch.rand(s["points"], 2, generator=drawn) * torch.tensor([d["period"], d["t_max"]])
    chosen = torch.randint(len(x), (s["points"],), generator=drawn)
    places, states = torch.from_numpy(x).float(), torch.from_numpy(np.ascontiguousarray(u)).float()
    rows = CollocationRows((points, places[chosen], states[0][chosen]))
    if t is not None and len(u) > 1:
        later = torch.from_numpy(t - np.float32(d["t_start"])).float()
        kept = later <= 1.001 * d["t_max"]
        rows.known = (places, later[kept], states[kept])
    return Part(rows, s["points"])


def build(description: Mapping[str, Any], s: Mapping[str, Any]) -> nn.Module:
    """The network of the chosen method for the equation."""
    d = description
    common = dict(equation=s["equation"], speed=s["speed"], viscosity=s["viscosity"], period=d["period"],
                  t_max=d["t_max"], width=s["width"], offset=d["mean"])  # fmt: skip
    if s["method"] == "eulerian":
        return EulerianPINN(depth=s["depth"], **common)
    return LagrangianPINN(depth=(s["depth"], s["x_depth"]), diffusion=s["diffusion"], **common)


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Mean squares of the residuals and of the error at the start."""
    return model.loss(*batch)  # type: ignore[operator]


def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """`loss` on the part's points, `start_error` relative to the spread at the start, `relative_l2` over known states.

    An error is relative to the norm of u minus the mean at the start, so that a large mean does not hide it.
    """
    assert isinstance(model, EulerianPINN | LagrangianPINN)
    device = next(model.parameters()).device
    points, x0, w0 = (tensor[:4096].to(device) for tensor in part.rows)
    spread = (w0 - description["mean"]).norm().clamp_min(1e-12)
    start = model.predict(x0, torch.zeros(1, device=device))[0]
    found = {
        "loss": float(model.loss(points, x0, w0).detach()),
        "start_error": float((start - w0).norm() / spread),
    }
    if part.rows.known is not None:
        x, t, u = (tensor.to(device) for tensor in part.rows.known)
        away = (u - description["mean"]).norm().clamp_min(1e-12)
        found["relative_l2"] = float((model.predict(x, t) - u).norm() / away)
    return found


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """Write the solution at the file's places and times: `.npz` with x, t, u (times, places), or a CSV of x, t, u."""
    assert isinstance(model, EulerianPINN | LagrangianPINN)
    d, (x, t) = data.description, data.extra
    t = d["t_start"] + np.linspace(0, d["t_max"], FRAMES, dtype=np.float32) if t is None or len(t) < 2 else t
    device = next(model.parameters()).device
    later = torch.from_numpy(np.asarray(t - d["t_start"], np.float32))
    if later.min() < 0 or later.max() > 1.001 * d["t_max"]:
        raise DataFileError(
            f"times {t[0]:g} to {t[-1]:g}: the model was fitted from {d['t_start']:g} over {d['t_max']:g}"
        )
    u = model.predict(torch.from_numpy(x).to(device), later.to(device)).cpu().numpy()
    if out.suffix == ".npz":
        np.savez(out, x=x, t=t, u=u)
    elif out.suffix == ".csv":
        with out.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["x", "t", "u"])
            rows.writerows((f"{a:.7g}", f"{at:.7g}", f"{w:.7g}") for at, line in zip(t, u, strict=True)
                           for a, w in zip(x, line, strict=True))  # fmt: skip
    else:
        raise DataFileError(f"{out}: the solution goes to .npz or .csv; give --out solution.npz")
    return u.size


recipe = Recipe(
    slug="lpinn",
    settings=dict(equation="burgers", speed=1.0, viscosity=0.01, period=0.0, t_max=0.0, method="lagrangian",
                  diffusion="eulerian", width=50, depth=4, x_depth=2, trajectory=0, points=65_536, steps=3_000,
                  batch_size=256, lr=5e-3),
    read=read,
    build=build,
    model=lambda description: EulerianPINN if description.get("method") == "eulerian" else LagrangianPINN,
    loss=loss,
    score=score,
    predict=predict,
)  # fmt: skip
