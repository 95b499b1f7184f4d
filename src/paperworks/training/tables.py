"""Tables of a user: rows of numbers with a label, from CSV (comma, semicolon or tab) or NumPy's .npz.

`read_table` gives a float32 matrix and labels as text, or a message that names file, line and column.
"""

import csv
import difflib
import itertools
import math
import operator
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from paperworks.errors import DataFileError

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
DELIMITERS = ",;\t"
MISSING = {"", "?", "-", "na", "n/a", "nan", "null", "none"}
LONGEST_HEADER = 1 << 24  # characters of a CSV's first line
LARGEST_ARRAY = 2 << 30  # bytes of one array of an .npz, as its header declares them
CHUNK = 500  # rows of a CSV that are turned into numbers at once
PICKLE_FREE = (
    'data = numpy.load("FILE", allow_pickle=True)\n'
    '    numpy.savez("NEW", X=numpy.stack(data["X"]).astype("float32"), y=data["y"].astype(str))'
)


@dataclass(frozen=True)
class Table:
    """A table as read.

    Attributes:
        names: of the columns of `x`; empty when its rows are images.
        x: float32, (rows, columns) or (rows, channels, height, width); all finite.
        labels: text, one a row; None when the file has none.
        places: where a row stands in the file ("line 7", "row 6"), for messages.
        constant: names of columns that never change; they are kept, though they tell classes nothing apart.
        target: name of the column of labels.
    """

    names: list[str]
    x: np.ndarray
    labels: list[str] | None
    places: Sequence[str] = field(repr=False)
    constant: list[str] = field(default_factory=list)
    target: str = ""


def read_table(path: Path | str, target: str = "", columns: Sequence[str] | None = None) -> Table:
    """Read a table.

    Args:
        path: `.csv`, `.tsv`, `.txt` with a header line, or `.npz` with `X` and `y`.
        target: column (or array) of labels; by default the last column, or `y`.
        columns: those a model was fitted on. None: every column but the target, and labels are required. Otherwise
            these are looked up by name, others are passed over, and labels may be missing or empty.

    Raises:
        DataFileError: the file is missing, broken, or not such a table.
    """
    path = Path(path)
    if path.is_dir():
        raise DataFileError(f"{path} is a folder; give one table: {', '.join((*CSV_SUFFIXES, '.npz'))}")
    if not path.is_file():
        raise DataFileError(f"{path} is {'no regular file' if path.exists() else 'missing'}; give an existing table")
    suffix = path.suffix.lower()
    if suffix not in (*CSV_SUFFIXES, ".npz"):
        raise DataFileError(f"{path}: a table ends in {', '.join((*CSV_SUFFIXES, '.npz'))}, this in '{suffix}'")
    if path.stat().st_size == 0:
        raise DataFileError(f"{path} is empty; a header line and rows are expected")
    try:
        return (_read_npz if suffix == ".npz" else _read_csv)(path, target, columns)
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}") from error


def class_names(path: Path | str, table: Table, fewest: int = 2) -> list[str]:
    """The classes of a table in order, numbers as numbers; each must have `fewest` rows.

    Raises:
        DataFileError: one class only, or a class with fewer rows.
    """
    assert table.labels is not None
    counts = Counter(table.labels)
    if len(counts) < 2:
        raise DataFileError(f"{path}: every label is '{table.labels[0]}'; at least 2 classes are needed")
    rare = [label for label, count in counts.items() if count < fewest]
    if rare:
        place = table.places[table.labels.index(rare[0])]
        many = 2 * len(counts) > len(table.labels) and len(counts) > 2
        advice = (
            f"the target has {len(counts)} different values in {len(table.labels)} rows: name a column of classes"
            if many
            else "add rows of it or leave it out"
        )
        raise DataFileError(
            f"{path}: class '{_short(rare[0])}' ({place}) has {counts[rare[0]]} row; at least {fewest} a class are "
            f"needed; {advice}"
        )
    return sorted(counts, key=_numbers_first)


