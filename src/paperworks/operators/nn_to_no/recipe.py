"""A residual network of function-space layers on a user's PDE data: fitted on one grid, asked on any."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from paperworks.errors import SettingError
from paperworks.operators.field_recipe import field_recipe

from .model import ResidualOperator

KINDS = ("integral", "differential", "spectral", "pixel")


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """Kernels `nodes` cells of the training grid apart; where data is not periodic, points know their place."""
    if settings["conv"] not in KINDS:
        raise SettingError(f"setting conv={settings['conv']}: one of {', '.join(KINDS)}")
    space = description["space"]
    periodic = all(kind == "periodic" for kind in description["bc"])
    return ResidualOperator(
        description["in_channels"],
        description["out_channels"],
        width=settings["width"],
        n_blocks=settings["depth"],
        conv=settings["conv"],
        kernel_size=settings["kernel_size"],
        spacing=[settings["nodes"] / n for n in space],
        base_resolution=space,
        n_modes=settings["n_modes"],
        ndim=len(space),
        padding_mode="circular" if periodic else "replicate",
        pointwise=True,
        coordinates=not periodic,
    )


recipe = field_recipe(
    "nn_to_no",
    ResidualOperator,
    build,
    settings=dict(width=24, depth=4, conv="integral", kernel_size=7, nodes=2.0, n_modes=12, steps=2_000, lr=2e-3),
    any_size=True,
)
