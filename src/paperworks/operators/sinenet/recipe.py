"""SineNet on a user's fields: trajectories to the next frame (or inputs to solutions) on two axes of space."""

from collections.abc import Mapping
from typing import Any

from paperworks.errors import SettingError
from paperworks.operators.field_recipe import field_recipe

from .model import SineNet


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> SineNet:
    """A SineNet of the data's channels; `padding=auto` is circular where both axes are periodic, zeros else."""
    space, block = description["space"], 2 ** settings["levels"]
    if len(space) != 2:
        raise SettingError(f"sinenet takes fields on two axes of space; these have {len(space)}")
    if any(points % block for points in space):
        fitting = max((n for n in range(settings["levels"]) if not any(points % 2**n for points in space)), default=0)
        advice = f"--set levels={fitting}" if fitting else "crop or resample the data to an even number of points"
        raise SettingError(f"a grid of {space[0]} x {space[1]} points is not divisible by {block}: {advice}")
    padding = settings["padding"]
    if padding == "auto":
        padding = "circular" if all(end == "periodic" for end in description["bc"]) else "zeros"
    names = ("hidden", "waves", "growth", "levels", "blocks", "parallel")
    own = {name: settings[name] for name in names}
    return SineNet(description["in_channels"], description["out_channels"], padding=padding, **own)


recipe = field_recipe(
    "sinenet",
    SineNet,
    build,
    settings=dict(
        hidden=32, waves=8, growth=1.425, levels=4, blocks=1, parallel=True, padding="auto", optimizer="adamw",
        weight_decay=1e-5,
    ),
)  # fmt: skip
