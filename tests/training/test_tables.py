"""Tables of a user: what is read, and that every refusal names the place and the way out."""

import io
import zipfile

import numpy as np
import pytest
from numpy.lib import format as npy

from paperworks.errors import DataFileError
from paperworks.training.tables import class_names, read_table

ROWS = "length,width,species\n1.5,2,cat\n-3e2,4,dog\n"


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_delimiters_line_ends_and_byte_order_marks_read_alike(write, delimiter, newline, mark):
    table = read_table(write(mark + ROWS.replace(",", delimiter).replace("\n", newline)))
    assert table.names == ["length", "width"]
    assert table.target == "species"
    assert table.labels == ["cat", "dog"]
    assert table.x.dtype == np.float32
    assert np.array_equal(table.x, np.float32([[1.5, 2], [-300, 4]]))


def test_target_is_found_by_name_and_quoted_cells_keep_their_delimiters(write):
    table = read_table(write('name,a\n"big, old",1\n\n"he said ""no""",2\n'), target="name")
    assert table.labels == ["big, old", 'he said "no"']
    assert table.x[:, 0].tolist() == [1, 2]
    assert list(table.places) == ["line 2", "line 4"]


def test_numbers_as_column_names_are_those_of_pandas(write):
    assert read_table(write("0,1,2,label\n5,6,7,a\n")).names == ["0", "1", "2"]


def test_chunks_join_in_order(write):
    count = 1203  # more than two chunks
    table = read_table(write("a,b,y\n" + "".join(f"{i},{-i},c{i % 2}\n" for i in range(count))))
    assert np.array_equal(table.x, np.stack([np.arange(count), -np.arange(count)], 1))
    assert table.labels == [f"c{i % 2}" for i in range(count)]


def test_constant_columns_are_kept_and_named(write):
    table = read_table(write("a,b,y\n1,2,u\n1,3,v\n"))
    assert table.constant == ["a"]
    assert table.x.shape == (2, 2)


def test_columns_of_a_fitted_model_are_looked_up_by_name(write):
    table = read_table(write("note,width,length\nhello,2,1.5\n"), "species", ["length", "width"])
    assert table.x.tolist() == [[1.5, 2]]
    assert table.labels is None
    with pytest.raises(DataFileError, match=r"no column 'height'.*did you mean 'Height'"):
        read_table(write("Height,y\n1,2\n"), "y", ["height"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "blank lines only"),
        ("a,y\n", "no rows"),
        ("a\n1\n", "line 1: one column"),
        ("5.1,3.5,1.4,0.2,setosa\n", "line 1: numbers.*header"),
        ("5.1,3.5,7\n", "line 1: numbers.*header"),
        (",a,y\n0,1,u\n", "column 1 has no name.*index=False"),
        ("a,a,y\n0,1,u\n", "two columns are called 'a'"),
        ("a,b,y\n1,2,u\n1,u\n", "line 3: 2 values; the header has 3"),
        ("a,b,y\n1,2,u\n1,2,3,u\n", "line 3: 4 values; the header has 3"),
        ("a,b,y\n1,2,u\n1,red,u\n", "line 3, column 'b': 'red'; a number is expected"),
        ("a;b;y\n1;2,5;u\n", "line 2, column 'b': '2,5'.*decimals with a point"),
        ("a,b,y\n1,2,u\n1,,u\n", r"line 3, column 'b': missing value \(empty\)"),
        ("a,b,y\n1,NaN,u\n", r"line 2, column 'b': missing value \(NaN\)"),
        ("a,b,y\n1,inf,u\n", "line 2, column 'b': 'inf'; a finite number"),
        ("a,b,y\n1,1e39,u\n", "line 2, column 'b': '1e39'; a finite number"),
        ("a,y\n1,u\n2,\n", "line 3, column 'y': no label"),
        ('a,y\n1,"u\n2,v\n', "line 3: .*quote"),
        (b"a,y\n1,caf\xe9\n", "not UTF-8"),
        (b"PK\x03\x04rest of a spreadsheet", "spreadsheet"),
    ],
)
def test_broken_csv_is_refused_with_its_place(write, content, message):
    path = write(content)
    with pytest.raises(DataFileError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value)


def test_a_wrong_target_is_answered_with_the_nearest(write):
    with pytest.raises(DataFileError, match="no column 'specis'; did you mean 'species'"):
        read_table(write(ROWS), "specis")


def test_what_is_no_file_or_no_table_is_refused(tmp_path, write):
    with pytest.raises(DataFileError, match="missing"):
        read_table(tmp_path / "nowhere.csv")
    with pytest.raises(DataFileError, match="folder"):
        read_table(tmp_path)
    with pytest.raises(DataFileError, match=r"ends in .*\.npz, this in '.xlsx'"):
        read_table(write("x", "table.xlsx"))


