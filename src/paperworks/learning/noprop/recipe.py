"""NoProp-DT (arXiv 2503.24322) on a table or on images of your own: `paperworks fit noprop table.csv`.

All blocks are stepped at once by their summed loss. The label is read off the last block, not the linear head, which
would need T steps a batch to be ready with the blocks (`training.fit_blocks`).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.errors import PaperworksError, SettingError
from paperworks.training.class_recipe import class_recipe

from .model import NoPropDT


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
    """What the last block weighs the classes with at the end of the noiseless chain: (rows, classes), sums of 1.

    The block learns them by squared error against the one-hot label, for which the true probabilities are best.
    """
    z = model.start.expand(len(x), -1)
    for t in range(1, model.T):
        z = model.step(z, x, t)
    return model.denoise(z[None], x, model.T)[0]


recipe = class_recipe(
    "noprop",
    settings={
        "width": 64,
        "T": 10,
        "eta": 0.1,
        "channels": (32, 64, 128),
        "optimizer": "adamw",
        "weight_decay": 1e-3,
    },
    build=build,
    model=NoPropDT,
    loss=loss,
    probabilities=probabilities,
)
