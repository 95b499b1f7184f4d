"""Arrays of a user: .npz, HDF5 and .mat read alike; objects, damage and dishonest sizes are refused with the place."""

import struct
import zipfile

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy
from scipy.io import savemat

from paperworks.errors import DataFileError
from paperworks.training.arrays import numeric, read_arrays

VALUES = np.random.default_rng(0).normal(size=(5, 3))
SPREAD = np.arange(24).reshape(2, 3, 4)


def write(path, arrays):
    """The arrays in the format that the ending names."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".mat":
        savemat(path, arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    return path


@pytest.mark.parametrize("ending", [".npz", ".h5", ".hdf5", ".mat"])
@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "i8", "u1", "?"])
def test_every_format_gives_the_numbers_and_types_that_were_saved(tmp_path, ending, kind):
    if (ending, kind) == (".mat", "f2"):
        pytest.skip("MATLAB has no half precision")
    a, b = VALUES.astype(kind), SPREAD.astype(kind)
    found = read_arrays(write(tmp_path / f"file{ending}", {"a": a, "b": b}))
    assert set(found) == {"a", "b"}
    for value, saved in ((found["a"], a), (found["b"], b)):
        assert value.shape == saved.shape
        assert np.array_equal(value, saved)
        assert value.dtype == saved.dtype or (ending, kind) == (".mat", "?")  # logical is stored as uint8


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("packed", [True, False])
def test_npz_of_either_memory_order_packed_or_not(tmp_path, order, packed):
    (np.savez_compressed if packed else np.savez)(tmp_path / "a.npz", a=np.asarray(SPREAD, order=order))
    assert np.array_equal(read_arrays(tmp_path / "a.npz")["a"], SPREAD)


def test_hdf5_groups_become_paths_and_what_is_no_number_is_passed_over(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/first/u"] = VALUES
        file["run/note"] = "prose"
        file["dangling"] = h5py.SoftLink("/nowhere")
        file.create_dataset("packed", data=SPREAD, chunks=True, compression="gzip")
    found = read_arrays(tmp_path / "a.h5")
    assert set(found) == {"run/first/u", "packed"}
    assert np.array_equal(found["run/first/u"], VALUES)
    assert np.array_equal(found["packed"], SPREAD)


def test_mat_keeps_numbers_and_leaves_text_and_cells_out(tmp_path):
    cells = np.empty(2, object)
    cells[:] = [VALUES, SPREAD]
    savemat(tmp_path / "a.mat", {"u": VALUES, "note": "prose", "cells": cells, "record": {"x": 1.0}})
    assert set(read_arrays(tmp_path / "a.mat")) == {"u"}


def test_a_mat_of_hdf5_is_read_by_its_content(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["u"] = VALUES
    (tmp_path / "a.h5").rename(tmp_path / "a.mat")
    assert np.array_equal(read_arrays(tmp_path / "a.mat")["u"], VALUES)


@pytest.mark.parametrize(("place", "value", "told"), [(145, 8, "complex"), (176, 0, "of type 0"), (177, 1, "damaged")])
def test_a_mat_that_contradicts_itself_is_refused_and_does_not_crash_the_reader(tmp_path, place, value, told):
    """Bytes of the flags and of the type of numbers, on which scipy's reader leaves its memory."""
    path = write(tmp_path / "a.mat", {"u": VALUES})
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=told):
        read_arrays(path)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ["u", "a_long_name_of_an_array"])
def test_mats_packed_or_not_with_long_names_scalars_and_cells(tmp_path, packed, name):
    cells = np.empty(2, object)
    cells[:] = [VALUES, SPREAD]
    content = {
        name: SPREAD,
        "one": 3,
        "cells": cells,
        "note": "prose",
        "record": {"x": 1.0},
        "single": VALUES.astype("f4"),
    }
    savemat(tmp_path / "a.mat", content, do_compression=packed)
    found = read_arrays(tmp_path / "a.mat")
    assert set(found) == {name, "one", "single"}
    assert np.array_equal(found[name], SPREAD)


def test_what_matlab_writes_as_version_73_is_read_with_its_axes(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["u"] = np.ascontiguousarray(SPREAD.T)
        file["u"].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    assert np.array_equal(read_arrays(path)["u"], SPREAD)


def test_the_printed_conversion_works_as_printed(tmp_path, monkeypatch):
    """The two lines, run as they stand where the file lies, write arrays that are read."""
    ragged = np.empty(2, object)
    ragged[:] = [VALUES, SPREAD[0]]
    np.savez(tmp_path / "old.npz", X=ragged)
    with pytest.raises(DataFileError, match="'X' holds Python objects, which need pickle") as told:
        read_arrays(tmp_path / "old.npz")
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in str(told.value).splitlines()[1:]]
    assert len(lines) == 2
    exec("\n".join(lines), {"numpy": np})
    found = list(read_arrays(tmp_path / "converted.npz").values())
    assert any(np.array_equal(value, VALUES) for value in found)
    assert any(np.array_equal(value, SPREAD[0]) for value in found)


def test_nothing_in_an_object_array_is_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "a.npz", fine=VALUES, trap=np.array([Trap(), None], object))
    with pytest.raises(DataFileError, match=r"'trap' holds Python objects"):
        read_arrays(tmp_path / "a.npz")


