"""Continuum attention on a user's PDE data: the Fourier attention or the ViT operator on any grid that the patches cut.

The model is the same on every grid; the number of patches, not their size, is part of it.
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from paperworks.errors import DataFileError, SettingError
from paperworks.operators.field_recipe import field_recipe

from .patch_operators import FourierAttentionNeuralOperator


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """A Fourier attention operator of the data's channels."""
    space, patches, modes = description["space"], settings["patches"], settings["modes"]
    if len(space) != 2:
        raise DataFileError(f"fields on {len(space)} axes of space; this operator takes 2")
    if any(points % patches for points in space):
        fitting = [p for p in range(2, min(space) // 2 + 1) if all(points % p == 0 for points in space)]
        raise SettingError(
            f"patches={patches} does not divide a grid of {space[0]} x {space[1]} points; "
            + (f"there fit: {', '.join(map(str, fitting))}" if fitting else "leave out a row and a column of points")
        )
    if 2 * modes > min(space) // patches:
        raise SettingError(
            f"modes={modes}: patches of {min(space) // patches} points carry at most {min(space) // patches // 2}"
        )
    return FourierAttentionNeuralOperator(
        description["in_channels"],
        description["out_channels"],
        patches,
        (modes, modes),
        settings["smoothing"],
        settings["d_model"],
        settings["heads"],
        settings["layers"],
        settings["ff"],
    )


recipe = field_recipe(
    "continuum_attention",
    FourierAttentionNeuralOperator,
    build,
    settings=dict(patches=4, modes=2, smoothing=0, d_model=32, heads=4, layers=3, ff=64, lr=3e-3),
    any_size=True,
)
