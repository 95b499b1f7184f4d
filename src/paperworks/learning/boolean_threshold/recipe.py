"""A circuit of gates from your truth table or table of bits: `paperworks fit boolean_threshold table.csv`."""

import csv
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paperworks.errors import DataFileError, SettingError
from paperworks.training.batches import Batches
from paperworks.training.fit import Fitted
from paperworks.training.recipe import Part, Recipe, UserData
from paperworks.training.tables import Table, class_names, read_table

from .model import BooleanThresholdNetwork
from .search import Problem, find_networks

MOST_VALIDATED = 20_000  # rows
MOST_NUMBERS = 2**28  # in the copies of one start: a gigabyte
SCORED_AT_ONCE = 8192  # rows
UNKNOWN = -1


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """A table whose columns are bits: different rows once, their outputs as signs."""
    if saved is not None:
        return _read_more(path, saved)
    _check(settings)
    targets = [name.strip() for name in settings["target"].split(",")] if settings["target"] else [""]
    table = read_table(path, targets[-1])
    if table.x.ndim != 2:
        raise DataFileError(f"{path}: rows of shape {table.x.shape[1:]}; expected a table of bits")
    assert table.labels is not None
    names = [name for name in table.names if name not in targets[:-1]]
    absent = [name for name in targets[:-1] if name not in table.names]
    if absent or len(set(targets)) < len(targets):
        raise DataFileError(f"{path}: target={settings['target']} needs different columns of {', '.join(table.names)}")
    place = {name: number for number, name in enumerate(table.names)}
    columns = table.x[:, [place[name] for name in names]]
    kept, cuts, values = _plan(path, names, columns, settings["cut"])
    if not kept:
        raise DataFileError(f"{path}: every column but the target is constant; there is nothing to compute it from")
    description: dict[str, Any] = {
        "columns": [names[number] for number in kept],
        "cuts": cuts,
        "values": values,
        "targets": [*targets[:-1], table.target],
        "classes": class_names(path, table, 1) if len(targets) == 1 else [],
        "constant_columns": [name for number, name in enumerate(names) if number not in kept],
    }
    bits = columns[:, kept] > np.array(cuts, np.float32)
    others = table.x[:, [place[name] for name in targets[:-1]]]
    outputs = _outputs(path, table, others, description)
    x, y = _functions(path, table.places, bits, outputs, settings["contradictions"])
    rng = np.random.default_rng(settings["seed"])
    order = rng.permutation(len(x))
    whole = len(x) == 2 ** len(kept)
    n_train = max(1, len(x) - (0 if whole else round(settings["validation"] * len(x))))
    if n_train > settings["rows"]:
        warnings.warn(
            f"{path}: {len(x):,} different rows; {settings['rows']:,} drawn at random are fitted, the others validate "
            "(--set rows=NUMBER fits more, in time that grows with it)",
            stacklevel=2,
        )
        n_train = settings["rows"]
    widths = _widths(settings["hidden"], len(kept), y.shape[1])
    n_weights = sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))
    if 2 * n_train * n_weights > MOST_NUMBERS:
        raise DataFileError(
            f"{path}: {n_train:,} rows and {n_weights:,} weights: every row has its own copy of every weight, "
            f"{2 * n_train * n_weights:,} numbers. Fit fewer rows (--set rows=...) or a smaller network "
            "(--set hidden=...)."
        )
    chosen, rest = np.sort(order[:n_train]), order[n_train:][:MOST_VALIDATED]
    parts = [_part(x[rows], y[rows]) if len(rows) else None for rows in (chosen, rest)]
    return UserData(description, parts[0], parts[1])


