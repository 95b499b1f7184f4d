"""Quantiles of a column of your table, at every level, from one network: `paperworks fit mip table.csv`."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError, SettingError
from paperworks.training.recipe import Part, Recipe, UserData
from paperworks.training.tables import Table, read_table

from .quantiles import QuantileNetwork, pinball

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
DRAWN = 4  # levels a step
SCORED_AT_ONCE = 65_536  # rows


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """Columns and target, standardised with the training rows' statistics."""
    if saved is not None:
        table = read_table(path, saved["target"], saved["columns"])
        y = numbers(path, table) if table.labels else np.full(len(table.x), np.nan, np.float32)
        return UserData(dict(saved), everything=_part(saved, table.x, y))
    table = read_table(path, settings["target"])
    if table.x.ndim != 2:
        raise DataFileError(f"{path}: rows of shape {table.x.shape[1:]}; expected a table of numbers")
    y = numbers(path, table)
    if len(y) < 4:
        raise DataFileError(f"{path}: {len(y)} rows; at least 4 are needed")
    order = np.random.default_rng(settings["seed"]).permutation(len(y))
    held = max(1, round(settings["validation"] * len(y))) if settings["validation"] else 0
    train, validation = order[held:], order[:held]
    mean, std = table.x[train].mean(0, dtype=np.float64), table.x[train].std(0, dtype=np.float64)
    spread = float(y[train].std())
    if spread == 0:
        raise DataFileError(f"{path}: column '{table.target}' never changes; there are no quantiles to learn")
    description = {
        "target": table.target,
        "columns": table.names,
        "mean": mean.tolist(),
        "std": np.where(std > 1e-7 * np.abs(mean), std, 1.0).tolist(),
        "y_mean": float(y[train].mean()),
        "y_std": spread,
    }
    parts = [_part(description, table.x[rows], y[rows]) if len(rows) else None for rows in (train, validation)]
    return UserData(description, parts[0], parts[1])


def numbers(path: Path, table: Table) -> np.ndarray:
    """The target as finite numbers.

    Raises:
        DataFileError: a cell that is none; names its place.
    """
    assert table.labels is not None
    values = np.empty(len(table.labels), np.float32)
    for row, text in enumerate(table.labels):
        try:
            values[row] = float(text)
        except ValueError:
            values[row] = np.nan
        if not np.isfinite(values[row]):
            raise DataFileError(
                f"{path}, {table.places[row]}: '{text}' in column '{table.target}' is no finite number; quantiles need "
                "one (--set target=COLUMN chooses another column)"
            )
    return values


def _part(d: Mapping[str, Any], x: np.ndarray, y: np.ndarray) -> Part:
    scaled = (torch.from_numpy(np.asarray(x)) - torch.tensor(d["mean"])) / torch.tensor(d["std"])
    return Part((scaled.float(), (torch.from_numpy(y) - d["y_mean"]) / d["y_std"]), len(y))


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> QuantileNetwork:
    """The network by its settings."""
    for name in ("width", "depth"):
        if settings[name] < 1:
            raise SettingError(f"setting {name}={settings[name]}: a whole number from 1")
    return QuantileNetwork(len(description["columns"]), settings["width"], settings["depth"])


def loss(model: QuantileNetwork, batch: tuple[Tensor, ...]) -> Tensor:
    """The pinball loss at levels drawn anew."""
    x, y = batch
    return model.loss(x, y, torch.rand(DRAWN, device=x.device))


@torch.no_grad()
def quantiles(model: nn.Module, x: Tensor) -> Tensor:
    """At `LEVELS`, made to grow with the level by sorting, which never raises the loss; on the CPU."""
    device = next(model.parameters()).device
    levels = torch.tensor(LEVELS, device=device)
    return torch.cat([model(rows.to(device), levels).cpu() for rows in x.split(SCORED_AT_ONCE)]).sort(1).values


def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Pinball loss in the target's unit, and the share of rows between the 5 % and the 95 % quantile.

    Raises:
        DataFileError: a row without a target.
    """
    x, y = part.rows
    if not torch.isfinite(y).all():
        raise DataFileError(f"the data to score has no column '{description['target']}'")
    q = quantiles(model, x)
    mean = pinball(q, y, torch.tensor(LEVELS)).mean() * description["y_std"]
    return {"pinball": float(mean), "coverage_90": float(((q[:, 0] <= y) & (y <= q[:, -1])).float().mean())}


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """CSV: row (counted from 1), one column a level."""
    assert data.everything is not None
    d = data.description
    values = quantiles(model.eval(), data.everything.rows[0]) * d["y_std"] + d["y_mean"]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *(f"q{level:g}" for level in LEVELS)])
        writer.writerows([row, *(f"{value:.6g}" for value in each)] for row, each in enumerate(values.tolist(), 1))
    return data.everything.count


recipe = Recipe(
    slug="mip",
    settings={"target": "", "width": 32, "depth": 3, "validation": 0.2, "batch_size": 128, "steps": 2000},
    read=read,
    build=build,
    model=QuantileNetwork,
    loss=loss,
    score=score,
    predict=predict,
    task="tabular-regression",
)
