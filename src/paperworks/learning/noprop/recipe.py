"""NoProp-DT (arXiv 2503.24322) on a table or on images of your own: `paperworks fit noprop table.csv`.

All blocks are stepped at once by their summed loss. The label is read off the last block, not the linear head, which
would need T steps a batch to be ready with the blocks (`training.fit_blocks`).
"""

import csv
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError, PaperworksError, SettingError
from paperworks.training.pictures import confusion_picture
from paperworks.training.recipe import Part, Recipe, UserData
from paperworks.training.tables import class_names, read_table

from .model import NoPropDT

SCORED_AT_ONCE = 4096  # rows
UNLABELLED = -1


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """A table (.csv, .npz) or images (.npz), standardised with the statistics of the training rows."""
    if saved is not None:
        table = read_table(path, saved["target"], saved["columns"])
        if list(table.x.shape[1:]) != saved["in_shape"]:
            raise DataFileError(
                f"{path}: rows of shape {table.x.shape[1:]}; the model was fitted on {saved['in_shape']}"
            )
        place = {label: number for number, label in enumerate(saved["classes"])}
        labels = [place.get(label, UNLABELLED) for label in table.labels or [""] * len(table.x)]
        rows = (_standardised(table.x, saved), torch.tensor(labels))
        return UserData(dict(saved), everything=Part(rows, len(labels)))
    if not 0 <= settings["validation"] <= 0.5:
        raise SettingError(f"setting validation={settings['validation']}: a share of the rows from 0 to 0.5")
    table = read_table(path, settings["target"])
    assert table.labels is not None
    classes = class_names(path, table)
    if table.constant:
        few = ", ".join(table.constant[:10]) + " ..." * (len(table.constant) > 10)
        warnings.warn(f"{path}: columns that never change tell nothing, and are kept: {few}", stacklevel=2)
    place = {label: number for number, label in enumerate(classes)}
    y = np.array([place[label] for label in table.labels])
    held_out = stratified(y, settings["validation"], settings["seed"])
    axes = (0, *range(2, table.x.ndim))  # over rows, and over the pixels of a channel
    training = table.x[~held_out]
    mean = training.mean(axes, dtype=np.float64)
    std = training.std(axes, dtype=np.float64)
    description = {
        "target": table.target,
        "columns": table.names,
        "in_shape": list(table.x.shape[1:]),
        "classes": classes,
        "mean": mean.tolist(),
        "std": np.where(std > 1e-7 * np.abs(mean), std, 1.0).tolist(),
        "constant_columns": table.constant,
    }
    x, labels = _standardised(table.x, description), torch.from_numpy(y)
    train, validation = (
        Part((x[rows], labels[rows]), len(rows))
        for rows in map(torch.from_numpy, map(np.flatnonzero, (~held_out, held_out)))
    )
    return UserData(description, train, validation if validation.count else None)


def stratified(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask of the held-out rows: evenly spaced among the shuffled rows of class after class.

    With a share of at most one half no two neighbours are taken, so a class of two rows keeps one to train on.
    """
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    mask = np.zeros(len(y), bool)
    mask[order[np.diff(np.floor(share * np.arange(len(y) + 1) + 1e-9)) > 0]] = True
    return mask


def _standardised(x: np.ndarray, description: Mapping[str, Any]) -> Tensor:
    shape = (-1, *[1] * (x.ndim - 2))
    mean, std = (torch.tensor(description[name], dtype=torch.float32).reshape(shape) for name in ("mean", "std"))
    return (torch.from_numpy(x) - mean) / std


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> NoPropDT:
    """One-hot labels, decoded by the nearest one."""
    for name, least in (("T", 1), ("width", 2), ("batch_size", 2)):
        if settings[name] < least:
            raise SettingError(f"setting {name}={settings[name]}: a whole number from {least}")
    return NoPropDT(
        description["in_shape"], len(description["classes"]), settings["T"], settings["width"],
        eta=settings["eta"], decode="nearest", channels=settings["channels"],
    )  # fmt: skip


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """The sum of all blocks' losses."""
    if not isinstance(model, NoPropDT):
        raise PaperworksError("noprop is fitted in one process; start it without `accelerate launch`")
    x, y = batch
    return model.loss(x, y)


@torch.no_grad()
def probabilities(model: NoPropDT, x: Tensor) -> Tensor:
    """What the last block weights the classes with at the end of the noiseless chain: (rows, classes), sums of 1.

    The block learns them by squared error against the one-hot label, for which the true probabilities are best.
    """
    device = model.start.device
    return torch.cat([_last_block(model, rows.to(device)).cpu() for rows in x.split(SCORED_AT_ONCE)])


def _last_block(model: NoPropDT, x: Tensor) -> Tensor:
    z = model.start.expand(len(x), -1)
    for t in range(1, model.T):
        z = model.step(z, x, t)
    return model.denoise(z[None], x, model.T)[0]


def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Share of rows with the right label.

    Raises:
        DataFileError: a row whose label is missing or not among the classes.
    """
    assert isinstance(model, NoPropDT)
    x, y = part.rows
    unknown = (y == UNLABELLED).nonzero()
    if len(unknown):
        raise DataFileError(
            f"row {int(unknown[0]) + 1} of the data to score has no label in column '{description['target']}' that "
            f"the model knows ({', '.join(description['classes'][:10])}); scoring needs one in every row"
        )
    return {"accuracy": float((probabilities(model, x).argmax(1) == y).float().mean())}


def pictures(model: nn.Module, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which classes are taken for which."""
    assert isinstance(model, NoPropDT)
    x, y = part.rows
    return [confusion_picture(y, probabilities(model, x).argmax(1), description["classes"])]


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """CSV: row (counted from 1, without the header), label, probability."""
    assert isinstance(model, NoPropDT)
    assert data.everything is not None
    best = probabilities(model.eval(), data.everything.rows[0]).max(1)
    classes = data.description["classes"]
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "label", "probability"])
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        writer.writerows([row, classes[label], f"{value:.4f}"] for row, (label, value) in enumerate(pairs, 1))
    return data.everything.count


recipe = Recipe(
    slug="noprop",
    settings={
        "target": "",
        "width": 64,
        "T": 10,
        "eta": 0.1,
        "validation": 0.2,
        "channels": (32, 64, 128),
        "batch_size": 128,
        "optimizer": "adamw",
        "weight_decay": 1e-3,
    },
    read=read,
    build=build,
    model=NoPropDT,
    loss=loss,
    score=score,
    predict=predict,
    task="tabular-classification",
    pictures=pictures,
)