def _numbers_first(text: str) -> tuple[bool, float, str]:
    try:
        number = float(text)
    except ValueError:
        return True, 0.0, text
    return (False, number, text) if math.isfinite(number) else (True, 0.0, text)


def _short(text: str, longest: int = 40) -> str:
    return text if len(text) <= longest else text[: longest - 3] + "..."


def _listed(names: Iterable[str], most: int = 12) -> str:
    names = list(names)
    return ", ".join(_short(name) for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _nearest(name: str, names: Sequence[str]) -> str:
    folded = {other.casefold(): other for other in names}
    close = difflib.get_close_matches(name.casefold(), list(folded), 1)
    return f"did you mean '{folded[close[0]]}'? " if close else ""


def _constant(names: Sequence[str], x: np.ndarray) -> list[str]:
    return [name for name, same in zip(names, (x == x[0]).all(0), strict=True) if same] if len(x) > 1 else []


# CSV


def _read_csv(path: Path, target: str, columns: Sequence[str] | None) -> Table:
    with path.open("rb") as probe:
        beginning = probe.read(4)
    if beginning.startswith((b"PK", b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"\xff\xfe", b"\xfe\xff")):
        raise DataFileError(f"{path} is a spreadsheet, an archive or UTF-16; save it as CSV in UTF-8")
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            delimiter = _delimiter(file)
            rows = csv.reader(file, delimiter=delimiter, strict=True)
            return _parse(path, rows, delimiter, target, columns)
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path}: not UTF-8 ({error.reason}); save it as CSV in UTF-8") from error


def _delimiter(file: IO[str]) -> str:
    line = ""
    while not line.strip():
        line = file.readline(LONGEST_HEADER)
        if not line:
            break
    file.seek(0)
    outside = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=outside.count)


def _parse(path: Path, reader: Any, delimiter: str, target: str, columns: Sequence[str] | None) -> Table:
    rows = _filled(path, reader)
    header = next(rows, None)
    if header is None:
        raise DataFileError(f"{path} holds blank lines only; a header line and rows are expected")
    names = _header(path, *header)
    label = _target(path, names, target, columns)
    if columns is None:
        places = [place for place in range(len(names)) if place != label]
    else:
        absent = [name for name in columns if name not in names]
        if absent:
            raise DataFileError(
                f"{path}: no column '{_short(absent[0])}', which the model was fitted on; "
                f"{_nearest(absent[0], names)}there are {_listed(names)}"
            )
        places = [names.index(name) for name in columns]
    chosen = [names[place] for place in places]
    lines: list[int] = []
    labels: list[str] = []
    parts: list[np.ndarray] = []
    while chunk := list(itertools.islice(rows, CHUNK)):
        parts.append(_numbers(path, chunk, names, places, delimiter))
        lines += [line for line, _ in chunk]
        if label is not None:
            labels += [row[label].strip() for _, row in chunk]
    if not parts:
        raise DataFileError(f"{path}: a header line and no rows; each further line is one row")
    x = np.concatenate(parts)
    if label is not None and columns is None:
        for line, text in zip(lines, labels, strict=True):
            if text.lower() in MISSING - {"-", "none"}:
                raise DataFileError(
                    f"{path}, line {line}, column '{names[label]}': no label; fill it in or drop the line"
                )
    if label is None:
        return Table(chosen, x, None, _Lines(lines), _constant(chosen, x))
    return Table(chosen, x, labels, _Lines(lines), _constant(chosen, x), names[label])


class _Lines(Sequence[str]):
    """`line N` of each row, worded only when asked for."""

    def __init__(self, numbers: Sequence[int], word: str = "line"):
        self.numbers, self.word = numbers, word

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Any:
        return f"{self.word} {self.numbers[index]}"


