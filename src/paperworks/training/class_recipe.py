"""Classes from a user's table or images: reading, splitting, scoring and predicting that many recipes share.

A paper adds how its network is built, its loss and its class probabilities: `class_recipe`.
"""

import csv
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import DataFileError, SettingError

from .pictures import confusion_picture
from .recipe import Part, Recipe, UserData
from .tables import class_names, read_table

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


def logits_loss(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy of a network that gives logits."""
    x, y = batch
    return F.cross_entropy(model(x), y)


def logits_probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Softmax of a network's logits, (rows, classes)."""
    return model(x).softmax(-1)


def class_recipe(
    slug: str,
    *,
    settings: Mapping[str, Any],
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], nn.Module],
    model: Any,
    loss: Callable[[Any, Any], Tensor] = logits_loss,
    probabilities: Callable[[Any, Tensor], Tensor] = logits_probabilities,
) -> Recipe:
    """A recipe that classifies rows of a table (.csv, .tsv, .npz) or images (.npz).

    Args:
        settings: a paper's own, and its defaults of the common ones; `target` and `validation` are there already.
        build: `(description, settings) -> model`; the description holds `in_shape` and `classes`.
        loss: `(model, (x, y)) -> scalar`; default: the cross-entropy of logits.
        probabilities: `(model, x) -> (rows, classes)`; default: the softmax of logits.
    """

    @torch.no_grad()
    def of_all(net: nn.Module, x: Tensor) -> Tensor:
        device = next(iter([*net.parameters(), *net.buffers()])).device
        return torch.cat([probabilities(net, rows.to(device)).cpu() for rows in x.split(SCORED_AT_ONCE)])

    def score(net: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
        """Share of rows with the right label; a DataFileError for a row without a known one."""
        x, y = part.rows
        unknown = (y == UNLABELLED).nonzero()
        if len(unknown):
            raise DataFileError(
                f"row {int(unknown[0]) + 1} of the data to score has no label in column '{description['target']}' that "
                f"the model knows ({', '.join(description['classes'][:10])}); scoring needs one in every row"
            )
        return {"accuracy": float((of_all(net, x).argmax(1) == y).float().mean())}

    def pictures(net: nn.Module, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Which classes are taken for which."""
        x, y = part.rows
        return [confusion_picture(y, of_all(net, x).argmax(1), description["classes"])]

    def predict(net: nn.Module, data: UserData, out: Path) -> int:
        """CSV: row (counted from 1, without the header), label, probability."""
        assert data.everything is not None
        best = of_all(net.eval(), data.everything.rows[0]).max(1)
        classes = data.description["classes"]
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["row", "label", "probability"])
            pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            writer.writerows([row, classes[label], f"{value:.4f}"] for row, (label, value) in enumerate(pairs, 1))
        return data.everything.count

    return Recipe(
        slug=slug,
        settings={"target": "", "validation": 0.2, "batch_size": 128, **settings},
        read=read,
        build=build,
        model=model,
        loss=loss,
        score=score,
        predict=predict,
        task="tabular-classification",
        pictures=pictures,
    )