def _read_more(path: Path, saved: Mapping[str, Any]) -> UserData:
    targets, columns = saved["targets"], saved["columns"]
    try:
        table = read_table(path, targets[-1], [*columns, *targets[:-1]])
        complete = table.labels is not None
    except DataFileError:
        if len(targets) == 1:
            raise
        table, complete = read_table(path, targets[-1], columns), False
    if table.x.ndim != 2:
        raise DataFileError(f"{path}: rows of shape {table.x.shape[1:]}; expected a table of bits")
    x = table.x[:, : len(columns)]
    for number, known in enumerate(saved["values"]):
        if known is not None:
            strange = ~np.isin(x[:, number], np.array(known, np.float32))
            if strange.any():
                row = int(strange.argmax())
                raise DataFileError(
                    f"{path}, {table.places[row]}: {x[row, number]:g} in column '{columns[number]}'; the model was "
                    f"fitted on {known[0]:g} and {known[1]:g}"
                )
    outputs = np.full((len(x), 1), UNKNOWN)
    if complete:
        outputs = _outputs(path, table, table.x[:, len(columns) :], saved, strict=False)
    part = _part(x > np.array(saved["cuts"], np.float32), outputs)
    return UserData(dict(saved), everything=part)


def _check(settings: Mapping[str, Any]) -> None:
    choices = {
        "cut": ("none", "median"),
        "contradictions": ("refuse", "majority"),
        "stop": ("gap", "accuracy"),
    }
    for name, allowed in choices.items():
        if settings[name] not in allowed:
            raise SettingError(f"setting {name}={settings[name]}: one of {', '.join(allowed)}")
    if settings["restarts"] < 1 or settings["rows"] < 1:
        raise SettingError("settings restarts and rows: whole numbers from 1")
    if not 0 < settings["beta"] < 2 or not 0 <= settings["gamma"] < 1 or settings["sigma"] <= 0:
        raise SettingError("settings: beta above 0 and below 2, gamma from 0 and below 1, sigma above 0")
    _widths(settings["hidden"], 1, 1)


def _widths(hidden: str, n_in: int, n_out: int) -> list[int]:
    wide = max(n_in, n_out)
    try:
        layers = [wide, wide] if hidden == "auto" else [int(text) for text in hidden.split(",") if text.strip()]
    except ValueError:
        layers = [0]
    if min(layers, default=1) < 1:
        raise SettingError(f"setting hidden={hidden}: widths such as 16,16, nothing for no hidden layer, or auto")
    return [n_in, *layers, n_out]


def _plan(
    path: Path, names: Sequence[str], x: np.ndarray, cut: str
) -> tuple[list[int], list[float], list[list[float] | None]]:
    """Columns that tell something, what lies above which number counts as 1, and the two values of a column of bits."""
    kept, cuts, values = [], [], []
    for number, name in enumerate(names):
        found = np.unique(x[:, number])
        if len(found) == 1:
            warnings.warn(f"{path}: column '{name}' never changes and is left out", stacklevel=3)
            continue
        kept.append(number)
        if len(found) == 2:
            cuts.append(float(found.mean(dtype=np.float64)))
            values.append([float(value) for value in found])
        elif cut == "median":
            middle = float(np.median(x[:, number]))
            cuts.append(middle if middle < found[-1] else float(found[-2]))
            values.append(None)
        else:
            some = ", ".join(f"{value:g}" for value in found[:4])
            raise DataFileError(
                f"{path}: column '{name}' holds {len(found)} different numbers ({some}, ...); bits are expected. Write "
                "it as bits, or split such columns at their medians: --set cut=median"
            )
    return kept, cuts, values


def _outputs(
    path: Path, table: Table, others: np.ndarray, description: Mapping[str, Any], strict: bool = True
) -> np.ndarray:
    """Output bits (rows, outputs); of more than two classes one bit a class. Rows of unknown labels are -1."""
    assert table.labels is not None
    classes = description["classes"]
    if classes:
        place = {label: number for number, label in enumerate(classes)}
        numbers = np.array([place.get(label, UNKNOWN) for label in table.labels])
        if len(classes) == 2:
            return numbers[:, None]
        bits = np.eye(len(classes), dtype=np.int64)[numbers]
        bits[numbers == UNKNOWN] = UNKNOWN
        return bits
    known = {"0": 0, "1": 1, "-1": 0, "0.0": 0, "1.0": 1, "-1.0": 0}
    last = np.array([known.get(label, UNKNOWN) for label in table.labels])[:, None]
    bits = np.concatenate([np.where(np.isin(others, (-1, 0, 1)), others > 0, UNKNOWN), last], 1).astype(np.int64)
    wrong = np.argwhere(bits == UNKNOWN)
    if strict and len(wrong):
        row, column = wrong[0].tolist()
        raise DataFileError(
            f"{path}, {table.places[row]}: column '{description['targets'][column]}' holds something else than 0 and "
            "1; several targets must be bits"
        )
    if strict:
        still = [n for n, same in zip(description["targets"], (bits == bits[0]).all(0), strict=True) if same]
        if still:
            raise DataFileError(f"{path}: target '{still[0]}' never changes; leave it out")
    return bits


