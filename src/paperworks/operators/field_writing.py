"""PDE data written to files: the package's own layout, or that of the file which a prediction was made for."""

import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from paperworks.errors import DataFileError

from .field_files import FieldFile, FieldFiles
from .field_layouts import SPACE, Block
from .pde_data import Fields

HDF5_KINDS, KINDS = (".h5", ".hdf5"), (".npz", ".h5", ".hdf5")


def save_fields(data: Fields, path: Path | str) -> None:
    """Write samples in the package's layout: `fields`, `t`, `coords0`..., `params`, names, and `inputs` if any.

    Args:
        data: what to write.
        path: .npz, .h5 or .hdf5.
    """
    path = Path(path)
    _check_ending(path)
    arrays = _companions(data.coords, data.t, data.params, data.bc, data.param_names)
    arrays |= {"fields": data.fields.numpy(), "channel_names": np.array(data.channel_names)}
    if data.inputs is not None:
        arrays |= {"inputs": data.inputs.numpy(), "input_names": np.array(data.input_names)}
    with _whole(path) as beside:
        _write(beside, arrays)


def _companions(
    coords: Iterable[Tensor], t: Tensor, params: Tensor, bc: Iterable[str], param_names: Iterable[str]
) -> dict[str, np.ndarray]:
    arrays = {f"coords{i}": axis.numpy() for i, axis in enumerate(coords)}
    names = {"bc": np.array(list(bc), dtype=str), "param_names": np.array(list(param_names), dtype=str)}
    return {**arrays, "t": t.numpy(), "params": params.numpy(), **names}


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if path.suffix == ".npz":
        np.savez(path, **arrays)  # type: ignore[arg-type]
        return
    import h5py

    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file[name] = [str(item) for item in value] if value.dtype.kind == "U" and value.size else _no_text(value)


def _no_text(value: np.ndarray) -> np.ndarray:
    return np.zeros(0, np.float32) if value.dtype.kind == "U" else value


def write_predictions(
    out: Path, files: FieldFiles, chunks: Iterable[Tensor], times: int, channel_names: tuple[str, ...]
) -> int:
    """Predicted fields in the layout of the file that they were made for, with all else that this file holds.

    A single HDF5 file predicted to .h5, or any other predicted to .npz, keeps its data sets' names and axes; everything
    else comes out in the package's layout.

    Args:
        out: .npz, .h5 or .hdf5.
        files: the source.
        chunks: (some, times, channel, *space) of all samples in order.
        times: frames of the prediction.
        channel_names: of the prediction.

    Returns:
        How many samples were written.
    """
    _check_ending(out)
    hdf5 = out.suffix in HDF5_KINDS
    alike = len(files.files) == 1 and files.files[0].hdf5 == hdf5 and times == files.times
    with _whole(out) as beside:
        if hdf5:
            return _hdf5(beside, files, chunks, times, channel_names, alike)
        predicted = np.concatenate([chunk.numpy() for chunk in chunks])
        if alike:
            source = files.files[0]
            skipped = {block.name for block in source.layout.fields}
            arrays = {name: value for name, value in source.arrays().items() if name not in skipped}
            for block, part in _parts(source, predicted, channel_names):
                arrays[block.name] = _stored_axes(part, block, source)
        else:
            arrays = {**_package_layout(files, times), "channel_names": np.array(channel_names), "fields": predicted}
        _write(beside, arrays)
        return len(predicted)


def _package_layout(files: FieldFiles, times: int) -> dict[str, np.ndarray]:
    t = files.t if len(files.t) == times else files.t.new_tensor(range(times))
    return _companions(files.coords, t, files.params, files.bc, files.param_names)


