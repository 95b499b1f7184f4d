"""Tensors out of `.pt` files without unpickling: what torch.save wrote is found, everything else is refused unrun."""

import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError
from paperworks.training.torch_archive import read_torch_archive


def saved(path, content, **how):
    torch.save(content, path, **how)
    return path


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.int64, torch.uint8, torch.bool])
def test_every_kind_of_number_comes_back(tmp_path, dtype):
    x = (torch.rand(5, 4, 3) * 10).to(dtype)
    found = read_torch_archive(saved(tmp_path / "a.pt", {"x": x, "y": x[1:]}))
    assert found["x"].dtype == x.numpy().dtype
    assert np.array_equal(found["x"], x.numpy())
    assert np.array_equal(found["y"], x[1:].numpy())


def test_views_strides_and_plain_numbers(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 4)
    content = OrderedDict(
        turned=base.permute(2, 0, 1), part=base[1, ::2, 1:3], visc=0.01, count=7, empty=torch.zeros(0, 3)
    )
    found = read_torch_archive(saved(tmp_path / "a.pt", content))
    assert np.array_equal(found["turned"], base.permute(2, 0, 1).numpy())
    assert np.array_equal(found["part"], base[1, ::2, 1:3].numpy())
    assert (float(found["visc"]), int(found["count"]), found["empty"].shape) == (0.01, 7, (0, 3))


def test_what_is_no_tensor_or_number_in_the_dictionary_is_passed_over(tmp_path):
    found = read_torch_archive(saved(tmp_path / "a.pt", {"x": torch.ones(2), "note": "prose", "none": None}))
    assert set(found) == {"x"}


class Harmful:
    """Leaves a sign when it is unpickled."""

    def __init__(self, sign):
        self.sign = sign

    def __reduce__(self):
        return (Path.touch, (Path(self.sign),))


@pytest.mark.parametrize("inside", ["alone", "in the dictionary"])
def test_code_in_the_pickle_is_refused_and_not_run(tmp_path, inside):
    harm = Harmful(str(tmp_path / "sign"))
    saved(tmp_path / "a.pt", harm if inside == "alone" else {"x": torch.ones(2), "y": harm})
    with pytest.raises(DataFileError, match="Only a dictionary of dense tensors is read") as error:
        read_torch_archive(tmp_path / "a.pt")
    assert "torch.load('a.pt'" in str(error.value)
    assert not (tmp_path / "sign").exists()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (torch.ones(3), "no dictionary"),
        ([torch.ones(3)], "Only a dictionary"),
        ({"x": torch.ones(2, dtype=torch.complex64)}, "ComplexFloatStorage"),
        ({"x": torch.eye(3).to_sparse()}, "Only a dictionary"),
    ],
)
def test_other_contents_are_refused(tmp_path, content, told):
    with pytest.raises(DataFileError, match=told):
        read_torch_archive(saved(tmp_path / "a.pt", content))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = saved(tmp_path / "a.pt", {"x": torch.ones(100)})
    whole = path.read_bytes()
    old = tmp_path / "old.pt"
    torch.save({"x": torch.ones(3)}, old, _use_new_zipfile_serialization=False)
    for content, told in ((whole[:300], "damaged"), (b"text", "damaged"), (old.read_bytes(), "since torch 1.6")):
        path.write_bytes(content)
        with pytest.raises(DataFileError, match=told):
            read_torch_archive(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"")
    with pytest.raises(DataFileError, match=r"no data\.pkl"):
        read_torch_archive(path)
    with pytest.raises(DataFileError, match="does not exist"):
        read_torch_archive(tmp_path / "none.pt")


def test_shapes_beyond_what_is_stored_are_refused(tmp_path):
    """The same archive with another pickle: a tensor of more numbers than the file has."""
    path = saved(tmp_path / "a.pt", {"x": torch.ones(4)})
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    pickled = members["a/data.pkl"]
    for old, new in ((b"K\x04\x85", b"K\x09\x85"), (b"K\x01\x85", b"K\x05\x85")):  # the shape (4,), the stride (1,)
        assert old in pickled
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, pickled.replace(old, new) if name == "a/data.pkl" else content)
        with pytest.raises(DataFileError, match="reaches beyond its 4 stored numbers"):
            read_torch_archive(path)


def test_pickles_that_never_end_or_are_too_large_are_refused(tmp_path):
    for pickled, told in (
        (b"\x80\x02}", "damaged"),
        (pickle.dumps({"x": 1})[:-1], "damaged"),
        (bytes(2**21), "larger"),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", pickled)
        (tmp_path / "a.pt").write_bytes(buffer.getvalue())
        with pytest.raises(DataFileError, match=told):
            read_torch_archive(tmp_path / "a.pt")
