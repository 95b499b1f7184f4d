"""Classes from a user's photos: reading, splitting, scoring and predicting that recipes for images share.

A paper adds how its network is built, and whatever else is its own: `photo_recipe`.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import DataFileError

from .image_folder import ImageRows, list_classes, list_images
from .pictures import confusion_picture
from .recipe import Part, Recipe, UserData

SCORED_AT_ONCE = 64  # images
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of red, green and blue


def photo_recipe(
    slug: str,
    *,
    settings: Mapping[str, Any],
    side: Callable[[Mapping[str, Any]], int],
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], nn.Module],
    model: Any,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    described: Sequence[str] = (),
    **options: Any,
) -> Recipe:
    """A recipe that classifies photos: a folder with a sub-folder for each class, or such in `train` and `val`.

    Args:
        settings: a paper's own, and its defaults of the common ones; `validation` is there already.
        side: settings -> pixels of the square images that the network takes; refuses wrong settings before any
            file is read.
        build: `(description, settings) -> model`; the description holds `classes` and `side`.
        mean, std: of the channels, by which pixels in [0, 1] are normalised.
        described: settings that are kept in the description too.
        options: of `Recipe`, such as `fit`.
    """

    def read(path: Path, chosen: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
        if saved is not None:
            paths, labels = _labelled(path, saved["classes"])
            rows = ImageRows(paths, labels, saved["side"], saved["mean"], saved["std"])
            return UserData(dict(saved), everything=Part(rows, len(rows)))
        pixels = side(chosen)
        splits, classes = _splits(path, chosen)
        description = {"classes": classes, "side": pixels, "mean": list(mean), "std": list(std)}
        description |= {name: chosen[name] for name in described}
        parts = []
        for paths, names in splits:
            rows = ImageRows(paths, [classes.index(name) for name in names], pixels, mean, std)
            parts.append(Part(rows, len(rows)) if len(rows) else None)
        return UserData(description, train=parts[0], validation=parts[1])

    return Recipe(
        slug=slug,
        settings={"validation": 0.2, **settings},
        read=read,
        build=build,
        model=model,
        loss=smoothed_loss,
        score=score,
        predict=predict,
        task="image-classification",
        pictures=pictures,
        **options,
    )


def _splits(path: Path, settings: Mapping[str, Any]) -> tuple[list[tuple[list[Path], list[str]]], list[str]]:
    """Class folders, split into training and validation by class; or `train` and `val` folders as they are."""
    held = next((path / name for name in ("val", "valid", "validation") if (path / name).is_dir()), None)
    paths, names = list_classes(path / "train" if (path / "train").is_dir() else path)
    classes = sorted(set(names))
    if not held or not (path / "train").is_dir():
        return _split(paths, names, settings["validation"], settings["seed"]), classes
    validation = list_classes(held)
    strange = sorted(set(validation[1]) - set(classes))
    if strange:
        raise DataFileError(f"{held} has the class '{strange[0]}', which {path / 'train'} has not")
    return [(paths, names), validation], classes


def _split(paths: list[Path], names: list[str], share: float, seed: int) -> list[tuple[list[Path], list[str]]]:
    """Training and validation images, the same share of every class to validate."""
    order = torch.randperm(len(paths), generator=torch.Generator().manual_seed(seed)).tolist()
    rows: tuple[list[int], list[int]] = ([], [])
    for name in sorted(set(names)):
        own = [i for i in order if names[i] == name]
        count = round(share * len(own)) if len(own) > 1 else 0
        rows[1].extend(own[:count])
        rows[0].extend(own[count:])
    return [([paths[i] for i in part], [names[i] for i in part]) for part in rows]


def _labelled(path: Path, classes: list[str]) -> tuple[list[Path], list[int] | None]:
    """Images with labels where the folder has the model's classes, else without."""
    if path.is_dir() and any((path / name).is_dir() for name in classes):
        paths, names = list_classes(path)
        strange = sorted(set(names) - set(classes))
        if not strange:
            return paths, [classes.index(name) for name in names]
    return list_images(path), None


def smoothed_loss(model: nn.Module, batch: Any) -> Tensor:
    """Cross-entropy with label smoothing, half of the images mirrored in training."""
    images, labels = batch
    if model.training:
        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
    return F.cross_entropy(model(images), labels, label_smoothing=0.1)


def logits(model: nn.Module, rows: ImageRows) -> Tensor:
    """Class scores of all rows, in chunks."""
    device = next(model.parameters()).device
    chunks = [list(range(i, min(i + SCORED_AT_ONCE, len(rows)))) for i in range(0, len(rows), SCORED_AT_ONCE)]
    return torch.cat([model(rows[chunk][0].to(device)).float().cpu() for chunk in chunks])


@torch.no_grad()
def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy."""
    return {"accuracy": float((logits(model, part.rows).argmax(-1) == part.rows.labels).float().mean())}


def pictures(model: nn.Module, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which classes are taken for which."""
    labels = torch.as_tensor(part.rows.labels)
    return [confusion_picture(labels, logits(model, part.rows).argmax(-1), description["classes"])]


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """Write a `.csv`: file, label, probability."""
    assert data.everything is not None
    rows: ImageRows = data.everything.rows
    probability, label = logits(model, rows).softmax(-1).max(-1)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "label", "probability"])
        for path, index, p in zip(rows.paths, label.tolist(), probability.tolist(), strict=True):
            writer.writerow([path, data.description["classes"][index], f"{p:.4f}"])
    return len(rows)