def announce(path, shape, *, descr="<f4", content=b"\0" * 64, header_length=None):
    """An archive whose array announces a shape (or a header length) that it need not hold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("u.npy", "w") as file:
        if header_length is not None:
            file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", header_length) + content)
        else:
            npy.write_array_header_2_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
            file.write(content)
    return path


@pytest.mark.parametrize(
    ("shape", "descr", "told"),
    [
        ((2**29,), "<f4", "announces 2,147,483,648 bytes, the archive holds"),
        ((2**40, 8), "<f4", "announces"),
        ((2**31, 2**33), "<f8", "announces"),  # the product overflows 64 bits
        ((17,), "<f4", "expected 68 bytes got 64"),  # one number more than there is
    ],
)
def test_an_array_that_announces_more_than_it_holds_is_refused(tmp_path, shape, descr, told):
    with pytest.raises(DataFileError, match=told):
        read_arrays(announce(tmp_path / "a.npz", shape, descr=descr))


def test_the_same_archive_with_the_honest_shape_is_read(tmp_path):
    assert read_arrays(announce(tmp_path / "a.npz", (16,)))["u"].tolist() == [0.0] * 16


def test_a_header_of_two_gigabytes_is_refused(tmp_path):
    with pytest.raises(DataFileError, match=r"a\.npz is damaged"):
        read_arrays(announce(tmp_path / "a.npz", (), header_length=2**31 - 1))


@pytest.mark.parametrize("header", [b"{'descr': '<f4', (\n", b"{'descr': \x1a}\n", b"{}\n", b"(" * 90 + b"\n"])
def test_a_header_that_is_no_python_is_refused(tmp_path, header):
    announce(tmp_path / "a.npz", (), header_length=len(header), content=header)
    with pytest.raises(DataFileError, match=r"a\.npz is damaged"):
        read_arrays(tmp_path / "a.npz")


def test_an_archive_that_expands_a_thousandfold_is_refused(tmp_path):
    """Seventy-five megabytes of zeros packed into less than a tenth of one; the same zeros unpacked are read."""
    zeros = np.zeros((9, 2**20))
    np.savez_compressed(tmp_path / "bomb.npz", u=zeros)
    assert (tmp_path / "bomb.npz").stat().st_size < 200_000
    with pytest.raises(DataFileError, match="expand"):
        read_arrays(tmp_path / "bomb.npz")
    np.savez(tmp_path / "plain.npz", u=zeros)
    assert read_arrays(tmp_path / "plain.npz")["u"].shape == zeros.shape


def test_an_hdf5_dataset_that_stores_nothing_of_what_it_announces_is_refused(tmp_path):
    for name, shape in (("gigabytes", (2**29,)), ("petabytes", (2**25, 2**25))):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file.create_dataset("u", shape, "f4", chunks=(2**10,) * len(shape))
        with pytest.raises(DataFileError, match="'u' announces"):
            read_arrays(tmp_path / f"{name}.h5")


@pytest.mark.parametrize("ending", [".npz", ".h5", ".mat"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_torn_files_are_refused_by_name(tmp_path, ending, share):
    path = write(tmp_path / f"torn{ending}", {"u": np.random.default_rng(1).normal(size=(200, 5)), "s": VALUES})
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataFileError, match=rf"torn\{ending}"):
        read_arrays(path)


def test_flipped_bytes_are_read_or_refused_but_nothing_else(tmp_path):
    path = write(tmp_path / "a.npz", {"u": VALUES, "s": SPREAD})
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        broken = bytearray(whole)
        broken[rng.integers(len(broken))] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            read_arrays(path)
        except DataFileError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda path: path, "does not exist"),
        (lambda path: path.mkdir(), "is a folder; give one file"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_text("prose"), "damaged or no .npz"),
    ],
)
def test_what_is_no_file_of_arrays_is_refused(tmp_path, make, told):
    make(tmp_path / "a.npz")
    with pytest.raises(DataFileError, match=told):
        read_arrays(tmp_path / "a.npz")


def test_an_unknown_ending_lists_the_known_ones(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    with pytest.raises(DataFileError, match=r"\.npz, \.h5, \.hdf5, \.mat"):
        read_arrays(tmp_path / "a.xlsx")


def test_a_file_named_hdf5_that_is_none_says_how_it_begins(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"PK\x03\x04 spreadsheet")
    with pytest.raises(DataFileError, match=r"a\.h5 is no HDF5 file \(it begins with b'PK"):
        read_arrays(tmp_path / "a.h5")


# One array, checked


@pytest.mark.parametrize("kind", ["f8", "f2", "i4", "u1", "?"])
def test_numeric_gives_contiguous_float32(tmp_path, kind):
    value = np.asarray(VALUES > 0, kind).T
    found = numeric(tmp_path, {"a": value}, "a", 2)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.array_equal(found, value)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.array([[1.0, 2], [3, np.nan], [np.inf, 0]]), "'a' holds 2 NaN or infinite values, the first at record 1"),
        (np.array([[1.0, -np.inf]]), "holds 1 NaN or infinite values, the first at record 0"),
        (np.array([[1e39]]), "beyond 3e38"),
        (np.array([["x"]]), "'a' holds <U1, expected numbers"),
        (np.array([[1j]]), "'a' holds complex128, expected numbers"),
        (np.ones(3), r"'a' has shape \(3,\), expected 2 axes"),
        (np.ones((0, 3)), r"'a' has shape \(0, 3\): there is nothing in it"),
    ],
)
def test_numeric_refuses_with_the_place(tmp_path, value, told):
    with pytest.raises(DataFileError, match=told) as error:
        numeric(tmp_path / "file.npz", {"a": value}, "a", 2)
    assert "file.npz" in str(error.value)


def test_a_missing_array_is_answered_with_those_that_are_there(tmp_path):
    with pytest.raises(DataFileError, match="has no 'u'; it has 'a', 'b'"):
        numeric(tmp_path, {"a": VALUES, "b": VALUES}, "u")
    with pytest.raises(DataFileError, match="has no 'u'; it has nothing"):
        numeric(tmp_path, {}, "u")
