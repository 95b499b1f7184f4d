"""AF-KAN (arXiv 2503.06112) on a table of your own: `paperworks fit af_kan table.csv`."""

import math
from collections.abc import Mapping
from typing import Any

from paperworks.errors import SettingError
from paperworks.training.class_recipe import class_recipe

from .model import AFKAN


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> AFKAN:
    """One hidden layer; images are flattened by the reader's shape."""
    if settings["width"] < 1 or settings["grid_size"] < 1:
        raise SettingError("settings width and grid_size: whole numbers from 1")
    if len(description["in_shape"]) > 1:
        raise SettingError("af_kan classifies rows of numbers; give images as rows, one pixel a column")
    widths = (math.prod(description["in_shape"]), settings["width"], len(description["classes"]))
    return AFKAN(widths, settings["grid_size"], activation=settings["activation"])


recipe = class_recipe(
    "af_kan",
    settings={"width": 64, "grid_size": 3, "activation": "silu", "lr": 3e-3, "optimizer": "adamw"},
    build=build,
    model=AFKAN,
)
