"""Tensors out of a `.pt` file that torch.save wrote, without unpickling it.

Such a file is a zip of raw numbers and of a pickle that says which numbers make which tensor. The pickle's opcodes are
read as data: a dictionary of tensors and plain numbers is understood, every other construction is refused, nothing is
imported, called or executed.
"""

import math
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from paperworks.errors import DataFileError

from .arrays import check_size

STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
LARGEST_PICKLE = 2**20  # bytes; a dictionary of a few tensors takes hundreds
_MARK = object()


class _NotUnderstood(Exception):
    """An opcode or a construction that a dictionary of tensors does not need."""


def read_torch_archive(path: Path | str) -> dict[str, np.ndarray]:
    """All tensors and numbers of a saved dictionary, name -> array.

    Raises:
        DataFileError: missing, damaged, older than torch 1.6, or no dictionary of dense tensors and numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            record = next((name for name in members if name.endswith("/data.pkl")), None)
            if record is None:
                raise DataFileError(f"{path} is a zip file, but none that torch.save wrote: it has no data.pkl")
            if members[record].file_size > LARGEST_PICKLE:
                raise DataFileError(f"{path}: {record} is larger than a dictionary of tensors needs")
            root = record.removesuffix("data.pkl")
            if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
                raise DataFileError(f"{path} was written on a big-endian machine; save it again on this one")
            described = _described(archive.read(record))
            if not isinstance(described, dict) or "storage" in described:
                raise _NotUnderstood("it holds no dictionary")
            return {
                str(name): _array(path, archive, members, root, str(name), value)
                for name, value in described.items()
                if isinstance(value, dict | int | float)
            }
    except _NotUnderstood as error:
        raise DataFileError(
            f"{path}: {error}. Only a dictionary of dense tensors is read, since more would run code out of the file. "
            "Convert it where you trust the file:\n"
            f"  d = torch.load('{path.name}', weights_only=False)\n"
            "  numpy.savez('converted.npz', x=d['x'].numpy(), y=d['y'].numpy())"
        ) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError, IndexError) as error:
        if isinstance(error, DataFileError):
            raise
        raise DataFileError(
            f"{path} is damaged, or no file that torch.save writes since torch 1.6 ({error}); convert it with\n"
            f"  d = torch.load('{path.name}', weights_only=False)\n"
            "  numpy.savez('converted.npz', x=d['x'].numpy(), y=d['y'].numpy())"
        ) from error


def _described(pickled: bytes) -> Any:
    """What the pickle says: a dictionary of numbers and of tensors, the latter as dictionaries of their description."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def to_mark() -> list[Any]:
        at = len(stack) - 1 - stack[::-1].index(_MARK)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    def put(items: list[Any]) -> None:
        target = stack[-1]
        if not isinstance(target, dict) or "storage" in target:
            raise _NotUnderstood("an entry is set in something that is no dictionary")
        target.update(zip(items[0::2], items[1::2], strict=True))

    argument: Any
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            stack.append(_MARK)
        elif name in ("BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"):
            stack.append(argument)
        elif name in ("NEWFALSE", "NEWTRUE", "NONE"):
            stack.append({"NEWFALSE": False, "NEWTRUE": True, "NONE": None}[name])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            items = to_mark()
            stack.append(tuple(items))
        elif name == "GLOBAL":
            stack.append(f"global {argument}")
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_made(function, arguments))
        elif name == "SETITEM":
            value, key = stack.pop(), stack.pop()
            put([key, value])
        elif name == "SETITEMS":
            put(to_mark())
        else:
            raise _NotUnderstood(f"its pickle uses {name}")
    raise _NotUnderstood("its pickle has no end")


def _storage(identifier: Any) -> dict[str, Any]:
    kind, type_name, key, _, count = identifier
    dtype = STORAGES.get(str(type_name).removeprefix("global torch "))
    if kind != "storage" or dtype is None:
        raise _NotUnderstood(f"it holds numbers of the kind {str(type_name).removeprefix('global ')}")
    return {"storage": str(key), "dtype": dtype, "count": int(count)}


def _made(function: Any, arguments: Any) -> Any:
    if function == "global collections OrderedDict" and arguments in ((), ((),)):
        return {}
    if function == "global torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        return {**storage, "offset": int(offset), "shape": tuple(shape), "strides": tuple(strides)}
    raise _NotUnderstood(f"it calls {str(function).removeprefix('global ')}")


def _array(
    path: Path, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], root: str, name: str, value: Any
) -> np.ndarray:
    if not isinstance(value, dict):
        return np.asarray(value)
    if "shape" not in value:
        raise _NotUnderstood(f"'{name}' is no tensor")
    shape, strides, offset, dtype = value["shape"], value["strides"], value["offset"], np.dtype(value["dtype"])
    if not all(isinstance(size, int) and size >= 0 for size in (*shape, *strides, offset)):
        raise _NotUnderstood(f"'{name}' has a shape that is none")
    check_size(path, name, shape, dtype)
    info = members[f"{root}data/{value['storage']}"]
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != value["count"] * dtype.itemsize:
        raise DataFileError(f"{path}: '{name}' does not have the bytes that it announces")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if math.prod(shape) > value["count"] or (math.prod(shape) and last >= value["count"]):
        raise DataFileError(f"{path}: '{name}' of shape {shape} reaches beyond its {value['count']} stored numbers")
    numbers = np.frombuffer(archive.read(info), dtype.newbyteorder("<") if dtype.itemsize > 1 else dtype)[offset:]
    view = np.lib.stride_tricks.as_strided(numbers, shape, tuple(stride * dtype.itemsize for stride in strides))
    return np.array(view, dtype)
