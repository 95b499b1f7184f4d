"""The authors' text files: `.dat` (items), `.net` and `.sol` (a network with weights), `.wth` (widths)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from paperworks.errors import DataFileError

from .wiring import Wiring

LARGEST = 1 << 30  # bytes of a file
BOOLEAN, ANALOG, ONE_HOT = 2, 0, 1


@dataclass(frozen=True)
class Items:
    """What a `.dat` file holds.

    Attributes:
        inputs: (items, inputs): bits, or numbers in [0, 1]; None where inputs are to be generated.
        outputs: (items, outputs) bits, or (items,) classes.
        input_kind: `boolean` or `analog`; of generated inputs `boolean` (signs) or `one_hot`.
        n_classes: 0 where outputs are bits.
    """

    inputs: np.ndarray | None
    outputs: np.ndarray
    input_kind: str
    n_classes: int


KINDS = {BOOLEAN: "boolean", ANALOG: "analog", ONE_HOT: "one_hot"}


def _numbers(path: Path, kind: str) -> np.ndarray:
    if not path.is_file():
        raise DataFileError(f"{path} is {'no regular file' if path.exists() else 'missing'}; give a .{kind} file")
    if path.stat().st_size > LARGEST:
        raise DataFileError(f"{path} is larger than {LARGEST:,} bytes")
    try:
        words = path.read_text(encoding="ascii").split()
        numbers = np.array(words, dtype=np.float64)
    except (UnicodeDecodeError, ValueError) as error:
        raise DataFileError(f"{path} is no .{kind} file: {str(error).splitlines()[0]}") from error
    if not np.isfinite(numbers).all():
        raise DataFileError(f"{path}: a .{kind} file holds finite numbers")
    return numbers


def _whole(path: Path, numbers: np.ndarray, what: str) -> list[int]:
    if (numbers != np.round(numbers)).any() or (numbers < 0).any() or (numbers > 2**31).any():
        raise DataFileError(f"{path}: {what} must be whole numbers from 0")
    return [int(number) for number in numbers]


def read_dat(path: Path | str) -> Items:
    """Items: their number, type and number of inputs, type and number of outputs, then item after item.

    Raises:
        DataFileError: missing, no such file, or other numbers of values than its head announces.
    """
    path = Path(path)
    numbers = _numbers(path, "dat")
    if len(numbers) < 5:
        raise DataFileError(f"{path}: five numbers are expected first: items, type and number of inputs and of outputs")
    count, kind_in, n_in, kind_out, n_out = _whole(path, numbers[:5], "the head's numbers")
    if kind_in not in KINDS or (kind_in == ONE_HOT and n_in):
        raise DataFileError(f"{path}: inputs of type {kind_in}; 2 (bits), 0 (in [0, 1]), or 1 (one-hot, with number 0)")
    if kind_out < 2 or (kind_out > 2 and n_out != 1):
        raise DataFileError(f"{path}: outputs of type {kind_out}, {n_out}; 2 (bits), or k > 2 classes with number 1")
    if len(numbers) - 5 != count * (n_in + n_out) or count < 1 or n_out < 1:
        raise DataFileError(
            f"{path}: {len(numbers) - 5:,} values after the head; {count:,} items of {n_in} + {n_out} are announced"
        )
    table = numbers[5:].reshape(count, n_in + n_out)
    x, y = table[:, :n_in], table[:, n_in:]
    highest = 1 if kind_out == BOOLEAN else kind_out - 1
    if (kind_in == BOOLEAN and not np.isin(x, (0, 1)).all()) or ((x < 0) | (x > 1)).any():
        raise DataFileError(f"{path}: inputs must be {'0 or 1' if kind_in == BOOLEAN else 'from 0 to 1'}")
    if (y != np.round(y)).any() or (y < 0).any() or (y > highest).any():
        raise DataFileError(f"{path}: outputs must be whole numbers from 0 to {highest}")
    outputs = y.astype(np.int64) if kind_out == BOOLEAN else y[:, 0].astype(np.int64)
    return Items(x if n_in else None, outputs, KINDS[kind_in], 0 if kind_out == BOOLEAN else kind_out)


def write_dat(path: Path | str, items: Items) -> None:
    """What `read_dat` reads."""
    code = next(number for number, name in KINDS.items() if name == items.input_kind)
    n_in = 0 if items.inputs is None else items.inputs.shape[1]
    outputs = items.outputs[:, None] if items.n_classes else items.outputs
    n_out = outputs.shape[1]
    lines = [str(len(outputs)), f"{code} {n_in}", f"{items.n_classes or BOOLEAN} {n_out}", ""]
    for row, out in enumerate(outputs):
        if items.inputs is not None:
            lines.append(" ".join(repr(float(value)).removesuffix(".0") for value in items.inputs[row]))
        lines += [" ".join(str(int(value)) for value in out), ""]
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def read_net(path: Path | str) -> tuple[Wiring, np.ndarray]:
    """A network (`.net`, or the trained `.sol`): its wiring and its weights (edges,).

    Raises:
        DataFileError: missing, no such file, or a graph that is no such network.
    """
    path = Path(path)
    numbers = _numbers(path, "net")
    if len(numbers) < 4:
        raise DataFileError(f"{path}: four numbers are expected first: nodes, inputs + 1, outputs, edges")
    n_nodes, n_in, n_out, n_edges = _whole(path, numbers[:4], "the head's numbers")
    if len(numbers) != 4 + 3 * n_edges:
        raise DataFileError(f"{path}: {n_edges:,} edges are announced, {(len(numbers) - 4) / 3:,.2f} follow")
    table = numbers[4:].reshape(n_edges, 3)
    receivers, senders = (_whole(path, table[:, column], "nodes") for column in (0, 1))
    try:
        wiring = Wiring(n_nodes, n_in - 1, n_out, tuple(zip(receivers, senders, strict=True)))
    except ValueError as error:
        raise DataFileError(f"{path}: {error}") from error
    return wiring, table[:, 2].copy()


def write_net(path: Path | str, wiring: Wiring, weights: Sequence[float] | np.ndarray | None = None) -> None:
    """What `read_net` and the authors' programs read; weights are 0 if not given."""
    values = [0.0] * len(wiring.edges) if weights is None else [float(weight) for weight in weights]
    lines = [f"{wiring.n_nodes}  {1 + wiring.n_inputs}  {wiring.n_outputs}  {len(wiring.edges)}"]
    lines += [f"{r:5d} {s:5d} {w:14.8f}" for (r, s), w in zip(wiring.edges, values, strict=True)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="ascii")


def read_wth(path: Path | str) -> list[int]:
    """Widths of a layered network, inputs to outputs; the file begins with the number of layers that compute.

    Raises:
        DataFileError: missing, or not such a file.
    """
    path = Path(path)
    widths = _whole(path, _numbers(path, "wth"), "widths")
    if len(widths) < 3 or widths[0] != len(widths) - 2 or min(widths) < 1:
        raise DataFileError(f"{path}: a number n of layers and n + 1 widths are expected")
    return widths[1:]


def write_wth(path: Path | str, widths: Sequence[int]) -> None:
    """What `read_wth` reads."""
    Path(path).write_text(f"{len(widths) - 1}\n{' '.join(map(str, widths))}\n", encoding="ascii")
