"""`paperworks kan-or-mlp table.csv --target y`: should this table get a KAN or a perceptron?"""

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from scipy import stats

from paperworks.errors import DataFileError, PaperworksError
from paperworks.measure import count_parameters
from paperworks.training.tables import Table, class_names, read_table

from .model import build, match_budget, operations
from .tasks import Task, split_task
from .training import scores, train

MOST_ROWS, MOST_CLASSES, FEWEST_ROWS = 20_000, 20, 30
RATES = (1e-3, 3e-3, 1e-2, 3e-2)


def kan_or_mlp(
    source: Annotated[Path, typer.Argument(metavar="TABLE", help="A .csv, .tsv or .npz table of numbers.")],
    target: Annotated[str, typer.Option(help="The column to predict; default: as `fit noprop` finds it.")] = "",
    seeds: Annotated[int, typer.Option(min=3, help="Splits of the table into training, validation and test rows.")] = 5,
    steps: Annotated[int, typer.Option(min=10, help="Training steps of every network.")] = 400,
    width: Annotated[int, typer.Option(min=1, help="Hidden units of the KAN; the others get its budget.")] = 8,
    task: Annotated[str, typer.Option(help="classification, regression, or auto.")] = "auto",
) -> dict[str, Any]:
    """Should I use a KAN on this table? An answer at equal parameters and at equal operations, with intervals."""
    table = read_table(source, target)
    if table.x.ndim != 2:
        raise DataFileError(f"{source}: rows of shape {table.x.shape[1:]}; expected a table of numbers")
    x, y, classes = targets(source, table, task)
    notes = []
    if len(y) > MOST_ROWS:
        kept = np.sort(np.random.default_rng(0).permutation(len(y))[:MOST_ROWS])
        notes.append(f"{len(y):,} rows; {MOST_ROWS:,} drawn at random are used")
        x, y = x[kept], y[kept]
    if table.constant:
        notes.append(f"columns that never change tell nothing: {', '.join(table.constant[:5])}")
    metric, better = ("acc", 1.0) if classes else ("nrmse", -1.0)
    kan = build("kan", x.shape[1], width, classes or 1)
    budgets = {
        "kan": ("kan", width),
        "mlp": ("mlp", match_budget("mlp", x.shape[1], classes or 1, parameters=count_parameters(kan))),
        "mlp_flops": ("mlp", match_budget("mlp", x.shape[1], classes or 1, flops=operations(kan, x.shape[1]))),
    }
    found: dict[str, list[float]] = {name: [] for name in budgets}
    took: dict[str, list[float]] = {name: [] for name in budgets}
    with typer.progressbar(length=seeds * len(budgets), label="training", file=typer.get_text_stream("stderr")) as bar:
        for seed in range(seeds):
            part: Task = split_task(x, y, classes, seed)
            for name, (family, wide) in budgets.items():
                began = time.perf_counter()
                best = train(part, family, wide, seed, steps=steps, batch_size=128, lrs=RATES, low=-3.0, high=3.0)
                took[name].append(time.perf_counter() - began)
                found[name].append(scores(best.net, part.test)[metric])
                bar.update(1)
    comparisons = {name: compared(found["kan"], found[name], better) for name in ("mlp", "mlp_flops")}
    kinds = {"kan": "KAN", "mlp": "perceptron, equal parameters", "mlp_flops": "perceptron, equal operations"}
    sizes = {name: count_parameters(build(f, x.shape[1], w, classes or 1)) for name, (f, w) in budgets.items()}
    label = "accuracy" if classes else "RMSE in standard deviations"
    lines = [f"{source.name}: {len(y):,} rows, {x.shape[1]} columns, {label} on test rows, {seeds} splits"]
    for name, kind in kinds.items():
        mean, seconds = float(np.mean(found[name])), float(np.median(took[name]))
        lines.append(f"{kind:<30} {mean:8.4f}   {sizes[name]:>8,} parameters   {seconds:6.1f} s to train")
    for name, (low, high) in comparisons.items():
        lines.append(f"KAN better than the {kinds[name]} by {low:+.4f} to {high:+.4f} (95 % interval)")
    answer = verdict(comparisons)
    return {
        "text": "\n".join([*lines, *notes, answer]),
        "answer": answer,
        "metric": metric,
        "scores": found,
        "parameters": sizes,
        "seconds": {name: float(np.median(values)) for name, values in took.items()},
        "kan_better_by": {name: list(interval) for name, interval in comparisons.items()},
        "notes": notes,
    }


def targets(source: Path, table: Table, task: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Inputs, targets, and the number of classes (0 for a number).

    Raises:
        DataFileError, PaperworksError: too few rows, one class, a target that is no number where one is asked for.
    """
    if task not in ("auto", "classification", "regression"):
        raise PaperworksError(f"--task {task}: classification, regression or auto")
    assert table.labels is not None
    if len(table.labels) < FEWEST_ROWS:
        raise DataFileError(f"{source}: {len(table.labels)} rows; at least {FEWEST_ROWS} are needed for an answer")
    numbers = []
    for place, text in zip(table.places, table.labels, strict=True):
        try:
            numbers.append(float(text))
        except ValueError:
            if task == "regression":
                raise DataFileError(f"{source}, {place}: '{text}' in column '{table.target}' is no number") from None
            numbers = []
            break
    distinct = len(set(table.labels))
    if task == "classification" or not numbers or (task == "auto" and distinct <= MOST_CLASSES):
        names = class_names(source, table)
        if len(names) > MOST_CLASSES and not numbers:
            raise DataFileError(
                f"{source}: column '{table.target}' has {len(names)} different texts; at most {MOST_CLASSES} classes"
            )
        place_of = {name: number for number, name in enumerate(names)}
        return table.x.astype(np.float64), np.array([place_of[text] for text in table.labels]), len(names)
    y = np.array(numbers)
    if not np.isfinite(y).all() or y.std() == 0:
        raise DataFileError(f"{source}: column '{table.target}' must be finite and change from row to row")
    return table.x.astype(np.float64), y, 0


def compared(kan: list[float], other: list[float], better: float) -> tuple[float, float]:
    """The 95 % t-interval of how much better the KAN is, over paired splits."""
    gains = better * (np.array(kan) - np.array(other))
    half = float(stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / len(gains) ** 0.5)
    return float(gains.mean()) - half, float(gains.mean()) + half


def verdict(comparisons: dict[str, tuple[float, float]]) -> str:
    """The answer in a sentence."""
    if all(low > 0 for low, _ in comparisons.values()):
        return "Use a KAN: it is better than a perceptron at equal parameters and at equal operations."
    if all(high < 0 for _, high in comparisons.values()):
        return "Use a perceptron: it is better at equal parameters and at equal operations."
    if comparisons["mlp"][0] > 0:
        return (
            "A KAN is better at equal parameters, but not shown to be at equal operations: a larger perceptron may do."
        )
    return "No difference is shown: use a perceptron, which trains faster, unless a later table says otherwise."
