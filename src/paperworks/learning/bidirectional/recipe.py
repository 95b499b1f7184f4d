"""Bidirectional learning (arXiv 1805.08006) on a table or images of your own: `paperworks fit bidirectional table.csv`.

Inputs are scaled to [0, 1] by the training rows, since the generator ends in a sigmoid.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from paperworks.errors import SettingError
from paperworks.measure import robustness_report
from paperworks.training.class_recipe import class_recipe
from paperworks.training.class_recipe import read as read_standardised
from paperworks.training.recipe import Part, UserData

from .model import BidirectionalNet, Discriminator
from .training import MODES, Iteration

ATTACKED = 1000  # rows of the robustness curve
RADII = (0.02, 0.05, 0.1, 0.2, 0.3)


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """A table or images; `mean` and `std` of the description are the training rows' smallest value and their range."""
    data = read_standardised(path, settings, saved)
    if saved is not None:
        return data
    assert data.train is not None
    x = data.train.rows[0]
    flat = x.transpose(0, 1).flatten(1)  # (columns or channels, all their values)
    low, span = flat.amin(1), flat.amax(1) - flat.amin(1)
    span = torch.where(span > 0, span, 1.0)
    shape = (-1, *[1] * (x.ndim - 2))

    def scaled(part: Part | None) -> Part | None:
        if part is None:
            return None
        x, y = part.rows
        return Part(((x - low.reshape(shape)) / span.reshape(shape), y), part.count)

    mean, std = (torch.tensor(data.description[name], dtype=torch.float64) for name in ("mean", "std"))
    description = {**data.description, "mean": (mean + low * std).tolist(), "std": (span * std).tolist()}
    return UserData(description, scaled(data.train), scaled(data.validation))


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> BidirectionalNet:
    """Hidden layers of the setting `hidden`, over images after the convolutions of `convolutions`."""
    if settings["mode"] not in MODES:
        raise SettingError(f"setting mode={settings['mode']}: one of {', '.join(MODES)}")
    if settings["convolutions"] and len(description["in_shape"]) != 3:
        raise SettingError("setting convolutions: only for images, (rows, channels, height, width) in an .npz")
    if any(len(each) != 3 for each in settings["convolutions"]):
        raise SettingError("setting convolutions: triples of channels, kernel and stride, such as [[16,4,2]]")
    return BidirectionalNet(
        description["in_shape"], len(description["classes"]), settings["hidden"], settings["convolutions"],
        settings["activation"], bias=settings["bias"],
    )  # fmt: skip


def method(model: BidirectionalNet, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """The classifier's, discriminator's and generator's steps of one iteration."""
    if settings["optimizer"] != "adam" or settings["mixed_precision"] != "no":
        raise SettingError("bidirectional trains with optimizer=adam and mixed_precision=no")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingError("bidirectional is fitted in one process; start it without `accelerate launch`")
    for name in ("generator_factor", "discriminator_factor"):
        if not settings[name] > 0:
            raise SettingError(f"setting {name}={settings[name]}: a number above 0")
    judge = None
    if settings["hybrid"]:
        judge = Discriminator(model.in_shape, settings["hidden"] or (64,), settings["convolutions"])
        judge = judge.to(model.weights()[0].device).train()
    iteration = Iteration(
        model, steps=settings["steps"], mode=settings["mode"], discriminator=judge, lr=settings["lr"],
        generator_lr=settings["lr"] * settings["generator_factor"],
        discriminator_lr=settings["lr"] * settings["discriminator_factor"], weight_decay=settings["weight_decay"],
    )  # fmt: skip
    return iteration.loss, lambda _: iteration


def pictures(model: BidirectionalNet, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which classes are confused, how accuracy falls under attack, and what the network draws of each class."""
    x, y = (rows[:ATTACKED] for rows in part.rows)
    found = robustness_report(model, x.clamp(0, 1), y, RADII)
    curve = {
        "title": "Accuracy under attack and noise",
        "kind": "lines",
        "caption": f"{found.total} rows, inputs scaled to [0, 1]. " + ". ".join(found.signs()),
        "x": [0, *RADII],
        "series": found.curves(),
        "x_label": "eps",
        "y_label": "accuracy",
    }
    classes = [str(name) for name in description["classes"]][:20]
    v = torch.eye(model.num_classes, device=model.weights()[0].device)[: len(classes)]
    made = model.generate(v).sigmoid().cpu()
    drawn: dict[str, Any] = {"caption": "The sigmoid of the generator's output for each class"}
    if made.ndim == 4:
        drawn |= {"title": "What the network draws", "kind": "images", "images": made.mean(1).tolist()}
        drawn |= {"names": classes, "columns": 5}
    else:
        shown = made[:, :100]
        drawn |= {"title": "What the network expects of each class", "kind": "heatmap", "values": shown.tolist()}
        drawn |= {"x_label": "column", "y_label": "class"}
    assert base.pictures is not None
    return [*base.pictures(model, part, description), curve, drawn]


base = class_recipe(
    "bidirectional",
    settings={
        "hidden": (128,),
        "convolutions": (),
        "activation": "relu",
        "bias": True,
        "mode": "bl",
        "hybrid": False,
        "generator_factor": 1.0,
        "discriminator_factor": 0.2,
    },
    build=build,
    model=BidirectionalNet,
)
recipe = dataclasses.replace(base, read=read, method=method, pictures=pictures)
