"""MgNO on a user's PDE files: the boundary condition from the file, as many levels as the grid has."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from paperworks.errors import SettingError
from paperworks.operators.field_recipe import field_recipe

from .model import MgNO

PADDED_LIKE = {"periodic": "periodic", "wall": "neumann", "neumann": "neumann", "open": "neumann"}


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """A MgNO of the file's channels and axes; a time stepper without further inputs predicts increments."""
    space, boundary = description["space"], settings["boundary"]
    if boundary == "auto":
        boundary = PADDED_LIKE.get(description["bc"][0], "dirichlet")
    levels = settings["levels"] or max(1, min(6, (min(space) - 1).bit_length() - 1))
    before, after = description["in_channels"], description["out_channels"]
    try:
        return MgNO(
            before,
            after,
            settings["hidden_channels"],
            settings["layers"],
            (*[(1, 0)] * (levels - 1), (2, 0)),
            boundary=boundary,
            residual_output=description["kind"] == "series" and before == after,
            ndim=len(space),
        )
    except ValueError as error:
        raise SettingError(f"a MgNO of these settings cannot be built: {error}") from error


recipe = field_recipe(
    "mgno",
    MgNO,
    build,
    settings=dict(hidden_channels=24, layers=4, levels=0, boundary="auto"),
    any_size=True,
)
