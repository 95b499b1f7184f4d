"""Lazy readers of PDE data files: every layout of `field_layouts` comes out as `pde_data.Fields`.

    files = open_fields("2D_CFD_Rand.hdf5")    # or .h5 .nc .mat .npz .npy .pt, or a folder of shards
    files[[3, 17]].fields                      # (2, time, channel, x, y), read now
    files.read([3], frames=slice(0, 2))        # two frames of one sample
    files.statistics()                         # mean and standard deviation a channel, one pass, bounded memory

HDF5 is read a sample at a time, in handles of each process's own; other formats are held in memory.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paperworks.errors import DataFileError
from paperworks.training.arrays import LARGEST, check_size, read_arrays
from paperworks.training.torch_archive import read_torch_archive

from .field_layouts import SPACE, Block, recognise
from .pde_data import Fields

HDF5_KINDS, OTHER_KINDS = (".h5", ".hdf5", ".nc", ".nc4", ".mat"), (".npz", ".npy", ".mat", ".pt", ".pth")
KINDS = tuple(dict.fromkeys((*HDF5_KINDS, *OTHER_KINDS)))
LARGEST_CHUNK = 2**28  # bytes that one stored chunk may unpack to
SMALL = 2**24  # bytes of an array of positions, times or parameters


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of every channel of the fields and of the inputs, over samples, time and space."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_mean: tuple[float, ...]
    input_std: tuple[float, ...]


class FieldFile:
    """One file: its layout, its sizes, and samples when asked for.

    Attributes:
        path, layout: where, and how it is laid out.
        n, times, space: sizes; `channels` and `input_channels` how many there are.
        has_fields: False for a file with inputs alone, to predict from.
    """

    def __init__(self, path: Path | str, split: str | None = None):
        self.path = Path(path)
        self._split = split
        self._handle: tuple[int, Any, Mapping[str, Any]] | None = None
        self._memory: Mapping[str, np.ndarray] | None = None
        _check_path(self.path)
        self.hdf5 = _is_hdf5(self.path)
        self.reversed = False
        if self.hdf5:
            with _damage(self.path):
                self._open_first()
        else:
            self._memory = _read_all(self.path)
            with _damage(self.path):
                self.layout = recognise(self.path, self._memory, lambda name: {}, split)
        with _damage(self.path):
            self._measure()

    def __getstate__(self) -> dict[str, Any]:
        """Workers open the file themselves."""
        return {**vars(self), "_handle": None}

    def _open_first(self) -> None:
        arrays = self.arrays()
        file = self._handle[1]  # type: ignore[index]
        self.reversed = any("MATLAB_class" in array.attrs for array in arrays.values())
        self.reversed |= self.path.suffix.lower() == ".mat"
        seen = {name: _Reversed(array) for name, array in arrays.items()} if self.reversed else arrays
        self.layout = recognise(self.path, seen, lambda name: file[name].attrs if name in file else {}, self._split)

    def arrays(self) -> Mapping[str, Any]:
        """Data sets by name, in this process's own handle."""
        if self._memory is not None:
            return self._memory
        if self._handle is None or self._handle[0] != os.getpid():
            import h5py

            file = h5py.File(self.path, "r", rdcc_nbytes=2**25)
            found: dict[str, Any] = {}

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.shape is not None:
                    found[name] = item

            file.visititems(visit)
            self._handle = (os.getpid(), file, found)
        return self._handle[2]

    def close(self) -> None:
        """Close this process's handle; reading opens another."""
        if self._handle is not None and self._handle[0] == os.getpid():
            self._handle[1].close()
        self._handle = None

    def _stored(self, name: str) -> Any:
        array = self.arrays()[name]
        return _Reversed(array) if self.reversed else array

    def _measure(self) -> None:
        """Sizes, which all blocks must agree on."""
        layout = self.layout
        sizes: dict[str, tuple[int, str]] = {}
        blocks = [block for block in (*layout.inputs, *layout.fields) if block.present]
        self.has_fields = all(block.present for block in layout.fields)
        for block in blocks:
            name = block.name.format(layout.groups[0] if layout.groups else "")
            shape = self._check(name)
            if len(shape) != len(block.axes):
                told = _axes_told(block.axes)
                raise DataFileError(f"{self.path}: '{name}' has shape {shape}, expected ({told})")
            for letter, size in zip(block.axes, shape, strict=True):
                if letter in "cd_":
                    continue
                known = sizes.setdefault(letter, (size, name))
                if known[0] != size:
                    told = _axes_told(block.axes)
                    raise DataFileError(
                        f"{self.path}: '{name}' has shape {shape}; expected ({told}) with as many {LETTERS[letter]} as "
                        f"'{known[1]}', {known[0]}"
                    )
            count = math.prod([size for letter, size in zip(block.axes, shape, strict=True) if letter in "cd"])
            if count != len(block.channels):
                raise DataFileError(
                    f"{self.path}: '{name}' has shape {shape}; expected {len(block.channels)} channels "
                    f"({', '.join(block.channels)})"
                )
        self.n = len(layout.groups) or sizes.get("n", (1, ""))[0]
        self.times = sizes.get("t", (1, ""))[0]
        self.space = tuple(sizes[letter][0] for letter in SPACE if letter in sizes)
        if not self.space:
            raise DataFileError(f"{self.path}: no array has an axis of space; expected at least one")
        self.channels, self.input_channels = (
            tuple(name for block in part for name in block.channels) for part in (layout.fields, layout.inputs)
        )
        numbers = math.prod(self.space) * (len(self.channels) * self.times + len(self.input_channels))
        check_size(self.path, "one sample", (numbers,), np.float32)
        self.nbytes = 4 * self.n * numbers
        self._read_companions()

    def _check(self, name: str) -> tuple[int, ...]:
        """The shape of a data set whose numbers lie in this file and unpack to what memory holds."""
        array = self._stored(name)
        if array.dtype.kind not in "biuf":
            raise DataFileError(f"{self.path}: '{name}' holds {array.dtype}, expected numbers")
        if math.prod(array.shape) == 0:
            raise DataFileError(f"{self.path}: '{name}' has shape {array.shape}: there is nothing in it")
        if self.hdf5:
            stored = self.arrays()[name]
            if stored.external or stored.is_virtual:
                raise DataFileError(f"{self.path}: '{name}' lies in other files; store the numbers in this one")
            if stored.chunks and math.prod(stored.chunks) * stored.dtype.itemsize > LARGEST_CHUNK:
                raise DataFileError(
                    f"{self.path}: '{name}' is stored in chunks of {stored.chunks}, more than {LARGEST_CHUNK:,} bytes "
                    "each; write it with smaller chunks"
                )
        return tuple(int(size) for size in array.shape)

    def _read_companions(self) -> None:
        """Positions, times and parameters, with defaults where the file has none."""
        layout = self.layout
        named = layout.coords or (None,) * len(self.space)
        self.coords = tuple(
            self._small(name, size) if name else torch.arange(size, dtype=torch.float32) / size
            for name, size in zip(named, self.space, strict=True)
        )
        self.t = self._small(layout.t, self.times) if layout.t else torch.arange(self.times, dtype=torch.float32)
        self.bc = layout.bc if len(layout.bc) == len(self.space) else ("unknown",) * len(self.space)
        names, columns = [], []
        for parameter, name in layout.params:
            self._check(name)
            values = self._whole(name).reshape(self.n, -1) if self._stored(name).size % self.n == 0 else None
            whole = self._whole(name) if values is None else values
            if values is None and whole.size != 1:
                raise DataFileError(
                    f"{self.path}: '{name}' has shape {whole.shape}; expected one value for each of {self.n} samples"
                )
            column = values if values is not None else np.broadcast_to(whole.reshape(1, 1), (self.n, 1))
            names += [parameter] if column.shape[1] == 1 else [f"{parameter}{i}" for i in range(column.shape[1])]
            columns.append(torch.from_numpy(np.ascontiguousarray(column, np.float32)))
        told = layout.param_names
        self.param_names = told if len(told) == len(names) else tuple(names)
        self.params = torch.cat(columns, 1) if columns else torch.zeros(self.n, 0)
        if not torch.isfinite(self.params).all():
            raise DataFileError(f"{self.path}: '{layout.params[0][1]}' holds NaN or infinite values")

    def _whole(self, name: str) -> np.ndarray:
        array = self._stored(name)
        if math.prod(array.shape) * array.dtype.itemsize > SMALL:
            raise DataFileError(f"{self.path}: '{name}' has shape {array.shape}, too much for one value a sample")
        return np.asarray(array[()])

    def _small(self, name: str, size: int) -> Tensor:
        """The first `size` positions or times; where each sample has its own, those of the first."""
        self._check(name)
        shape = self._stored(name).shape
        values = self._whole(name)
        values = values.ravel() if 1 in shape and len(shape) == 2 else values
        values = values[0] if values.ndim == 2 else values
        if values.ndim != 1 or len(values) < size:
            raise DataFileError(f"{self.path}: '{name}' has shape {shape}, expected {size} values")
        return torch.from_numpy(np.ascontiguousarray(values[:size], np.float32))

    def sample(self, i: int, frames: slice | None = None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """One sample: fields (time, channel, *space) and inputs (channel, *space), None where there are none."""
        with _damage(self.path):
            times = range(self.times)[frames or slice(None)]
            fields = [self._part(block, i, times) for block in self.layout.fields] if self.has_fields else []
            inputs = [self._part(block, i, None) for block in self.layout.inputs]
        return (
            np.concatenate(fields, 1) if fields else None,
            np.concatenate(inputs, 0) if inputs else None,
        )

    def _part(self, block: Block, i: int, times: range | None) -> np.ndarray:
        """A block's channels of one sample, (time, channel, *space), or without time where `times` is None."""
        name = block.name.format(self.layout.groups[i] if self.layout.groups else "")
        if self.layout.groups:
            given, first = self._stored(name).shape, self._stored(block.name.format(self.layout.groups[0])).shape
            if given != first:
                raise DataFileError(f"{self.path}: '{name}' has shape {given}, expected {first} like the other samples")
        index: list[Any] = []
        for letter in block.axes:
            if letter == "n":
                index.append(i)
            elif letter == "t":
                assert times is not None
                index.append(slice(times.start, times.stop, times.step))
            else:
                index.append(0 if letter == "_" else slice(None))
        value = np.asarray(self._stored(name)[tuple(index)])
        kept = [letter for letter in block.axes if letter not in "n_"]
        order = [letter for letter in "tcd" + SPACE if letter in kept]
        value = value.transpose([kept.index(letter) for letter in order])
        dims = SPACE[: len(self.space)]
        full = [value.shape[order.index(letter)] if letter in order else 1 for letter in dims]
        count = len(block.channels)
        frames = () if times is None else (value.shape[order.index("t")] if "t" in order else 1,)
        value = value.reshape(*frames, count, *full)
        if tuple(full) != self.space:
            value = np.broadcast_to(value, (*frames, count, *self.space))
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(value, np.float32)
        if not np.isfinite(single).all():
            kind = "values beyond 3e38" if np.isfinite(value).all() else "NaN or infinite values"
            raise DataFileError(f"{self.path}: '{name}' holds {kind} in sample {i}; remove or fill that sample")
        return single


class FieldFiles:
    """Samples of one file, or of the files of a folder one after the other; see the module's example.

    Attributes:
        channel_names, input_names, param_names, coords, t, bc: as in `Fields`.
        params: (n, p).
        space, times: sizes.
        layout: of the first file.
        has_fields: whether there is anything to learn from.
        nbytes: of all samples as float32.
    """

    def __init__(self, files: Sequence[FieldFile]):
        first = files[0]
        for file in files[1:]:
            for what in ("channels", "input_channels", "space", "times", "param_names", "has_fields"):
                if getattr(file, what) != getattr(first, what):
                    raise DataFileError(
                        f"{file.path}: {what.replace('_', ' ')} {getattr(file, what)}; expected "
                        f"{getattr(first, what)} as in {first.path}"
                    )
        self.files = list(files)
        self.ends = np.cumsum([file.n for file in files])
        self.channel_names, self.input_names, self.param_names = (
            first.channels,
            first.input_channels,
            first.param_names,
        )
        self.coords, self.t, self.bc, self.space, self.times = first.coords, first.t, first.bc, first.space, first.times
        self.layout, self.has_fields, self.path = first.layout, first.has_fields, first.path
        self.params = torch.cat([file.params for file in files])
        self.nbytes = sum(file.nbytes for file in files)

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, rows: int | slice | Iterable[int]) -> Fields:
        return self.read([rows] if isinstance(rows, int) else rows)

    def read(self, rows: slice | Iterable[int], frames: slice | None = None) -> Fields:
        """These samples, all frames or some."""
        chosen = list(range(len(self))[rows]) if isinstance(rows, slice) else [int(i) for i in rows]
        times = len(range(self.times)[frames or slice(None)])
        if any(not 0 <= i < len(self) for i in chosen):
            raise IndexError(f"samples {min(chosen)} to {max(chosen)} of {len(self)}")
        channels = len(self.channel_names) if self.has_fields else 0
        size = 4 * len(chosen) * math.prod(self.space) * (channels * times + len(self.input_names))
        if size > LARGEST:
            raise DataFileError(f"{self.path}: {len(chosen)} samples take {size:,} bytes; read fewer at a time")
        fields = torch.zeros(len(chosen), times, channels, *self.space)
        inputs = torch.empty(len(chosen), len(self.input_names), *self.space) if self.input_names else None
        for place, i in enumerate(chosen):
            file, inside = self.locate(i)
            values, given = file.sample(inside, frames)
            if values is not None:
                fields[place] = torch.from_numpy(values)
            if inputs is not None and given is not None:
                inputs[place] = torch.from_numpy(given)
        return Fields(
            fields,
            self.coords,
            self.t[frames or slice(None)],
            self.params[chosen],
            self.channel_names if self.has_fields else (),
            self.bc,
            inputs,
            self.input_names,
            self.param_names,
        )

    def locate(self, i: int) -> tuple[FieldFile, int]:
        """The file that holds sample i, and its place there."""
        number = int(np.searchsorted(self.ends, i, side="right"))
        return self.files[number], i - (int(self.ends[number - 1]) if number else 0)

    def statistics(self, rows: Iterable[int] | None = None, at_most: int = 2**31) -> Statistics:
        """Means and standard deviations a channel, a sample at a time.

        Args:
            rows: samples to look at; default all.
            at_most: bytes to read; beyond, samples are taken at equal distances.
        """
        chosen = list(range(len(self)) if rows is None else rows)
        each = max(1, self.nbytes // len(self))
        stride = math.ceil(len(chosen) * each / at_most)
        parts = [_Moments(len(self.channel_names)), _Moments(len(self.input_names))]
        for i in chosen[::stride]:
            file, inside = self.locate(i)
            fields, inputs = file.sample(inside)
            if fields is not None:
                parts[0].add(fields.swapaxes(0, 1).reshape(fields.shape[1], -1))
            if inputs is not None:
                parts[1].add(inputs.reshape(len(inputs), -1))
        (mean, std), (input_mean, input_std) = (part.result() for part in parts)
        return Statistics(mean, std, input_mean, input_std)

    def close(self) -> None:
        """Close this process's handles."""
        for file in self.files:
            file.close()


class _Moments:
    """Means and squared deviations of rows of numbers, merged part by part without cancellation."""

    def __init__(self, channels: int):
        self.count, self.mean, self.squares = 0, np.zeros(channels), np.zeros(channels)

    def add(self, values: np.ndarray) -> None:
        values = values.astype(np.float64)
        count, mean = values.shape[1], values.mean(1)
        squares = ((values - mean[:, None]) ** 2).sum(1)
        total, apart = self.count + count, mean - self.mean
        self.squares += squares + apart**2 * self.count * count / total
        self.mean += apart * count / total
        self.count = total

    def result(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        deviation = np.sqrt(self.squares / max(1, self.count))
        return tuple(self.mean.tolist()), tuple(deviation.tolist())


class _Reversed:
    """A MATLAB array as MATLAB shows it: HDF5 stores its axes in reverse."""

    def __init__(self, stored: Any):
        self.stored, self.shape, self.dtype = stored, tuple(stored.shape[::-1]), stored.dtype
        self.size = stored.size

    def __getitem__(self, index: Any) -> np.ndarray:
        index = index if isinstance(index, tuple) else (index,)
        if index == ((),):
            return np.asarray(self.stored[()]).T
        return np.asarray(self.stored[index[::-1]]).T


LETTERS = {"n": "samples", "t": "times", "c": "channels", "d": "components", "x": "x", "y": "y", "z": "z", "_": "1"}


def _axes_told(axes: str) -> str:
    return ", ".join({"n": "n", "t": "time", "c": "channel", "_": "1"}.get(letter, letter) for letter in axes)


def _check_path(path: Path) -> None:
    if not path.exists():
        raise DataFileError(f"{path} does not exist")
    if path.suffix.lower() not in KINDS:
        raise DataFileError(f"{path}: expected a file ending in {', '.join(KINDS)}")
    if path.stat().st_size == 0:
        raise DataFileError(f"{path} is empty")


def _is_hdf5(path: Path) -> bool:
    import h5py

    if path.suffix.lower() not in HDF5_KINDS:
        return False
    if h5py.is_hdf5(path):
        return True
    if path.suffix.lower() == ".mat":
        return False
    with path.open("rb") as file:
        head = file.read(8)
    netcdf = " It is netCDF-3: write it again as netCDF-4." if head.startswith(b"CDF") else ""
    raise DataFileError(f"{path} is no HDF5 file, or a damaged one (it begins with {head!r}).{netcdf}")


def _read_all(path: Path) -> Mapping[str, np.ndarray]:
    kind = path.suffix.lower()
    if kind in (".pt", ".pth"):
        return read_torch_archive(path)
    if kind == ".npy":
        return {"fields": _npy(path)}
    return read_arrays(path)


def _npy(path: Path) -> np.ndarray:
    """A single array of fields, mapped from the disk and not read."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TokenError) as error:  # of a header that is no Python
        raise DataFileError(
            f"{path} is damaged, or holds Python objects, which need pickle and are never loaded: {error}"
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataFileError(f"{path} is an archive of arrays; name it .npz")
    return array


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into a message."""
    try:
        yield
    except DataFileError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataFileError(f"{path} is a damaged file: {error}; copy or write it again") from error


def open_fields(path: Path | str, split: str | None = None) -> FieldFiles:
    """Open a file, or a folder of files of one layout, without reading the fields.

    Args:
        path: .h5 .hdf5 .nc (netCDF-4) .mat .npz .npy .pt, or a folder of such files in the order of their names.
        split: the part to take where a file has several (PDEArena's groups), and of a folder the files whose names
            contain it; default all, and of groups the only one or `train`.

    Raises:
        DataFileError: missing, damaged, of no known layout, or of arrays that contradict each other.
    """
    path = Path(path)
    if not path.is_dir():
        return FieldFiles([FieldFile(path, split)])
    names = [p for p in path.iterdir() if p.suffix.lower() in KINDS and not p.name.startswith(".")]
    if split is not None and any(split in p.name for p in names):
        names = [p for p in names if split in p.name]
    if not names:
        raise DataFileError(f"{path} is a folder without a file ending in {', '.join(KINDS)}")
    natural: Callable[[Path], list[Any]] = lambda p: [  # noqa: E731
        int(part) if part.isdigit() else part for part in re.split(r"(\d+)", p.name)
    ]
    return FieldFiles([FieldFile(p, split) for p in sorted(names, key=natural)])
