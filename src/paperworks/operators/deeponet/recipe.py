"""DeepONet on a user's files: function pairs as triples, aligned on shared locations, or on a grid.

Any other file that the field's readers open (PDEBench, PDEArena, The Well ...) is fitted as every operator model of the
wing is: sensors and locations are the points of its grid, and a time series is learned frame by frame.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError
from paperworks.operators.field_files import open_fields
from paperworks.operators.field_pictures import sample_pictures, spectrum_picture
from paperworks.operators.field_recipe import field_recipe
from paperworks.operators.on_grid import grid_points
from paperworks.training.arrays import KINDS, numeric, read_arrays
from paperworks.training.recipe import Part, Recipe, UserData

from .model import DeepONet

ON_GRID = (("x", "y"), ("nu", "tensor"), ("a", "u"))  # inputs and outputs
SETTINGS = dict(width=64, depth=3, activation="gelu", validation=0.1, history=1, steps=3_000, batch_size=1_024, lr=2e-3)


class Pairs:
    """Rows (u, location, value) of functions at shared locations, made when asked for: functions times locations."""

    def __init__(self, u: Tensor, x: Tensor, s: Tensor):
        self.u, self.x, self.s = u, x, s

    def __len__(self) -> int:
        return self.s.numel()

    def __getitem__(self, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        index = torch.as_tensor(rows)
        function, location = index // len(self.x), index % len(self.x)
        return self.u[function], self.x[location], self.s[function, location][:, None]


def layout(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[str, np.ndarray, np.ndarray, np.ndarray | None]:
    """The layout's name and its u, locations and values (None where there are none to learn from).

    `triples`: one location a row. `aligned`: u (functions, sensors), locations (n, dims), values (functions, n).
    `grid`: input and output functions (functions, ...grid), located on the unit cube at i / n.
    """
    for prefix in ("train", "test"):
        names = [f"X_{prefix}0", f"X_{prefix}1", f"y_{prefix}"]
        if names[0] in arrays and names[1] in arrays:
            u, x = numeric(path, arrays, names[0], 2), numeric(path, arrays, names[1], 2)
            s = numeric(path, arrays, names[2]) if names[2] in arrays else None
            if len(u) == len(x) and (s is None or s.size == len(u)):
                return "triples", u, x, None if s is None else s.reshape(-1, 1)
            return "aligned", u, x, _aligned(path, u, x, s, names)
    if "u" in arrays:
        u = numeric(path, arrays, "u", 2)
        where = next((name for name in ("x", "y") if name in arrays and (name != "y" or "s" in arrays)), None)
        if where is None:
            raise DataFileError(
                f"{path} has 'u' but no locations: expected 'x' (locations, dims); it has {list(arrays)}"
            )
        x = numeric(path, arrays, where)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2:
            raise DataFileError(f"{path}: '{where}' has shape {x.shape}, expected (locations, dims)")
        name = next((n for n in ("s", "y", "G") if n in arrays and n != where), None)
        s = numeric(path, arrays, name) if name else None
        if s is not None and len(u) == len(x) and s.size == len(u):
            return "triples", u, x, s.reshape(-1, 1)
        return "aligned", u, x, _aligned(path, u, x, s, ["u", where, name or "s"])
    for inputs, outputs in ON_GRID:
        if inputs in arrays:
            return _on_grid(path, arrays, inputs, outputs)
    raise DataFileError(
        f"{path} has {', '.join(map(repr, arrays)) or 'nothing'}; expected X_train0, X_train1, y_train (one location a "
        "row), or u, x, s (functions at shared locations), or x, y (functions on a grid), or a file of PDEBench, "
        "PDEArena, The Well, Poseidon or the FNO sets"
    )


def _aligned(path: Path, u: np.ndarray, x: np.ndarray, s: np.ndarray | None, names: list[str]) -> np.ndarray | None:
    if s is None:
        return None
    if s.shape != (len(u), len(x)):
        raise DataFileError(
            f"{path}: '{names[2]}' has shape {s.shape}; for '{names[0]}' {u.shape} and '{names[1]}' {x.shape} "
            f"expected ({len(u)}, {len(x)}) for shared locations"
            + (f", or ({len(u)}, 1) for one location a row" * (len(u) == len(x)))
        )
    return s


def _on_grid(
    path: Path, arrays: Mapping[str, np.ndarray], inputs: str, outputs: str
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray | None]:
    u = numeric(path, arrays, inputs)
    if u.ndim < 2:
        raise DataFileError(f"{path}: '{inputs}' has shape {u.shape}, expected (functions, ...grid)")
    s = numeric(path, arrays, outputs) if outputs in arrays else None
    if s is not None and len(s) != len(u):
        raise DataFileError(f"{path}: '{inputs}' holds {len(u)} functions, '{outputs}' {len(s)}; expected as many")
    if s is not None and s.ndim == u.ndim + 1 and s.shape[1] == 1:
        s = s[:, 0]  # a channel axis of one
    grid = s.shape[1:] if s is not None else u.shape[1:]
    axes = [np.arange(n) / n for n in grid]
    x = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(grid)).astype(np.float32)
    flat = None if s is None else s.reshape(len(s), -1)
    return "grid", u.reshape(len(u), -1), x, flat


def of_the_field(path: Path) -> bool:
    """Whether the wing's readers are to open the file: it has a layout of theirs, and not x and y of this recipe."""
    try:
        found = open_fields(path).layout
    except DataFileError:
        return path.is_dir() or path.suffix.lower() not in KINDS
    plain = found.name == "pairs" and {"x", "y"} & {block.name for block in (*found.inputs, *found.fields)}
    return not plain or path.suffix.lower() not in KINDS


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """Arrays to normalised tensors; the last part of the functions is kept for validation when fitting."""
    if of_the_field(path) if saved is None else "kind" in saved:
        return on_fields.read(path, settings, saved)
    arrays = read_arrays(path)
    kind, u, x, s = layout(path, arrays)
    if saved is None:
        if s is None:
            raise DataFileError(f"{path} has no outputs to learn from: expected y_train, s or y")
        if len(u) < 2:
            raise DataFileError(f"{path} holds {len(u)} function; at least 2 are needed")
        count = max(1, round(settings["validation"] * len(u)))
        fitted = slice(0, len(u) - count)
        saved = {
            "layout": kind,
            "sensors": int(u.shape[1]),
            "dims": int(x.shape[1]),
            "u_mean": float(u[fitted].mean()),
            "u_std": float(u[fitted].std() or 1.0),
            "x_low": x.min(0).tolist(),
            "x_high": x.max(0).tolist(),
            "s_mean": float(s[fitted].mean()),
            "s_std": float(s[fitted].std() or 1.0),
        }
        parts = [_part(saved, kind, u, x, s, rows) for rows in (fitted, slice(len(u) - count, None))]
        return UserData(description=saved, train=parts[0], validation=parts[1])
    for name, given in (("sensors", u.shape[1]), ("dims", x.shape[1])):
        if saved[name] != given:
            raise DataFileError(f"{path}: {given} {name}; the model was fitted on {saved[name]}")
    return UserData(saved, everything=_part(saved, kind, u, x, s, slice(None)), extra=(kind, x, arrays))


