"""Tables of bits of a user: read, refused, fitted, predicted, printed as gates."""

import csv
import time

import numpy as np
import pytest

from paperworks.errors import DataFileError, PaperworksError, SettingError
from paperworks.learning.boolean_threshold.recipe import read, recipe
from paperworks.learning.boolean_threshold.tool import logic
from paperworks.training.recipe import fit_files, predict_files


def table(path, header, rows):
    path.write_text(",".join(header) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def adder(path):
    """A half adder."""
    rows = [(a, b, a & b, a ^ b) for a in (0, 1) for b in (0, 1)]
    return table(path, ["a", "b", "carry", "sum"], rows)


def given(**settings):
    return {**recipe.settings, **settings}


def test_a_half_adder_is_fitted_predicted_and_written(tmp_path):
    source = adder(tmp_path / "adder.csv")
    settings = {"target": "carry,sum", "hidden": "2", "restarts": 8, "steps": 3000}
    report = fit_files(recipe, source, tmp_path / "model", settings=settings)
    assert report["metrics"] == {"train": {"accuracy": 1.0, "bit_accuracy": 1.0}}  # whole: no row validates
    assert [picture["kind"] for picture in report["pictures"]] == ["network", "heatmap"]
    bare = table(tmp_path / "rows.csv", ["b", "a"], [(1, 1), (0, 1)])
    predict_files(recipe, tmp_path / "model", bare, tmp_path / "out.csv")
    assert list(csv.reader((tmp_path / "out.csv").open())) == [
        ["row", "carry", "sum"],
        ["1", "1", "0"],
        ["2", "0", "1"],
    ]
    for suffix in (".blif", ".v", ".net", ".txt"):
        out = tmp_path / f"adder{suffix}"
        answer = logic(tmp_path / "model", out)
        assert out.stat().st_size > 50
        assert answer["gates"]
    assert "carry" in answer["text"]
    with pytest.raises(PaperworksError, match="ending in"):
        logic(tmp_path / "model", tmp_path / "adder.doc")


def test_labels_become_one_bit_or_one_a_class(tmp_path):
    rows = [(a, b, "low" if a + b == 0 else "high" if a + b == 2 else "mid") for a in (0, 1) for b in (0, 1)]
    three = read(table(tmp_path / "three.csv", ["a", "b", "y"], rows), given(), None)
    assert three.description["classes"] == ["high", "low", "mid"]
    assert three.train.rows[1].sum(1).tolist() == [1, 1, 1, 1]
    two = read(table(tmp_path / "two.csv", ["a", "b", "y"], [(*r[:2], r[2] == "low") for r in rows]), given(), None)
    assert two.train.rows[1].shape == (4, 1)
    more = read(tmp_path / "three.csv", given(), three.description)
    assert more.everything.count == 4


def test_equal_rows_count_once_and_others_validate(tmp_path):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2, (3000, 8))
    source = table(tmp_path / "t.csv", [*"abcdefg", "y"], [(*r[:7], r[0] & r[1]) for r in rows])
    data = read(source, given(), None)
    assert data.train.count == 128  # all 2^7 occur, and all are fitted
    assert data.validation is None
    some = table(tmp_path / "s.csv", [*"abcdefg", "y"], [(*r[:7], r[0] & r[1]) for r in rows[:60]])
    data = read(some, given(), None)
    different = len({tuple(r[:7]) for r in rows[:60]})
    assert data.validation.count == round(0.2 * different)
    assert data.train.count + data.validation.count == different
    with pytest.warns(UserWarning, match="drawn at random"):
        data = read(source, given(rows=50), None)
    assert (data.train.count, data.validation.count) == (50, 78)


