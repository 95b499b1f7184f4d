"""Named arrays out of a user's `.npz`, HDF5 or `.mat` file, without pickle and without trusting announced sizes."""

import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np

from paperworks.errors import DataFileError

LARGEST = 16 * 2**30  # bytes of one array
EXPANSION = 200  # times that an honest archive of more than 64 MB expands at the most; zeros alone make 1000
KINDS = (".npz", ".h5", ".hdf5", ".mat")


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """All numeric arrays in a file, name -> array.

    Raises:
        DataFileError: missing, not of these kinds, damaged, larger than it should be, or made of Python objects.
    """
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path} does not exist")
    if path.is_dir():
        raise DataFileError(f"{path} is a folder; give one file ({', '.join(KINDS)})")
    if path.suffix.lower() not in KINDS:
        raise DataFileError(f"{path}: expected a file ending in {', '.join(KINDS)}")
    if path.stat().st_size == 0:
        raise DataFileError(f"{path} is empty")
    with path.open("rb") as file:
        head = file.read(8)
    if path.suffix.lower() == ".npz":
        return _npz(path)
    if head.startswith(b"\x89HDF"):
        return _hdf5(path)
    if path.suffix.lower() == ".mat":
        return _hdf5(path) if head.startswith(b"MATLAB 7") and _holds_hdf5(path) else _mat(path)
    raise DataFileError(f"{path} is no HDF5 file (it begins with {head!r})")


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size, stored = sum(info.file_size for info in members), sum(info.compress_size for info in members)
            if size > 2**26 and size > EXPANSION * max(1, stored):
                raise DataFileError(
                    f"{path} holds {stored:,} bytes that expand to {size:,}; those are no honest arrays"
                )
            return {info.filename.removesuffix(".npy"): _npy(path, archive, info) for info in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, TokenError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{path} is damaged or no .npz file: {error}; write it again with numpy.savez") from error


def _npy(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise DataFileError(f"{path}: '{name}' has the unknown format version {version}")
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    if dtype.hasobject:
        raise DataFileError(
            f"{path}: '{name}' holds Python objects, which need pickle and are never loaded. Convert it where you "
            f"trust the file:\n  a = numpy.load('{path.name}', allow_pickle=True)['{name}']\n"
            f"  numpy.savez('converted.npz', **{{f'{name}{{i}}': numpy.asarray(x, float) for i, x in enumerate(a)}})"
        )
    check_size(path, name, shape, dtype)
    announced = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if announced > info.file_size:
        raise DataFileError(
            f"{path}: '{name}' announces {announced:,} bytes, the archive holds {info.file_size:,}; that is no honest "
            "array"
        )
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)  # type: ignore[no-any-return]


def check_size(path: Path, name: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse an array that could not be held in memory."""
    size = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    if size > LARGEST:
        raise DataFileError(f"{path}: '{name}' announces {size:,} bytes (shape {shape}); at most {LARGEST:,} are read")


def _holds_hdf5(path: Path) -> bool:
    """Whether HDF5 follows the 512 bytes that MATLAB puts before it (its format 7.3)."""
    import h5py

    return bool(h5py.is_hdf5(path))


def _hdf5(path: Path) -> dict[str, np.ndarray]:
    import h5py

    found: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
                    check_size(path, name, item.shape, item.dtype)
                    if item.external or item.is_virtual:
                        raise DataFileError(f"{path}: '{name}' lies in other files; store the numbers in this one")
                    stored = item.id.get_storage_size()
                    if item.nbytes > 2**26 and item.nbytes > EXPANSION * max(1, stored):
                        raise DataFileError(f"{path}: '{name}' announces {item.nbytes:,} bytes but stores {stored:,}")
                    # MATLAB stores its arrays with their axes in reverse
                    found[name] = np.asarray(item[()]).T if "MATLAB_class" in item.attrs else item[()]

            file.visititems(visit)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(f"{path} is a damaged HDF5 file: {error}; copy or write it again") from error
    return found


MATLAB_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of a number by its type's code


def _check_matlab5(path: Path) -> None:
    """Refuse a version 5 file whose numeric arrays contradict their headers, on which scipy's reader would crash."""
    with path.open("rb") as file:
        head = file.read(128)
        if not head.startswith(b"MATLAB 5.0") or head[126:128] not in (b"IM", b"MI"):
            return
        order = "<" if head[126:128] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            kind, size = struct.unpack(f"{order}2I", tag)
            after = file.tell() + size
            start = file.read(min(size, 4096))
            if kind == 15:
                start = zlib.decompressobj().decompress(start, 4096)
                kind, start = struct.unpack(f"{order}I", start[:4])[0], start[8:]
            if kind == 14:
                _check_matrix(path, start, order)
            file.seek(after)


def _check_matrix(path: Path, content: bytes, order: str) -> None:
    place, flags, parts = 0, 0, []
    for _ in range(4):  # flags, sizes, name, numbers
        kind, size = struct.unpack_from(f"{order}2I", content, place)
        if kind >> 16:  # the short form: a number of at most four bytes beside its tag
            kind, size, begins, place = kind & 0xFFFF, kind >> 16, place + 4, place + 8
        else:
            begins, place = place + 8, place + 8 + -(-size // 8) * 8
        parts.append((kind, size, content[begins : begins + size]))
        if len(parts) == 1:
            (flags,) = struct.unpack_from(f"{order}I", parts[0][2])
            if not 6 <= flags & 0xFF <= 15:  # a cell, a structure or text, which nobody asks for
                return
    (_, _, sizes), (kind, size, _) = parts[1], parts[3]
    name = parts[2][2].decode("latin-1")
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes)
    if flags & 0x800:
        raise DataFileError(f"{path}: '{name}' holds complex numbers, expected real ones")
    if kind not in MATLAB_SIZES or size != math.prod(shape) * MATLAB_SIZES[kind]:
        raise DataFileError(
            f"{path} is damaged: '{name}' of shape {shape} has {size:,} bytes of numbers of type {kind}"
        )


def _mat(path: Path) -> dict[str, np.ndarray]:
    from scipy.io import loadmat, whosmat

    try:
        _check_matlab5(path)
        kinds = {"double": 8, "single": 4, "logical": 1} | {
            f"{u}int{n}": n // 8 for u in ("", "u") for n in (8, 16, 32, 64)
        }
        found = {name: math.prod(shape) * kinds[kind] for name, shape, kind in whosmat(path) if kind in kinds}
        size, stored = sum(found.values()), path.stat().st_size
        if size > LARGEST or (size > 2**26 and size > EXPANSION * stored):
            raise DataFileError(
                f"{path} holds {stored:,} bytes and announces arrays of {size:,}; that is no honest file"
            )
        loaded = loadmat(path, variable_names=list(found))
    except DataFileError:
        raise
    except Exception as error:  # scipy raises many kinds on damaged files
        raise DataFileError(f"{path} is damaged or no .mat file: {error}") from error
    return {
        k: v
        for k, v in loaded.items()
        if not k.startswith("_") and isinstance(v, np.ndarray) and v.dtype.kind in "biuf"
    }


def numeric(path: Path, arrays: Mapping[str, np.ndarray], name: str, ndim: int | None = None) -> np.ndarray:
    """One array as float32: there, of numbers, of `ndim` axes, without NaN.

    Raises:
        DataFileError: says which of these it is not, and where.
    """
    if name not in arrays:
        raise DataFileError(f"{path} has no '{name}'; it has {', '.join(map(repr, arrays)) or 'nothing'}")
    value = arrays[name]
    if value.dtype.kind not in "biuf":
        raise DataFileError(f"{path}: '{name}' holds {value.dtype}, expected numbers")
    if ndim is not None and value.ndim != ndim:
        raise DataFileError(f"{path}: '{name}' has shape {value.shape}, expected {ndim} axes")
    if value.size == 0:
        raise DataFileError(f"{path}: '{name}' has shape {value.shape}: there is nothing in it")
    bad = np.argwhere(~np.isfinite(value)) if value.dtype.kind == "f" else np.empty((0, 1))
    if len(bad):
        raise DataFileError(
            f"{path}: '{name}' holds {len(bad)} NaN or infinite values, the first at record {int(bad[0][0])}; "
            "remove or fill those records"
        )
    if value.dtype.kind == "f" and np.abs(value).max() > np.finfo(np.float32).max:
        raise DataFileError(f"{path}: '{name}' holds values beyond 3e38; give it in other units")
    return np.ascontiguousarray(value, dtype=np.float32)
