"""Modular addition's network on a user's operation table: a, b, c with c = a * b for some operation *."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import DataFileError
from paperworks.training.recipe import Part, Recipe, UserData

from .fourier import dominant_frequency, fourier_decode, inverse_participation, phase_misalignment
from .model import ModularAdditionMLP

LARGEST = 1001  # elements; the network has one column an element


def read_operation(path: Path) -> tuple[Tensor, Tensor]:
    """Pairs (n, 2) and answers (n,), -1 where the cell is empty.

    Raises:
        DataFileError: names the file, line and column of what is not a whole number from 0.
    """
    if path.is_dir():
        raise DataFileError(f"{path} is a folder; give a .csv with the columns a, b, c")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip().lower() for name in next(reader, [])]
            if header[:3] != ["a", "b", "c"] and header[:2] != ["a", "b"]:
                raise DataFileError(f"{path}: its first line is {header or 'empty'}, expected the columns a,b,c")
            rows = [
                _row(path, reader.line_num, cells, len(header)) for cells in reader if any(c.strip() for c in cells)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataFileError(f"{path} cannot be read as a table: {error}") from error
    if not rows:
        raise DataFileError(f"{path} has a header but no line below it")
    table = torch.tensor(rows)
    return table[:, :2], table[:, 2]


def _row(path: Path, line: int, cells: list[str], width: int) -> list[int]:
    if len(cells) != width:
        raise DataFileError(f"{path}, line {line}: {len(cells)} cells, the header has {width}")
    values = []
    for name, text in zip("abc", [*cells, ""][:3], strict=True):
        text = text.strip()
        if name == "c" and not text:
            values.append(-1)
            continue
        if not text.isascii() or not text.isdigit() or int(text) >= LARGEST:
            raise DataFileError(
                f"{path}, line {line}, column {name}: '{text[:20]}', expected a whole number below {LARGEST}"
            )
        values.append(int(text))
    return values


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """The known entries, a share of them held out to validate; all entries when predicting."""
    pairs, answers = read_operation(path)
    known = answers >= 0
    if saved is not None:
        if int(max(pairs.max(), answers.max())) >= saved["p"]:
            raise DataFileError(f"{path} has the element {int(pairs.max())}; the model knows 0 to {saved['p'] - 1}")
        everything = Part((pairs[known], answers[known]), int(known.sum()))
        return UserData(dict(saved), everything=everything, extra=(pairs, answers))
    pairs, answers = pairs[known], answers[known]
    if len(pairs) < 2:
        raise DataFileError(f"{path} has {len(pairs)} known entries; at least two are needed")
    p = max(3, 1 + int(max(pairs.max(), answers.max())))
    p += 1 - p % 2  # decoding into waves needs an odd number; one element more changes nothing else
    swapped = {(int(b), int(a)): int(c) for (a, b), c in zip(pairs, answers, strict=True)}
    clash = next(
        (
            i
            for i, (pair, c) in enumerate(zip(pairs.tolist(), answers.tolist(), strict=True))
            if swapped.get((pair[0], pair[1]), c) != c
        ),
        None,
    )
    if clash is not None:
        raise DataFileError(
            f"{path}: {tuple(pairs[clash].tolist())} and its swap have different answers; this network adds its two "
            "inputs and can only learn operations whose order does not matter"
        )
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(settings["seed"]))
    count = round(settings["validation"] * len(pairs))
    parts = [
        Part((pairs[rows], answers[rows]), len(rows)) if len(rows) else None for rows in (order[count:], order[:count])
    ]
    return UserData({"p": p}, train=parts[0], validation=parts[1])


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """The two-layer network of the table's elements."""
    return ModularAdditionMLP(description["p"], settings["width"], settings["activation"])


def loss(model: nn.Module, batch: Any) -> Tensor:
    """Cross-entropy."""
    pairs, answers = batch
    return F.cross_entropy(model(pairs), answers)


@torch.no_grad()
def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy."""
    pairs, answers = part.rows
    if not len(pairs):
        return {}
    device = next(model.parameters()).device
    return {"accuracy": float((model(pairs.to(device)).argmax(-1).cpu() == answers).float().mean())}


def decoding(model: ModularAdditionMLP) -> dict[str, Any]:
    """What every neuron holds: its frequency, amplitudes and phases in and out, misalignment and purity."""
    w_in, w_out = model.w_in.detach().double().cpu(), model.w_out.detach().double().cpu().T
    into, out = fourier_decode(w_in), fourier_decode(w_out)
    k, rows = dominant_frequency(into.alpha), torch.arange(model.width)
    waves = {
        "frequency": k + 1,
        "alpha": into.alpha[rows, k],
        "phi": into.phi[rows, k],
        "beta": out.alpha[rows, k],
        "psi": out.phi[rows, k],
        "misalignment": phase_misalignment(into.phi[rows, k], out.phi[rows, k]),
        "purity": inverse_participation(w_in),
    }
    return {"p": model.p, "neurons": [{n: v[i].item() for n, v in waves.items()} for i in range(model.width)]}


def pictures(model: nn.Module, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """How many neurons hold each frequency."""
    assert isinstance(model, ModularAdditionMLP)
    frequencies = [neuron["frequency"] for neuron in decoding(model)["neurons"]]
    counts = {k: frequencies.count(k) for k in sorted(set(frequencies), key=lambda k: (-frequencies.count(k), k))[:12]}
    return [
        {
            "title": "Neurons by frequency",
            "kind": "bars",
            "caption": f"The dominant wave of each of {model.width} neurons; the commonest frequencies first.",
            "labels": [f"frequency {k}" for k in counts],
            "values": list(counts.values()),
            "y_label": "neurons",
        }
    ]


def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """Write a `.csv` with a, b and the answer, and beside it the decoded waves as `.json`."""
    assert isinstance(model, ModularAdditionMLP)
    pairs, _ = data.extra
    answers = model(pairs.to(model.w_in.device)).argmax(-1).tolist()
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "c"])
        writer.writerows([a, b, c] for (a, b), c in zip(pairs.tolist(), answers, strict=True))
    waves = out.with_name(f"{out.stem}-decoding.json")
    waves.write_text(json.dumps(decoding(model), indent=1), encoding="utf-8")
    return len(answers)


recipe = Recipe(
    slug="modular_addition",
    settings=dict(
        width=256,
        activation="relu",
        validation=0.2,
        steps=2_000,
        batch_size=100_000,
        lr=1e-3,
        optimizer="adamw",
        weight_decay=1.0,
        schedule="constant",
    ),
    read=read,
    build=build,
    model=ModularAdditionMLP,
    loss=loss,
    score=score,
    predict=predict,
    pictures=pictures,
)
