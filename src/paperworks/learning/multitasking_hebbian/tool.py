"""`paperworks recall FILE`: store a user's patterns, or learn them from examples, and see what one state recalls."""

import csv
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from paperworks.errors import DataFileError, PaperworksError
from paperworks.training.arrays import numeric, read_arrays

from .model import MultitaskingHebbian, hierarchical_state, overlaps
from .theory import hierarchical_overlaps, hierarchical_threshold, solve_self_consistency

LARGEST = 200_000_000  # entries


def recall(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="Patterns or examples: .npz, HDF5 or CSV of -1, 0, 1.")
    ],
    temperature: Annotated[float, typer.Option(min=0, help="Of the dynamics; 0 follows the field.")] = 0.05,
    sweeps: Annotated[int, typer.Option(min=1, help="Updates of every spin.")] = 30,
    quality: Annotated[float, typer.Option(help="Examples: how often an entry is right, (1 + quality) / 2.")] = 0.0,
    labels: Annotated[bool, typer.Option(help="Examples: whether to learn with their labels.")] = True,
    seed: Annotated[int, typer.Option(help="Of the dynamics.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the recalled state and overlaps here (.npz).")
    ] = None,
) -> dict[str, Any]:
    """Recall several stored patterns at once with a multitasking Hebbian network."""
    given = read_patterns(source)
    drawn = torch.Generator().manual_seed(seed)
    dilution = float((given == 0).float().mean())
    if given.ndim == 3:
        if quality == 0:
            quality = estimated_quality(given)
        if not 0 < quality <= 1:
            raise PaperworksError(f"--quality {quality:g}: above 0 and at most 1 (0 estimates it from the examples)")
        rule = "supervised" if labels else "unsupervised"
        memory = MultitaskingHebbian.learn(given, quality=quality, dilution=dilution, rule=rule)
        patterns = given.sum(1).sign()  # the best guess of what the examples show
    else:
        rule, patterns = "storing", given
        memory = MultitaskingHebbian.store(given, dilution=dilution)
    start = hierarchical_state(patterns, drawn)
    found = memory.recall(start, patterns, temperature=temperature, sweeps=sweeps, generator=drawn)
    activity = (patterns != 0).float().mean(1)
    reached = (found.overlaps[0] / activity.clamp_min(1e-9)).tolist()
    if temperature == 0:
        theory = hierarchical_overlaps(len(patterns), dilution).tolist()
    elif len(patterns) <= 10 and dilution < 1:
        theory = solve_self_consistency(len(patterns), dilution, temperature).overlaps.tolist()
    else:
        theory = []
    lines = [
        f"{len(patterns)} patterns of {patterns.shape[1]} spins, dilution {dilution:.3f}, rule {rule}, "
        f"temperature {temperature:g}",
        f"ordered (hierarchical) recall is stable up to dilution {hierarchical_threshold(len(patterns)):.3f} at T = 0",
        "pattern  overlap  of its activity  theory (independent entries)",
    ]
    for index, (m, share) in enumerate(zip(found.overlaps[0].tolist(), reached, strict=True)):
        lines.append(f"{index + 1:>7}  {m:7.3f}  {share:15.3f}  {theory[index] if theory else float('nan'):6.3f}")
    if out is not None:
        try:
            np.savez(out, state=found.states[0].numpy(), overlaps=overlaps(found.states, patterns)[0].numpy())
        except OSError as error:
            raise PaperworksError(f"{out} cannot be written: {error.strerror}") from error
        lines.append(f"State: {out.resolve()}")
    return {
        "text": "\n".join(lines),
        "rule": rule,
        "dilution": dilution,
        "overlaps": found.overlaps[0].tolist(),
        "theory": theory,
        "energy": float(found.energy[0]),
    }


def estimated_quality(examples: torch.Tensor) -> float:
    """r from the agreement of two examples of one pattern, which is r^2 on average."""
    n_examples = examples.shape[1]
    if n_examples < 2:
        raise PaperworksError("one example a pattern does not tell its quality: give --quality")
    total = examples.sum(1)
    there = (examples != 0).sum(1)
    pairs = (there * (there - 1)).sum()
    agreement = float((total.square() - there).sum() / pairs.clamp_min(1))
    return max(agreement, 0.0) ** 0.5


def read_patterns(path: Path | str) -> Tensor:
    """Patterns (patterns, spins) or examples (patterns, examples, spins), entries -1, 0 and 1, as float32.

    Raises:
        DataFileError: no such file, not of these kinds, other entries; names the line or the index.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        array = _csv(path)
    else:
        arrays = read_arrays(path)
        name = next((n for n in ("examples", "patterns", "xi", "arr_0") if n in arrays), None)
        if name is None:
            raise DataFileError(f"{path} has {', '.join(arrays) or 'nothing'}; expected 'patterns' or 'examples'")
        array = numeric(path, arrays, name)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise DataFileError(
            f"{path}: shape {array.shape}; expected (patterns, spins) or (patterns, examples, spins), none of them 0"
        )
    if array.size > LARGEST:
        raise DataFileError(f"{path}: {array.size:,} entries; at most {LARGEST:,}")
    wrong = np.argwhere(~np.isin(array, (-1, 0, 1)))
    if len(wrong):
        place = tuple(int(i) for i in wrong[0])
        raise DataFileError(
            f"{path}: entry {place} is {array[place]:g}; expected -1, 0 or 1. For real numbers, `ternarise` of "
            "paperworks.learning.multitasking_hebbian cuts them at two quantiles"
        )
    if not array.any():
        raise DataFileError(f"{path}: every entry is 0, so there is nothing to store; expected entries -1 and 1 too")
    return torch.from_numpy(array.astype(np.float32))


def _csv(path: Path) -> np.ndarray:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row]
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path} cannot be read as CSV: {error}") from error
    if not rows:
        raise DataFileError(f"{path} is empty; expected one pattern a line, entries -1, 0, 1")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise DataFileError(f"{path}, line {number}: {len(row)} entries, the first line has {len(rows[0])}")
        for entry in row:
            if entry.strip() not in ("-1", "0", "1", "+1"):
                raise DataFileError(f"{path}, line {number}: {entry.strip()!r}; expected -1, 0 or 1")
    return np.array([[int(entry) for entry in row] for row in rows])