def _hdf5(
    path: Path, files: FieldFiles, chunks: Iterable[Tensor], times: int, channel_names: tuple[str, ...], alike: bool
) -> int:
    import h5py

    source, n, written, whole = files.files[0], len(files), 0, None
    with h5py.File(path, "w") as file:
        if alike:
            _copy_all_but(source, file)
        else:
            for name, value in _package_layout(files, times).items():
                file[name] = (
                    [str(item) for item in value] if value.dtype.kind == "U" and value.size else _no_text(value)
                )
            file["channel_names"] = list(channel_names)
            whole = file.create_dataset("fields", (n, times, len(channel_names), *files.space), "f4")
        for chunk in chunks:
            values = chunk.numpy()
            if whole is not None:
                whole[written : written + len(values)] = values
            else:
                for block, part in _parts(source, values, channel_names):
                    _put(file, block, source, part, written, n)
            written += len(values)
    return written


def _copy_all_but(source: FieldFile, target: Any) -> None:
    """Everything of a file, attributes too, but the data sets of its fields."""
    arrays, layout = source.arrays(), source.layout
    skipped = {block.name.format(group) for block in layout.fields for group in layout.groups or ("",)}
    file = next(iter(arrays.values())).file
    target.attrs.update(dict(file.attrs))

    def visit(name: str, item: Any) -> None:
        if name in arrays and name not in skipped:
            if not item.external and not item.is_virtual:
                file.copy(item, target, name=name)
        elif name not in arrays:
            target.require_group(name).attrs.update(dict(item.attrs))

    file.visititems(visit)


def _parts(source: FieldFile, values: np.ndarray, names: tuple[str, ...]) -> Iterable[tuple[Block, np.ndarray]]:
    """The channels of each block of the source's fields; a file without them gets one block that holds all."""
    blocks = source.layout.fields
    if sum(len(block.channels) for block in blocks) != len(names):
        axes = blocks[0].axes.replace("c", "").replace("_", "")
        blocks = (Block(blocks[0].name, axes.replace("x", "cx", 1), names),)
    start = 0
    for block in blocks:
        yield block, values[:, :, start : start + len(block.channels)]
        start += len(block.channels)


def _stored_axes(part: np.ndarray, block: Block, source: FieldFile) -> np.ndarray:
    """(n, time, channel, *space) as the block stores it; axes that the block does not have are dropped."""
    dims = SPACE[: part.ndim - 3]
    letters = ["n", "t", "c", *dims]
    if "d" in block.axes:  # a tensor's two component axes
        side = math.isqrt(part.shape[2])
        part, letters = part.reshape(*part.shape[:2], side, side, *part.shape[3:]), ["n", "t", "c", "d", *dims]
    for letter in [letter for letter in letters if letter not in block.axes]:
        part, at = part.take(0, axis=letters.index(letter)), letters.index(letter)
        letters.pop(at)
    part = part.transpose([letters.index(letter) for letter in block.axes if letter != "_"])
    if "_" in block.axes:
        part = np.expand_dims(part, block.axes.index("_"))
    return part


def _put(file: Any, block: Block, source: FieldFile, part: np.ndarray, start: int, n: int) -> None:
    groups = source.layout.groups
    if groups:
        for i, sample in enumerate(part):
            stored = _stored_axes(sample[None], Block(block.name, "n" + block.axes, block.channels), source)[0]
            file.create_dataset(block.name.format(groups[start + i]), data=stored)
        return
    stored = _stored_axes(part, block, source)
    axis = block.axes.find("n")
    if source.reversed:
        stored = stored.T
        axis = stored.ndim - 1 - axis if axis >= 0 else -1
    if block.name not in file:
        shape = list(stored.shape)
        if axis >= 0:
            shape[axis] = n
        created = file.create_dataset(block.name, tuple(shape), "f4")
        if block.present:
            created.attrs.update(dict(source.arrays()[block.name].attrs))
    index: list[Any] = [slice(None)] * stored.ndim
    if axis >= 0:
        index[axis] = slice(start, start + stored.shape[axis])
    file[block.name][tuple(index)] = stored


def _check_ending(path: Path) -> None:
    if path.suffix not in KINDS:
        raise DataFileError(f"{path}: fields go to a file ending in {', '.join(KINDS)}")


@contextmanager
def _whole(path: Path) -> Any:
    """A file beside `path` that takes its place when it is finished."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