def _functions(
    path: Path, places: Sequence[str], bits: np.ndarray, outputs: np.ndarray, contradictions: str
) -> tuple[np.ndarray, np.ndarray]:
    """Different rows of bits and the outputs of each.

    Raises:
        DataFileError: rows of the same bits have different outputs, and none is to be taken by majority.
    """
    packed = np.ascontiguousarray(np.packbits(bits, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1]))).reshape(-1)
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    clash = (outputs != outputs[first][which]).any(1)
    if clash.any() and contradictions == "refuse":
        row = int(clash.argmax())
        raise DataFileError(
            f"{path}: {places[int(first[which[row]])]} and {places[row]} have the same inputs and different targets, "
            f"and so have {int(clash.sum()):,} rows in all; no circuit gives both. Add the column that tells them "
            "apart, or keep what most such rows say: --set contradictions=majority"
        )
    if not clash.any():
        return bits[first], outputs[first]
    answers, number = np.unique(outputs, axis=0, return_inverse=True)
    votes = np.zeros((len(first), len(answers)), np.int64)
    np.add.at(votes, (which, number.reshape(-1)), 1)
    return bits[first], answers[votes.argmax(1)]


def _part(bits: np.ndarray, outputs: np.ndarray) -> Part:
    x, y = torch.from_numpy(bits.astype(np.float32)), torch.from_numpy(np.asarray(outputs))
    return Part((2 * x - 1, y), len(bits))


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> BooleanThresholdNetwork:
    """A layered network by its settings."""
    classes = description["classes"]
    n_out = len(description["targets"]) if not classes else 1 if len(classes) == 2 else len(classes)
    return BooleanThresholdNetwork(_widths(settings["hidden"], len(description["columns"]), n_out))


def searching(settings: Mapping[str, Any]) -> Callable[..., Fitted]:
    """A search in the place of gradient descent, by these settings."""

    def search(model: Any, loss: Any, batches: Batches, *, steps: int, log: Any = None, **others: Any) -> Fitted:
        del loss, others
        return train(model, batches.rows, {**settings, "steps": steps}, log)

    return search


