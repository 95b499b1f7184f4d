"""DRIFT-Net on a user's PDE files: square grids with an even number of points; others are refused in words."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from paperworks.errors import DataFileError, SettingError
from paperworks.operators.field_recipe import field_recipe

from .model import DRIFTNet


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """A DRIFT-Net of the file's channels and grid, with as many of three stages as the grid can be halved for.

    A file has one lead time, so the norms are not conditioned on it.
    """
    space, patch = description["space"], settings["patch_size"]
    if len(space) != 2 or space[0] != space[1] or space[0] % (2 * patch):
        raise DataFileError(
            f"DRIFT-Net takes square two-dimensional grids whose points {2 * patch} divides, given {space}; "
            "resample the file, choose --set patch_size=..., or fit mgno, which takes any grid"
        )
    stages = max(n for n in (1, 2, 3) if space[0] % (patch * 2**n) == 0)
    periodic = all(kind == "periodic" for kind in description["bc"])
    try:
        return DRIFTNet(
            description["in_channels"],
            description["out_channels"],
            space[0],
            patch,
            settings["embed_dim"],
            [settings["depth"]] * stages,
            mixer=settings["mixer"],
            num_heads=[max(1, settings["embed_dim"] * 2**stage // 16) for stage in range(stages)],
            skip_blocks=[1] * (stages - 1) + [0],
            padding="circular" if periodic else "zeros",
            time_conditioned=False,
        )
    except ValueError as error:
        raise SettingError(f"a DRIFT-Net of these settings cannot be built: {error}") from error


recipe = field_recipe(
    "drift_net",
    DRIFTNet,
    build,
    settings=dict(patch_size=2, embed_dim=32, depth=2, mixer="spectral", lr=2e-3),
)
