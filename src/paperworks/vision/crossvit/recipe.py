"""CrossViT on a user's photos: a folder with a sub-folder for each class."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import DataFileError, SettingError
from paperworks.training.pictures import confusion_picture
from paperworks.training.recipe import Part, Recipe, UserData
from paperworks.vision.image_folder import ImageRows, list_classes, list_images

from .model import MEAN, NAMED_SIZES, STD, CrossViT


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """Class folders, split into training and validation by class; or `train` and `val` folders as they are."""
    if saved is not None:
        paths, labels = _labelled(path, saved["classes"])
        rows = ImageRows(paths, labels, saved["side"], saved["mean"], saved["std"])
        return UserData(dict(saved), everything=Part(rows, len(rows)))
    if settings["size"] not in NAMED_SIZES:
        raise SettingError(f"setting size={settings['size']}: one of {', '.join(NAMED_SIZES)}")
    held = next((path / name for name in ("val", "valid", "validation") if (path / name).is_dir()), None)
    paths, names = list_classes(path / "train" if (path / "train").is_dir() else path)
    classes = sorted(set(names))
    splits: list[tuple[list[Path], list[str]]] = [(paths, names), ([], [])]
    if held and (path / "train").is_dir():
        splits[1] = list_classes(held)
        strange = sorted(set(splits[1][1]) - set(classes))
        if strange:
            raise DataFileError(f"{held} has the class '{strange[0]}', which {path / 'train'} has not")
    else:
        splits = _split(paths, names, settings["validation"], settings["seed"])
    side = _side(settings)
    description = {"classes": classes, "side": side, "mean": list(MEAN), "std": list(STD)}
    parts = []
    for paths, names in splits:
        rows = ImageRows(paths, [classes.index(name) for name in names], side, MEAN, STD)
        parts.append(Part(rows, len(rows)) if len(rows) else None)
    return UserData(description, train=parts[0], validation=parts[1])


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


def _side(settings: Mapping[str, Any]) -> int:
    with torch.device("meta"):
        return _sized(settings, 2).img_size_scaled[0]


def _sized(settings: Mapping[str, Any], num_classes: int) -> CrossViT:
    changes: dict[str, Any] = dict(num_classes=num_classes, drop_path_rate=settings["drop_path_rate"])
    if settings["size"] == "crossvit_toy":
        if settings["side"] % 8:
            raise SettingError(f"setting side={settings['side']}: a multiple of 8, the large patch")
        widths = (settings["width"] // 2, settings["width"])
        if widths[0] % 3:
            raise SettingError(f"setting width={settings['width']}: a multiple of 6")
        changes |= dict(img_size=settings["side"], embed_dim=widths)
    return NAMED_SIZES[settings["size"]](**changes)  # type: ignore[return-value]


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """The named size for the data's classes."""
    return _sized(settings, len(description["classes"]))


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Cross-entropy with label smoothing, half of the images mirrored in training."""
    images, labels = batch
    if model.training:
        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        images = torch.where(mirrored, images.flip(-1), images)
    return F.cross_entropy(model(images), labels, label_smoothing=0.1)


def logits(model: nn.Module, rows: ImageRows) -> Tensor:
    """Class scores of all rows, in chunks."""
    device = next(model.parameters()).device
    chunks = [list(range(i, min(i + 64, len(rows)))) for i in range(0, len(rows), 64)]
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


recipe = Recipe(
    slug="crossvit",
    settings=dict(
        size="crossvit_toy",
        side=32,
        width=96,
        validation=0.2,
        drop_path_rate=0.0,
        steps=1_000,
        batch_size=64,
        lr=2e-3,
        optimizer="adamw",
        weight_decay=0.05,
        warmup=50,
    ),
    read=read,
    build=build,
    model=CrossViT,
    loss=loss,
    score=score,
    predict=predict,
    task="image-classification",
    pictures=pictures,
)