def train(
    model: BooleanThresholdNetwork,
    rows: tuple[Tensor, Tensor],
    settings: Mapping[str, Any],
    log: Callable[..., None] | None = None,
) -> Fitted:
    """Search until one start has solved the table; keep the best network."""
    x, y = rows
    device = model.weights.device
    problem = Problem(model.wiring, x, 2.0 * y - 1, settings["sigma"], device=device)
    began, logged = time.perf_counter(), []

    def told(made: int, gap: float) -> None:
        step = min(settings["steps"], max(1, made // settings["restarts"]))
        logged.append({"step": step, "seconds": time.perf_counter() - began, "gap": gap})
        if log:
            log(step, settings["steps"], seconds=logged[-1]["seconds"], gap=gap)

    found = find_networks(
        problem,
        range(settings["seed"] * 10_000, settings["seed"] * 10_000 + settings["restarts"]),
        beta=settings["beta"],
        gamma=settings["gamma"],
        max_iterations=settings["steps"],
        stop=settings["stop"],
        check_every=max(1, min(100, settings["steps"] // 20)),
        first_only=True,
        log=told,
    )
    best = max(found, key=lambda a: (a.solved, a.accuracy))
    if not best.solved:
        warnings.warn(
            f"no start of {settings['restarts']} solved the table in {settings['steps']:,} iterations; the best "
            "network is kept. More --set steps=, restarts=, hidden=WIDTHS or a larger sigma= may help; try several "
            "sizes.",
            stacklevel=2,
        )
    with torch.no_grad():
        model.weights.copy_(best.weights)
    return Fitted(best.iterations, time.perf_counter() - began, best.gap, [], logged)


@torch.no_grad()
def answers(model: Any, x: Tensor, description: Mapping[str, Any]) -> np.ndarray:
    """Output bits (rows, outputs); of more than two classes one bit, at the largest sum."""
    device = model.weights.device
    sums = torch.cat([model.activations(rows.to(device)).cpu() for rows in x.split(SCORED_AT_ONCE)]).numpy()
    if len(description["classes"]) > 2:
        return np.eye(sums.shape[1], dtype=np.int64)[sums.argmax(1)]
    return (sums > 0).astype(np.int64)


def score(model: Any, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Share of rows right in every output, and of right output bits.

    Raises:
        DataFileError: a row without a target that the model knows.
    """
    x, y = part.rows
    if bool((y == UNKNOWN).any()):
        row = int((y == UNKNOWN).any(1).int().argmax()) + 1
        raise DataFileError(f"row {row} of the data to score has no known {' and '.join(description['targets'])}")
    right = answers(model, x, description) == y.numpy()
    return {"accuracy": float(right.all(1).mean()), "bit_accuracy": float(right.mean())}


def names_of(description: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Names of the circuit's inputs and outputs: columns, and targets or classes."""
    columns, targets, classes = (list(description[name]) for name in ("columns", "targets", "classes"))
    outs = (
        targets if not classes else [f"{targets[0]}={name}" for name in (classes[1:] if len(classes) == 2 else classes)]
    )
    if classes == ["0", "1"]:
        outs = targets
    taken = set(columns)
    return columns, [f"{name} (out)" if name in taken else name for name in outs]


def pictures(model: Any, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The circuit, where neurons are gates, and the weights of the first layer."""
    del part
    block = model.wiring.blocks[0]
    first = model.weights[torch.tensor(block.edges, device=model.weights.device)].cpu()
    shown: list[dict[str, Any]] = []
    try:
        circuit = model.to_logic(*names_of(description))
    except ValueError:
        circuit = None
    if circuit is not None and len(circuit.gates) <= 60:
        shown.append(
            {
                "title": "The circuit",
                "kind": "network",
                "caption": "inputs on the left, outputs on the right; dashed edges with a ring negate",
                **circuit.drawing(),
            }
        )
    shown.append(
        {
            "title": "Weights of the first layer",
            "kind": "heatmap",
            "values": [[float(value) for value in row] for row in first],
            "x_label": "constant, then inputs",
            "y_label": "neuron",
            "caption": "few and equal where a neuron is a gate",
        }
    )
    return shown


def predict(model: Any, data: UserData, out: Path) -> int:
    """CSV: row (counted from 1, without the header), and the target columns."""
    assert data.everything is not None
    d = data.description
    bits = answers(model.eval(), data.everything.rows[0], d)
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["row", *d["targets"]])
        for number, row in enumerate(bits.tolist(), 1):
            shown = row if not d["classes"] else [d["classes"][row[0] if len(d["classes"]) == 2 else row.index(1)]]
            writer.writerow([number, *shown])
    return data.everything.count


def no_loss(model: Any, batch: Any) -> Tensor:
    """There is none: networks are found by projections."""
    raise NotImplementedError("networks are found by projections, without a loss")


recipe = Recipe(
    slug="boolean_threshold",
    settings={
        "target": "",
        "hidden": "auto",
        "sigma": 3.0,
        "beta": 0.2,
        "gamma": 1e-3,
        "restarts": 16,
        "steps": 10_000,
        "stop": "gap",
        "validation": 0.2,
        "cut": "none",
        "rows": 1000,
        "contradictions": "refuse",
    },
    read=read,
    build=build,
    model=BooleanThresholdNetwork,
    loss=no_loss,
    score=score,
    predict=predict,
    task="tabular-classification",
    pictures=pictures,
    fit=searching,
)
