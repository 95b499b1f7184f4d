"""Handwritten digits that several fields classify: scikit-learn's (embedded) and MNIST in its own IDX files."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from paperworks.errors import DataFileError

MNIST_FILES = (
    "mnist/train-images-idx3-ubyte.gz",
    "mnist/train-labels-idx1-ubyte.gz",
    "mnist/t10k-images-idx3-ubyte.gz",
    "mnist/t10k-labels-idx1-ubyte.gz",
)
UNSIGNED_BYTE = 0x08
LARGEST_IDX = 1 << 30  # bytes; MNIST's largest file has 47 million


class Rows(NamedTuple):
    """Inputs (rows, ...) as float32 and labels (rows,) as int64."""

    x: Tensor
    y: Tensor

    def first(self, n: int) -> "Rows":
        """The first n rows, or all if there are fewer."""
        return Rows(self.x[:n], self.y[:n])


class Split(NamedTuple):
    """Parts to train on, to tune on and to report."""

    train: Rows
    val: Rows
    test: Rows


def digits(seed: int = 0, image: bool = False) -> Split:
    """scikit-learn's 1,797 digits of 8 x 8 pixels in [0, 1]; stratified 60 / 10 / 30 %, a new split each seed.

    x is (rows, 64), or (rows, 1, 8, 8) if `image`.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    order = np.arange(len(labels))
    rest, test = train_test_split(order, test_size=0.3, stratify=labels, random_state=seed)
    train, val = train_test_split(rest, test_size=1 / 7, stratify=labels[rest], random_state=seed)
    x, y = torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)
    if image:
        x = x.reshape(-1, 1, 8, 8)
    return Split(*(Rows(x[rows], y[rows]) for rows in (train, val, test)))


def mnist(root: Path | str, seed: int = 0, n_train: int | None = None, n_val: int = 5_000) -> Split:
    """MNIST from `root`/mnist/*.gz: x (rows, 1, 28, 28) in [0, 1]; `n_val` of the training rows are set aside.

    Raises:
        DataFileError: a file is missing, truncated, not IDX of the right kind, or the counts differ.
    """
    x, y, x_test, y_test = (read_idx(Path(root) / name, 3 if "images" in name else 1) for name in MNIST_FILES)
    for images, labels, name in ((x, y, MNIST_FILES[1]), (x_test, y_test, MNIST_FILES[3])):
        if len(images) != len(labels):
            raise DataFileError(f"{Path(root) / name}: {len(labels)} labels for {len(images)} images")
        if len(labels) and labels.max() > 9:
            raise DataFileError(f"{Path(root) / name}: label {labels.max()}; digits from 0 to 9 expected")
    needed = n_val + (n_train or 1)
    if len(x) < needed:
        raise DataFileError(f"{Path(root) / MNIST_FILES[0]}: {len(x)} images; the study needs {needed}")
    order = np.random.default_rng(seed).permutation(len(x))
    stop = None if n_train is None else n_val + n_train
    parts = [(x, y, order[n_val:stop]), (x, y, order[:n_val]), (x_test, y_test, slice(None))]
    return Split(*(_rows(images[rows], labels[rows]) for images, labels, rows in parts))


def _rows(images: np.ndarray, labels: np.ndarray) -> Rows:
    return Rows(torch.tensor(images, dtype=torch.float32)[:, None] / 255, torch.tensor(labels, dtype=torch.int64))


def read_idx(path: Path | str, dims: int | None = None) -> np.ndarray:
    """An array of unsigned bytes in the IDX format of MNIST, gzip-compressed or plain.

    The header is two zero bytes, the type (8), the number of dimensions, then each size as a big-endian 32-bit integer.

    Raises:
        DataFileError: the file is missing, not IDX, of other dimensions than `dims`, or its length is not what it says.
    """
    path = Path(path)
    if not path.is_file():
        raise DataFileError(f"{path} is missing; download MNIST's IDX file there or point --data to where it is")
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] != UNSIGNED_BYTE:
                raise DataFileError(
                    f"{path}: begins with {magic.hex() or 'nothing'}; IDX of unsigned bytes begins 000008"
                )
            if dims is not None and magic[3] != dims:
                raise DataFileError(f"{path}: {magic[3]} dimensions; {dims} expected (images and labels swapped?)")
            header = file.read(4 * magic[3])
            if len(header) < 4 * magic[3]:
                raise DataFileError(f"{path}: ends inside its header; download it again")
            shape = struct.unpack(f">{magic[3]}I", header)
            size = math.prod(shape)
            if size > LARGEST_IDX:
                raise DataFileError(f"{path}: its header announces {size} bytes; at most {LARGEST_IDX} are read")
            content = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{path}: broken or truncated ({error}); download it again") from error
    if len(content) != size:
        relation = "more than" if len(content) > size else f"{len(content)} of"
        raise DataFileError(f"{path}: holds {relation} the {size} bytes that its header announces; download it again")
    return np.frombuffer(content, np.uint8).reshape(shape)
