"""A binary network for your photos: `paperworks fit biper ./photos`, a folder with a sub-folder for each class.

`paperworks pack-binary my-model/` then writes the file with one bit a weight.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from paperworks.errors import SettingError
from paperworks.training.fit import Fitted
from paperworks.training.photo_recipe import photo_recipe

from .model import NAMED_SIZES, BiPerResNet, BiPerVGG
from .training import fit_two_stage

SMALL = "small"  # a ResNet whose width and depth are settings


def side(settings: Mapping[str, Any]) -> int:
    """Pixels of the images; wrong settings are refused here, before a file is read."""
    if settings["size"] not in (SMALL, *NAMED_SIZES):
        raise SettingError(f"setting size={settings['size']}: one of {', '.join((SMALL, *NAMED_SIZES))}")
    if settings["side"] < 8 or settings["side"] % 8:
        raise SettingError(f"setting side={settings['side']}: a multiple of 8")
    for name in ("width", "depth"):
        if settings[name] < 1:
            raise SettingError(f"setting {name}={settings[name]}: a whole number from 1")
    if not 0 <= settings["stage1"] <= 1:
        raise SettingError(f"setting stage1={settings['stage1']}: a share of the steps from 0 to 1")
    for name in ("freq", "lr2"):
        if not settings[name] > 0:
            raise SettingError(f"setting {name}={settings[name]}: a number above 0")
    if settings["tau"] < 0:
        raise SettingError(f"setting tau={settings['tau']}: a number from 0")
    return settings["side"]


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """The network, in stage 1."""
    given: dict[str, Any] = dict(num_classes=len(description["classes"]), freq=settings["freq"])
    if settings["size"] == SMALL:
        width, depth = settings["width"], settings["depth"]
        return BiPerResNet(blocks=[depth] * 3, widths=[width, 2 * width, 4 * width], **given)
    if settings["size"] == "biper_vgg_small":
        given["side"] = description["side"]
    return NAMED_SIZES[settings["size"]](**given)


def two_stages(settings: Mapping[str, Any]) -> Callable[..., Fitted]:
    """SGD in two stages; the steps are those of both together."""

    def train(model: nn.Module, loss: Any, batches: Any, *, steps: int, lr: float, weight_decay: float, warmup: int,
              optimizer: str, schedule: str, **options: Any) -> Fitted:  # fmt: skip
        if (optimizer, schedule) != ("sgd", "cosine"):
            raise SettingError("settings optimizer and schedule: the two stages are SGD with a cosine each")
        return fit_two_stage(
            model, loss, batches, steps=steps, stage1=settings["stage1"], lr=lr, lr2=settings["lr2"],
            tau=settings["tau"], weight_decay=weight_decay, warmup=warmup, **options,
        )  # fmt: skip

    return train


def model_class(description: Mapping[str, Any]) -> type[nn.Module]:
    """Which class the fitted folder holds."""
    return BiPerVGG if description["size"] == "biper_vgg_small" else BiPerResNet


recipe = photo_recipe(
    "biper",
    settings=dict(
        size=SMALL,
        side=32,
        width=16,
        depth=1,
        freq=20.0,
        stage1=0.5,
        lr2=0.04,
        tau=0.0,
        steps=1_000,
        batch_size=64,
        lr=0.1,
        optimizer="sgd",
        weight_decay=1e-4,
        warmup=20,
    ),
    side=side,
    build=build,
    model=model_class,
    described=("size",),
    fit=two_stages,
)