def _part(d: Mapping[str, Any], kind: str, u: np.ndarray, x: np.ndarray, s: np.ndarray | None, rows: slice) -> Part:
    low, high = np.array(d["x_low"], np.float32), np.array(d["x_high"], np.float32)
    located = torch.from_numpy((x - low) / np.where(high > low, high - low, 1)).float()
    functions = torch.from_numpy((u[rows] - d["u_mean"]) / d["u_std"]).float()
    values = None if s is None else torch.from_numpy((s[rows] - d["s_mean"]) / d["s_std"]).float()
    if kind == "triples":
        return Part((functions, located[rows], values if values is not None else functions[:, :0]), len(functions))
    return Part(Pairs(functions, located, values if values is not None else functions[:, :0]), len(functions))


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """A DeepONet of the data's sensors and dimensions."""
    if "kind" in description:
        return on_fields.build(description, settings)
    width, depth = settings["width"], settings["depth"]
    branch = [description["sensors"], *[width] * depth]
    return DeepONet(branch, [description["dims"], *[width] * depth], activation=settings["activation"])


def build_on_fields(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """A DeepONet whose sensors are the points of a grid, of all channels, and whose outputs are the channels."""
    width, depth, outputs = settings["width"], settings["depth"], description["out_channels"]
    sensors, dims = description["in_channels"] * math.prod(description["space"]), len(description["space"])
    hidden, features = [width] * depth, width * outputs
    return DeepONet(
        [sensors, *hidden, features],
        [dims, *hidden, features],
        activation=settings["activation"],
        num_outputs=outputs,
    )


def forward_on_fields(model: nn.Module, x: Tensor) -> Tensor:
    """(rows, in_channels, *space) to (rows, out_channels, *space)."""
    assert isinstance(model, DeepONet)
    values = model.grid(x.flatten(1), grid_points(x.shape[2:]).to(x))
    return values.movedim(-1, 1).unflatten(-1, x.shape[2:])


on_fields = field_recipe("deeponet", DeepONet, build_on_fields, settings=SETTINGS, forward=forward_on_fields)


def values(model: nn.Module, part: Part) -> Tensor:
    """Normalised predictions: (rows, 1) for triples, (functions, locations) else, in chunks."""
    assert isinstance(model, DeepONet)
    device = next(model.parameters()).device
    if isinstance(part.rows, Pairs):
        x = part.rows.x.to(device)
        return torch.cat([model.grid(u.to(device), x)[..., 0].cpu() for u in part.rows.u.split(1000)])
    u, x, _ = part.rows
    chunks = zip(u.split(50_000), x.split(50_000), strict=True)
    return torch.cat([model(a.to(device), b.to(device)).cpu() for a, b in chunks])


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Mean squared error of the normalised values; relative L2 for the field's files, whose rows bring their size."""
    if batch[2].ndim == 1:
        return on_fields.loss(model, batch)
    u, x, s = batch
    return (model(u, x) - s).square().mean()


def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Mean squared and relative L2 error (mean over functions; over all rows for triples), in the data's units."""
    if "kind" in description:
        return on_fields.score(model, part, description)
    truth = part.rows.s if isinstance(part.rows, Pairs) else part.rows[2]
    if truth.shape[-1] == 0:
        raise DataFileError("this file has no outputs to score against")
    with torch.no_grad():
        guess = values(model, part)
    scale, shift = description["s_std"], description["s_mean"]
    truth, guess = truth * scale + shift, guess * scale + shift
    axis = -1 if isinstance(part.rows, Pairs) else 0
    relative = ((guess - truth).norm(dim=axis) / truth.norm(dim=axis).clamp_min(1e-12)).mean()
    return {"mse": float((guess - truth).square().mean()), "relative_l2": float(relative)}


def pictures(model: nn.Module, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Truth and prediction: the function of median error where functions share locations, all values else."""
    if "kind" in description:
        assert on_fields.pictures is not None
        return on_fields.pictures(model, part, description)
    scale, shift = description["s_std"], description["s_mean"]
    guess = values(model, part) * scale + shift
    if not isinstance(part.rows, Pairs):
        truth = part.rows[2] * scale + shift
        few = torch.linspace(0, len(truth) - 1, min(len(truth), 400)).long()
        return [
            {
                "title": "Predicted against true values",
                "kind": "scatter",
                "caption": f"{len(few)} of {len(truth)} rows; a perfect model puts them on the diagonal.",
                "x_label": "true",
                "y_label": "predicted",
                "series": {"rows": [_short(truth[few, 0]), _short(guess[few, 0])]},
            }
        ]
    truth, x = part.rows.s * scale + shift, part.rows.x
    errors = (guess - truth).norm(dim=-1) / truth.norm(dim=-1).clamp_min(1e-12)
    row = int(errors.argsort()[(len(errors) - 1) // 2])
    caption = f"The function of median error (row {row + 1} of these; relative L2 {float(errors[row]):.3g})."
    sides = [len(torch.unique(x[:, axis])) for axis in range(x.shape[1])]
    if description["layout"] == "grid" and len(sides) == 2 and sides[0] * sides[1] == len(x):
        fields = [each.reshape(1, 1, 1, *sides) for each in (truth[row], guess[row])]
        made = sample_pictures(fields[0], *fields)[0]
        kept = {name: made[name][1:] for name in ("images", "labels", "ranges", "colours")}  # no input on this grid
        return [{**made, **kept, "title": "One function", "caption": caption}, spectrum_picture(*fields)]
    place = x[:, 0].argsort()
    low, high = description["x_low"][0], description["x_high"][0]
    return [
        {
            "title": "One function",
            "kind": "lines" if x.shape[1] == 1 else "scatter",
            "caption": caption,
            **(
                {
                    "x": _short(x[place, 0] * (high - low) + low),
                    "x_label": "location",
                    "series": {"truth": _short(truth[row, place]), "prediction": _short(guess[row, place])},
                }
                if x.shape[1] == 1
                else {
                    "x_label": "true",
                    "y_label": "predicted",
                    "series": {"locations": [_short(truth[row]), _short(guess[row])]},
                }
            ),
        }
    ]


def _short(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """Write predictions in the input's layout; `.npz` for the recipe's own: x and y on a grid, `s` and `x` else."""
    if "kind" in data.description:
        return on_fields.predict(model, data, out)
    assert data.everything is not None
    kind, x, arrays = data.extra
    guess = (values(model, data.everything) * data.description["s_std"] + data.description["s_mean"]).numpy()
    if kind == "grid":
        given, wanted = next(names for names in ON_GRID if names[0] in arrays)
        like = arrays[wanted if wanted in arrays else given]
        shape = (len(guess), *like.shape[1:]) if like[0].size == guess.shape[1] else guess.shape
        content = {given: arrays[given], wanted: guess.reshape(shape)}
    else:
        content = {"s": guess, "x": x}
    if out.suffix != ".npz":
        raise DataFileError(f"{out}: predictions of an operator go to a .npz file; give --out predictions.npz")
    np.savez(out, **content)
    return len(guess)


recipe = Recipe(
    slug="deeponet",
    settings=SETTINGS,
    read=read,
    build=build,
    model=DeepONet,
    loss=loss,
    score=score,
    predict=predict,
    pictures=pictures,
    writes=".npz",
)