def test_numbers_are_cut_at_their_median_when_asked(tmp_path):
    rows = [(f"{value:.2f}", value > 3) for value in range(8)]
    source = table(tmp_path / "n.csv", ["age", "y"], rows)
    with pytest.raises(DataFileError, match=r"column 'age' holds 8 different numbers .*cut=median"):
        read(source, given(), None)
    data = read(source, given(cut="median"), None)
    assert data.train.count == 2
    assert data.description["cuts"] == [3.5]
    assert read(source, given(), data.description).everything.rows[0].flatten().tolist() == [-1] * 4 + [1] * 4


@pytest.mark.parametrize(
    ("header", "rows", "word"),
    [
        ("a y", [("x", 0), ("z", 1)], "'x'; a number is expected"),
        ("a y", [("", 0), (1, 1)], "missing value"),
        ("a b y", [(0, 0, 1), (1, 0, 1)], "every label is '1'"),
        ("a b y", [(1, 1, 1), (1, 1, 0)], "every column but the target is constant"),
        ("a b y", [(0, 1, 1), (1, 1, 0), (0, 1, 0)], "line 2 and line 4 have the same inputs and different targets"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*never changes")
def test_bad_tables_are_refused_in_words(tmp_path, header, rows, word):
    with pytest.raises(DataFileError, match=word):
        read(table(tmp_path / "bad.csv", header.split(), rows), given(), None)


def test_contradictions_by_majority_and_constants_left_out(tmp_path):
    rows = [(0, 1, 1), (1, 1, 0), (0, 1, 0), (0, 1, 1)]
    with pytest.warns(UserWarning, match="column 'b' never changes"):
        data = read(table(tmp_path / "c.csv", ["a", "b", "y"], rows), given(contradictions="majority"), None)
    assert data.description["columns"] == ["a"]
    assert data.train.rows[0].flatten().tolist() == [-1, 1]
    assert data.train.rows[1].flatten().tolist() == [1, 0]


def test_several_targets_must_be_bits_and_change(tmp_path):
    source = table(tmp_path / "t.csv", ["a", "y", "z"], [(0, 2, 1), (1, 0, 0)])
    with pytest.raises(DataFileError, match="several targets must be bits"):
        read(source, given(target="y,z"), None)
    with pytest.raises(DataFileError, match="needs different columns"):
        read(source, given(target="w,z"), None)
    source = table(tmp_path / "u.csv", ["a", "y", "z"], [(0, 1, 1), (1, 1, 0)])
    with pytest.raises(DataFileError, match="'y' never changes"):
        read(source, given(target="y,z"), None)


def test_a_value_that_the_model_has_not_seen_is_told(tmp_path):
    data = read(adder(tmp_path / "adder.csv"), given(target="carry,sum"), None)
    with pytest.raises(DataFileError, match=r"line 3: 2 in column 'b'; the model was fitted on 0 and 1"):
        read(table(tmp_path / "odd.csv", ["a", "b"], [(0, 1), (0, 2)]), given(), data.description)


@pytest.mark.parametrize(
    "settings",
    [dict(cut="mean"), dict(beta=2.0), dict(hidden="wide"), dict(hidden="0"), dict(restarts=0), dict(stop="loss")],
)
def test_settings_are_refused_in_words(tmp_path, settings):
    with pytest.raises(SettingError, match=next(iter(settings))):
        read(adder(tmp_path / "adder.csv"), given(target="carry,sum", **settings), None)


def test_a_table_too_large_for_its_copies_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    source = table(tmp_path / "w.csv", [f"c{i}" for i in range(60)], rng.integers(0, 2, (400, 60)))
    with pytest.raises(DataFileError, match="Fit fewer rows"):
        read(source, given(hidden="4000,4000"), None)


def test_a_million_rows_come_down_to_the_different_ones(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (1_000_000, 5), dtype=np.uint8)
    np.savez(tmp_path / "big.npz", X=bits, y=bits[:, 0] & bits[:, 1])
    began = time.process_time()
    data = read(tmp_path / "big.npz", given(), None)
    assert data.train.count == 32
    assert time.process_time() - began < 20
