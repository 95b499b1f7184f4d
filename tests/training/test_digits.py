"""The IDX reader refuses what it should, by name; digits are split without overlap."""

import gzip
import struct

import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError
from paperworks.training.digits import MNIST_FILES, digits, mnist, read_idx


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()
    )


def write(root, labels=20):
    pixels = np.arange(20 * 28 * 28).reshape(20, 28, 28) % 256
    for name in MNIST_FILES:
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(gzip.compress(idx(pixels if "images" in name else np.arange(labels) % 10)))


def test_idx_round_trip_gzip_and_plain(tmp_path):
    array = np.arange(24).reshape(2, 3, 4)
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "packed").write_bytes(gzip.compress(idx(array)))
    assert np.array_equal(read_idx(tmp_path / "plain", 3), array)
    assert np.array_equal(read_idx(tmp_path / "packed", 3), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing"),
        (b"\0\0\x0d\x01" + b"\0" * 8, "IDX"),
        (idx(np.arange(4))[:-1], "3 of the 4"),
        (idx(np.arange(4)) + b"x", "more than"),
        (idx(np.zeros((2, 2))), "2 dimensions"),
        (idx(np.arange(4))[:6], "header"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "announces"),
        (gzip.compress(idx(np.arange(99)))[:-12], "truncated"),
    ],
)
def test_broken_idx_is_named(tmp_path, content, message):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=message) as caught:
        read_idx(path, 1)
    assert str(path) in str(caught.value)


def test_mnist_parts_and_wrong_count(tmp_path):
    write(tmp_path)
    split = mnist(tmp_path, n_train=10, n_val=5)
    assert [len(part.y) for part in split] == [10, 5, 20]
    assert split.train.x.shape == (10, 1, 28, 28)
    write(tmp_path, labels=19)
    with pytest.raises(DataFileError, match="19 labels for 20 images"):
        mnist(tmp_path, n_train=10, n_val=5)


def test_digits_split_is_disjoint_and_complete():
    split = digits(3)
    assert sum(len(part.y) for part in split) == 1797
    assert len(split.test.y) == 540
    shares = [part.y.bincount(minlength=10) / len(part.y) for part in split]
    assert max(float((share - shares[0]).abs().max()) for share in shares) < 0.02


def test_the_first_rows_of_a_part_keep_inputs_and_labels_together():
    part = digits(0).val
    few = part.first(7)
    assert torch.equal(few.x, part.x[:7])
    assert torch.equal(few.y, part.y[:7])
    assert len(part.first(10**6).y) == len(part.y)
