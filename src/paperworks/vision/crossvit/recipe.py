"""CrossViT on a user's photos: a folder with a sub-folder for each class."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from paperworks.errors import SettingError
from paperworks.training.photo_recipe import photo_recipe

from .model import MEAN, NAMED_SIZES, STD, CrossViT


def side(settings: Mapping[str, Any]) -> int:
    """Pixels of the images that the named size takes."""
    if settings["size"] not in NAMED_SIZES:
        raise SettingError(f"setting size={settings['size']}: one of {', '.join(NAMED_SIZES)}")
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


recipe = photo_recipe(
    "crossvit",
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
    side=side,
    build=build,
    model=CrossViT,
    mean=MEAN,
    std=STD,
)