def _filled(path: Path, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every line that is not blank."""
    try:
        for row in reader:
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataFileError(f"{path}, line {reader.line_num}: {error}; is a quote left open?") from error


def _header(path: Path, line: int, cells: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    if len(names) < 2:
        raise DataFileError(
            f"{path}, line {line}: one column, '{_short(names[0])}'; at least two are expected, separated by commas, "
            "semicolons or tabs"
        )
    numbers = [float(name) for name in names if _is_number(name)]
    counted = all(after == before + 1 for before, after in itertools.pairwise(numbers))  # 0, 1, 2: names by pandas
    if len(numbers) >= len(names) - 1 and not counted:
        raise DataFileError(f"{path}, line {line}: numbers ({_listed(names, 4)}); a header line with names is expected")
    if "" in names:
        raise DataFileError(
            f"{path}, line {line}: column {names.index('') + 1} has no name; name it, or leave it out (pandas writes "
            "row numbers so: to_csv(..., index=False))"
        )
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataFileError(f"{path}, line {line}: two columns are called '{_short(doubled[0])}'; rename one")
    return names


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _target(path: Path, names: Sequence[str], target: str, columns: Sequence[str] | None) -> int | None:
    if not target and columns is None:
        return len(names) - 1
    if target in names:
        return names.index(target)
    if columns is not None:
        return None
    raise DataFileError(f"{path}: no column '{target}'; {_nearest(target, names)}there are {_listed(names)}")


def _numbers(
    path: Path, chunk: Sequence[tuple[int, list[str]]], names: Sequence[str], places: Sequence[int], delimiter: str
) -> np.ndarray:
    """float32 (rows, places); the fast way first, and cell by cell only to say what is wrong."""
    for line, row in chunk:
        if len(row) != len(names):
            raise DataFileError(
                f"{path}, line {line}: {len(row)} values; the header has {len(names)} columns (quote text that holds a "
                f"{'tab' if delimiter == chr(9) else repr(delimiter)})"
            )
    pick: Callable[[Any], Any] = operator.itemgetter(*places) if len(places) > 1 else lambda row: (row[places[0]],)
    cells = itertools.chain.from_iterable(pick(row) for _, row in chunk)
    try:
        with np.errstate(over="ignore"):
            x = np.fromiter(map(float, cells), np.float64, len(chunk) * len(places)).astype(np.float32)
    except ValueError:
        x = None
    if x is not None and np.isfinite(x).all():
        return x.reshape(len(chunk), len(places))
    for line, row in chunk:
        for place in places:
            problem = _problem(row[place].strip(), delimiter)
            if problem:
                raise DataFileError(f"{path}, line {line}, column '{_short(names[place])}': {problem}")
    raise AssertionError("a chunk that is not numbers has a cell that is no number")


def _problem(text: str, delimiter: str) -> str | None:
    if text.lower() in MISSING:
        return f"missing value ({text or 'empty'}); fill it in, or drop the line or the column"
    try:
        number = float(text)
    except ValueError:
        comma = delimiter != "," and _is_number(text.replace(",", ".", 1))
        advice = "write decimals with a point" if comma else "drop the column or write it as numbers"
        return f"'{_short(text)}'; a number is expected: {advice}"
    if abs(number) < float(np.finfo(np.float32).max):
        return None
    return f"'{_short(text)}'; a finite number of at most 3e38 is expected"


# npz


def _read_npz(path: Path, target: str, columns: Sequence[str] | None) -> Table:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
            label = target or "y"
            needed = ["X", label] if columns is None or label in names else ["X"]
            for name in needed:
                if name not in names:
                    raise DataFileError(
                        f"{path}: no array '{name}'; {_nearest(name, names)}there are {_listed(names) or 'none'}; "
                        "write it with numpy.savez(FILE, X=..., y=...)"
                    )
            headers = {name: _declared(path, archive, name) for name in needed}
            _check_declared(path, headers, label)
            arrays = {name: _array(archive, name) for name in needed}
    except DataFileError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DataFileError(f"{path}: broken or no .npz file ({error}); write it again with numpy.savez") from error
    return _as_table(path, arrays["X"], arrays.get(label), label, columns)


def _declared(path: Path, archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that an array announces, before any of it is unpacked: an archive can announce what it likes."""
    info = archive.getinfo(name + ".npy")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise DataFileError(f"{path}: array '{name}' has field names; a plain array is expected")
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(file)
        begins = file.tell()
    if kind.hasobject:
        raise DataFileError(
            f"{path}: array '{name}' holds Python objects, which only pickle can read, and pickle can run any "
            f"program; if you trust the file, convert it once:\n    {PICKLE_FREE}"
        )
    count = math.prod(shape)
    if min(shape, default=1) < 0 or max(count, count * kind.itemsize) > LARGEST_ARRAY:
        raise DataFileError(f"{path}: array '{name}' announces shape {shape}; at most {LARGEST_ARRAY} bytes are read")
    if info.file_size != begins + count * kind.itemsize:
        raise DataFileError(f"{path}: array '{name}' has not the size its header announces; write the file again")
    return shape, kind


def _check_declared(path: Path, headers: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], label: str) -> None:
    shape, kind = headers["X"]
    if kind.kind not in "fiub":
        raise DataFileError(f"{path}: X is of type {kind}; numbers are expected")
    if len(shape) not in (2, 4) or math.prod(shape) == 0:
        raise DataFileError(
            f"{path}: X has shape {shape}; (rows, columns) or (rows, channels, height, width) is expected, none 0"
        )
    if label in headers:
        labels, kind = headers[label]
        if labels != shape[:1]:
            raise DataFileError(f"{path}: {label} has shape {labels} for {shape[0]} rows of X; {shape[:1]} is expected")
        if kind.kind not in "fiubUS":
            raise DataFileError(f"{path}: {label} is of type {kind}; numbers or text are expected")


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name + ".npy") as file:
        return npy.read_array(file, allow_pickle=False)


