"""A spiking network (arXiv 1804.08150) on photos or a table of your own: `paperworks fit spiking FOLDER_OR_TABLE`.

A folder of photos gets a convolution network, a table a perceptron. What the fitted network costs is told beside its
accuracy. Pixels lie in [0, 1]; a table's standardised columns serve the direct encoding as they are, and the other
encodings by the share of a normal distribution below them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError, SettingError
from paperworks.measure import count_synaptic_work
from paperworks.training.class_recipe import class_recipe
from paperworks.training.photo_recipe import photo_recipe
from paperworks.training.recipe import Part, Recipe, UserData

from .encode import ENCODINGS
from .model import SpikingConvNet, SpikingMLP, spiking_loss

SETTINGS: dict[str, Any] = {
    "time_steps": 4,
    "encoding": "direct",
    "penalty": 0.0,
    "width": 128,
    "channels": (12, 64),
    "side": 32,
    "beta": 0.9,
    "validation": 0.2,
    "batch_size": 64,
    "lr": 3e-3,
}
COUNTED = 64  # rows whose operations are counted
LARGEST_SIDE = 512


def check(settings: Mapping[str, Any]) -> int:
    """Pixels of the side; refuses settings that make no network.

    Raises:
        SettingError: names the setting and what it may be.
    """
    if settings["encoding"] not in ENCODINGS:
        raise SettingError(f"setting encoding={settings['encoding']}: one of {', '.join(ENCODINGS)}")
    for name in ("time_steps", "width"):
        if settings[name] < 1:
            raise SettingError(f"setting {name}={settings[name]}: a whole number from 1")
    if not 0 <= settings["beta"] <= 1 or settings["penalty"] < 0:
        raise SettingError("settings beta: from 0 to 1; penalty: from 0")
    if not settings["channels"] or min(settings["channels"]) < 1:
        raise SettingError(f"setting channels={settings['channels']}: whole numbers from 1, such as [12, 64]")
    if not 8 <= settings["side"] <= LARGEST_SIDE:
        raise SettingError(f"setting side={settings['side']}: from 8 to {LARGEST_SIDE} pixels")
    return int(settings["side"])


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """Convolutions for images, linear layers for rows."""
    check(settings)
    classes, common = len(description["classes"]), dict(beta=settings["beta"])
    how = (settings["time_steps"], settings["encoding"])
    shape = (3, description["side"], description["side"]) if _photos(description) else tuple(description["in_shape"])
    net: Any
    if len(shape) == 3:
        try:
            net = SpikingConvNet(shape, settings["channels"], classes, *how, kernel_size=3, padding=1, **common)
        except ValueError as error:
            raise SettingError(f"settings side, channels: {error}") from error
    else:
        if len(shape) != 1:
            raise DataFileError(f"rows of shape {shape}: expected columns, or images (channels, height, width)")
        net = SpikingMLP((shape[0], settings["width"], settings["width"], classes), *how, **common)
    net.penalty, net.pixels = settings["penalty"], _photos(description)  # for the loss, while fitting
    return net  # type: ignore[no-any-return]


def _photos(description: Mapping[str, Any]) -> bool:
    return "side" in description


def kind(description: Mapping[str, Any]) -> type[nn.Module]:
    """The class of network for such data."""
    return SpikingConvNet if _photos(description) or len(description["in_shape"]) == 3 else SpikingMLP


def squashed(model: Any, x: Tensor) -> Tensor:
    """Standardised values as rates in [0, 1], where the encoding asks for rates."""
    return x if model.encoding == "direct" else torch.special.ndtr(x)


def loss(model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy and the penalty on spikes."""
    x, y = batch
    return spiking_loss(model, (x if model.pixels else squashed(model, x), y), penalty=model.penalty)


def probabilities_of_rows(model: Any, x: Tensor) -> Tensor:
    """Softmax of the logits, of a table."""
    return model(squashed(model, x)).softmax(-1)  # type: ignore[no-any-return]


table = class_recipe("spiking", settings=SETTINGS, build=build, model=kind, probabilities=probabilities_of_rows)
photos = photo_recipe(
    "spiking", settings=SETTINGS, side=check, build=build, model=kind, mean=(0.0,) * 3, std=(1.0,) * 3
)


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """A folder of photos, or a table."""
    check(settings)
    if _photos(saved) if saved is not None else path.is_dir():
        return photos.read(path, settings, saved)
    return table.read(path, settings, saved)


@torch.no_grad()
def score(model: Any, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy, and what a sample costs: operations, and energy at 4.6 pJ a multiplication and 0.9 pJ a spike."""
    found = (photos if _photos(description) else table).score(model, part, description)
    rows = list(range(min(COUNTED, part.count)))
    x = part.rows[rows][0] if _photos(description) else squashed(model, part.rows[0][: len(rows)])
    device = next(model.parameters()).device
    work = count_synaptic_work(model, x.to(device), samples=len(rows))
    return {
        **found,
        "macs": work.macs,
        "synaptic_operations": work.synaptic_operations,
        "nanojoules": work.nanojoules(),
    }


def pictures(model: Any, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Which classes are taken for which."""
    made = (photos if _photos(description) else table).pictures
    assert made is not None
    return made(model, part, description)


def predict(model: Any, data: UserData, out: Path) -> int:
    """CSV: file or row, label, probability."""
    return (photos if _photos(data.description) else table).predict(model, data, out)


recipe = Recipe(
    slug="spiking",
    settings={**SETTINGS, "target": ""},
    read=read,
    build=build,
    model=kind,
    loss=loss,
    score=score,
    predict=predict,
    task="image-classification",
    pictures=pictures,
)
