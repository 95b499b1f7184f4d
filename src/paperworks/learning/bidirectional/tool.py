"""`paperworks robustness MODEL DATA`: how a classifier fitted by `paperworks fit` holds out, or only seems to.

The attack box is the range of each column (of each channel of images) in DATA, scaled to [0, 1]: a radius of 0.1 moves
every column by a tenth of its range. For other classifiers see `paperworks.measure.robustness_report`.
"""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor, nn

from paperworks import find_paper
from paperworks.errors import DataFileError, ModelFolderError, PaperworksError
from paperworks.measure import Robustness, robustness_report
from paperworks.training.class_recipe import UNLABELLED
from paperworks.training.recipe import read_recipe


class OnUnitBox(nn.Module):
    """A fitted network of inputs scaled to [0, 1]: takes them back to its own units first."""

    low: Tensor
    span: Tensor

    def __init__(self, net: nn.Module, low: Tensor, span: Tensor):
        super().__init__()
        self.net = net
        self.register_buffer("low", low)
        self.register_buffer("span", span)

    def forward(self, u: Tensor) -> Any:
        """(rows, ...) in [0, 1] -> logits."""
        return self.net(self.low + self.span * u)


def robustness(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `paperworks fit` wrote.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A table or images with labels, as it was fitted on.")],
    source: Annotated[
        Path | None, typer.Option(help="Another fitted folder, of the same data and another seed, to attack from.")
    ] = None,
    eps: Annotated[str, typer.Option(help="Radii, shares of each column's range.")] = "0.02,0.05,0.1,0.2,0.3",
    rows: Annotated[int, typer.Option(min=1, help="At most this many rows, drawn at random.")] = 1000,
    steps: Annotated[int, typer.Option(min=1, help="Steps of margin PGD.")] = 20,
    restarts: Annotated[int, typer.Option(min=1, help="Starts of margin PGD, the first at the row itself.")] = 3,
    seed: Annotated[int, typer.Option(help="Of the draw of rows, noise and starts.")] = 0,
) -> dict[str, Any]:
    """How does this classifier hold out against attacks and noise, and is its gradient masked?"""
    radii = numbers(eps)
    net, recipe, stored = load(model)
    x, y = labelled_rows(recipe, stored, data)
    notes = []
    if len(y) > rows:
        kept = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:rows].sort().values
        notes.append(f"{len(y):,} rows; {rows:,} drawn at random are attacked")
        x, y = x[kept], y[kept]
    low, span = box(x)
    unit = ((x - low) / torch.where(span > 0, span, 1.0)).clamp(0, 1)
    attacker = None
    if source is not None:
        other, _, described = load(source)
        for name in ("in_shape", "classes", "columns"):
            if described["data"].get(name) != stored["data"].get(name):
                raise ModelFolderError(f"{source}: fitted on other {name} than {model}; an attack needs the same")
        attacker = OnUnitBox(other, *in_units_of(described, stored, low, span))
    else:
        notes.append("no --source: an attack from another network, which sees through most masks, was not tried")
    try:
        found = robustness_report(
            OnUnitBox(net, low, span), unit, y, radii, source=attacker, steps=steps, restarts=restarts, seed=seed
        )
    except ValueError as error:
        raise PaperworksError(f"{model} cannot be attacked: {error}") from error
    signs, verdict = found.signs(), answer(found)
    text = [f"{data.name}: radii are shares of each column's range", found.text()]
    text += [f"sign of a masked gradient: {sign}" for sign in signs]
    return {
        "text": "\n".join([*text, *notes, verdict]),
        "answer": verdict,
        "eps": list(found.eps),
        "rows": found.total,
        "clean": found.clean,
        "right": {name: list(counts) for name, counts in found.right.items()},
        "zero_gradient": found.zero_gradient,
        "signs": signs,
        "notes": notes,
    }


def numbers(text: str) -> list[float]:
    """Radii from `0.1,0.3`, in order.

    Raises:
        PaperworksError: not numbers from 0 to 1.
    """
    try:
        radii = sorted({float(part) for part in text.split(",")})
    except ValueError:
        radii = [-1.0]
    if not all(0 <= radius <= 1 for radius in radii):
        raise PaperworksError(f"--eps {text}: numbers from 0 to 1, such as 0.05,0.1")
    return radii


def load(folder: Path) -> tuple[nn.Module, Any, dict[str, Any]]:
    """A fitted classifier, its recipe, and what the folder says of its data.

    Raises:
        ModelFolderError: no such folder, or its paper classifies no arrays.
    """
    stored = read_recipe(folder)
    if not {"in_shape", "classes", "mean", "std"} <= stored["data"].keys():
        raise ModelFolderError(
            f"{folder}: {stored['slug']} is no classifier of tables or arrays of images; "
            "paperworks.measure.robustness_report takes any torch classifier"
        )
    recipe = find_paper(stored["slug"]).load("recipe").recipe
    kind = recipe.model if isinstance(recipe.model, type) else recipe.model(stored["data"])
    return kind.from_pretrained(folder), recipe, stored


def labelled_rows(recipe: Any, stored: dict[str, Any], data: Path) -> tuple[Tensor, Tensor]:
    """Inputs in the model's own units, and labels it knows.

    Raises:
        DataFileError: unreadable, or no row has a label that the model knows.
    """
    part = recipe.read(data, {**recipe.settings, **stored["settings"]}, stored["data"]).everything
    x, y = part.rows
    known = y != UNLABELLED
    if not bool(known.any()):
        raise DataFileError(
            f"{data}: no row has a label in '{stored['data'].get('target')}' that the model knows; attacks need one"
        )
    return x[known].float(), y[known]


def box(x: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest value and range of each column, or of each channel of images, shaped to broadcast over rows."""
    axes = (0, *range(2, x.ndim))
    low = x.amin(axes, keepdim=True)
    return low, x.amax(axes, keepdim=True) - low


def in_units_of(other: dict[str, Any], stored: dict[str, Any], low: Tensor, span: Tensor) -> tuple[Tensor, Tensor]:
    """The same box in the units of another model, fitted with its own mean and deviation."""

    def of(description: dict[str, Any], name: str) -> Tensor:
        return torch.tensor(description["data"][name], dtype=torch.float64).reshape(low.shape[1:])

    raw_low, raw_span = low * of(stored, "std") + of(stored, "mean"), span * of(stored, "std")
    return ((raw_low - of(other, "mean")) / of(other, "std")).float(), (raw_span / of(other, "std")).float()


def answer(found: Robustness) -> str:
    """What the counts say, in a sentence."""
    worst = found.right["worst"]
    half = next((e for e, count in zip(found.eps, worst, strict=True) if 2 * count < found.clean), None)
    if found.clean == 0:
        return "It gets no row right, so there is nothing to attack."
    ends = f"Of {found.clean} right rows {worst[-1]} withstand all attacks at eps {found.eps[-1]:g}"
    ends += f"; half are lost by eps {half:g}." if half is not None else "; more than half hold at every radius tried."
    if found.signs():
        return f"{ends} Its gradient looks masked: trust the lowest curve, and attack it harder."
    return f"{ends} No sign of a masked gradient, which proves nothing: an upper bound on its robustness."