def _as_table(path: Path, x: np.ndarray, y: np.ndarray | None, target: str, columns: Sequence[str] | None) -> Table:
    with np.errstate(over="ignore"):
        x = np.ascontiguousarray(x, np.float32)
    wrong = np.argwhere(~np.isfinite(x))
    if len(wrong):
        row, *place = wrong[0].tolist()
        where = ", ".join(map(str, place))
        raise DataFileError(
            f"{path}: X[{row}, {where}] is {x[row][tuple(place)]} (counted from 0); finite numbers of at most 3e38 are "
            "expected: fill it in or drop the row"
        )
    names = [f"X[{column}]" for column in range(x.shape[1])] if x.ndim == 2 else []
    if columns is not None and x.ndim == 2 and len(names) != len(columns):
        raise DataFileError(f"{path}: X has {len(names)} columns; the model was fitted on {len(columns)}")
    chosen = names if columns is None else list(columns)
    labels = None if y is None else _texts(path, y)
    return Table(chosen, x, labels, _Lines(range(len(x)), "row"), _constant(chosen, x) if names else [], target)


def _texts(path: Path, y: np.ndarray) -> list[str]:
    """Labels as text: whole floats like the integers that they are."""
    if y.dtype.kind == "S":
        try:
            return [text.decode().strip() for text in y.tolist()]
        except UnicodeDecodeError as error:
            raise DataFileError(f"{path}: y holds bytes that are not UTF-8; write it as text") from error
    if y.dtype.kind == "f":
        if not np.isfinite(y).all():
            raise DataFileError(f"{path}: label {int((~np.isfinite(y)).argmax())} (counted from 0) is no finite number")
        if (y == np.round(y)).all() and np.abs(y).max() < 2**53:
            y = y.astype(np.int64)
    return [str(label).strip() for label in y.tolist()]