def test_classes_are_sorted_as_numbers_and_must_be_two_of_two_rows(write):
    path = write("a,y\n" + "".join(f"{i},{y}\n" for i, y in enumerate(["10", "9", "x", "9", "10", "x"])))
    assert class_names(path, read_table(path)) == ["9", "10", "x"]
    path = write("a,y\n1,u\n2,u\n")
    with pytest.raises(DataFileError, match="every label is 'u'"):
        class_names(path, read_table(path))
    path = write("a,y\n1,u\n2,u\n3,v\n")
    with pytest.raises(DataFileError, match=r"class 'v' \(line 4\) has 1 row; at least 2"):
        class_names(path, read_table(path))
    path = write("a,y\n" + "".join(f"{i},{i / 7}\n" for i in range(9)))
    with pytest.raises(DataFileError, match="9 different values in 9 rows: name a column of classes"):
        class_names(path, read_table(path))


@pytest.mark.parametrize("labels", [np.array([3, 1, 3]), np.array([3.0, 1, 3]), np.array(["3", "1", "3"]),
                                    np.array([b"3", b"1", b"3"])])  # fmt: skip
@pytest.mark.parametrize("shape", [(3, 2), (3, 1, 4, 4)])
def test_npz_gives_what_was_saved(tmp_path, labels, shape):
    x = np.arange(np.prod(shape)).reshape(shape)
    np.savez_compressed(tmp_path / "t.npz", X=x, y=labels)
    table = read_table(tmp_path / "t.npz")
    assert np.array_equal(table.x, x)
    assert table.labels == ["3", "1", "3"]
    assert len(table.names) == (2 if len(shape) == 2 else 0)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(x=np.ones((2, 2)), y=[0, 1]), "no array 'X'; did you mean 'x'"),
        (dict(X=np.ones((2, 2))), "no array 'y'"),
        (dict(X=np.ones(2), y=[0, 1]), r"X has shape \(2,\)"),
        (dict(X=np.ones((0, 2)), y=[]), r"X has shape \(0, 2\)"),
        (dict(X=np.ones((2, 2)), y=[0, 1, 2]), r"y has shape \(3,\) for 2 rows"),
        (dict(X=np.ones((2, 2), complex), y=[0, 1]), "X is of type complex128"),
        (dict(X=np.array([[1, 2], [3, np.nan]]), y=[0, 1]), r"X\[1, 1\] is nan"),
        (dict(X=np.array([[1, 2], [3, 1e39]]), y=[0, 1]), r"X\[1, 1\] is inf"),
        (dict(X=np.ones((2, 2)), y=[0, np.nan]), "label 1 .*no finite number"),
        (dict(X=np.ones((2, 2)), y=np.zeros(2, [("field", "f4")])), "y is of type"),
    ],
)
def test_broken_npz_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataFileError, match=message):
        read_table(tmp_path / "t.npz")


def test_object_arrays_are_not_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "t.npz", X=np.ones((2, 2)), y=np.array([Trap(), Trap()], object))
    with pytest.raises(DataFileError, match=r"(?s)array 'y' holds Python objects.*convert it once:.*savez"):
        read_table(tmp_path / "t.npz")


def announce(path, shape, kind="<f4", content=b""):
    """An archive whose X announces a shape that it need not hold."""
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": kind, "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("X.npy", header.getvalue() + content)
        archive.writestr("y.npy", header.getvalue() + content)
    return path


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((1 << 40, 8), "<f4", "announces shape"),
        ((1 << 60, 1), "<U0", "announces shape"),
        ((-4, -4), "<f4", "announces shape"),
        ((1000, 1000), "<f4", "not the size its header announces"),
    ],
)
def test_an_archive_is_refused_by_what_it_announces(tmp_path, shape, kind, message):
    with pytest.raises(DataFileError, match=message):
        read_table(announce(tmp_path / "t.npz", shape, kind, b"\0" * 64))


@pytest.mark.parametrize("keep", [3, 60, 200])
def test_torn_npz_is_refused(tmp_path, keep):
    path = tmp_path / "t.npz"
    np.savez(path, X=np.ones((20, 2)), y=np.arange(20))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataFileError, match=r"broken or no \.npz"):
        read_table(path)


def test_flipped_bytes_never_end_in_another_error(tmp_path):
    path = tmp_path / "t.npz"
    np.savez_compressed(path, X=np.ones((20, 2)), y=np.arange(20) % 2)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        broken = bytearray(whole)
        broken[rng.integers(len(broken))] ^= int(rng.integers(1, 256))
        path.write_bytes(broken)
        try:
            read_table(path)
        except DataFileError:
            refused += 1
    assert refused > 50
