"""Modular addition on a user's table: entries filled in, waves told, bad lines named, kills survived."""

import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from paperworks.analysis.modular_addition import ModularAdditionMLP
from paperworks.analysis.modular_addition.recipe import read_operation, recipe
from paperworks.errors import DataFileError
from paperworks.training.recipe import fit_files, predict_files, read_recipe

P = 7
PAIRS = [(a, b) for a in range(P) for b in range(P)]
MISSING = {(1, 3), (2, 6), (5, 0)}  # their swaps are known, and the network adds its inputs
SETTINGS = {"steps": 300, "width": 64, "lr": 0.01, "weight_decay": 0.1, "validation": 0.0}


def write(path, rows, header="a,b,c"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def addition(folder):
    rows = [(a, b, "" if (a, b) in MISSING else (a + b) % P) for a, b in PAIRS]
    return write(folder / "operation.csv", rows)


def read(path, saved=None, **settings):
    return recipe.read(path, {**recipe.settings, **settings}, saved)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    report = fit_files(recipe, addition(folder), folder / "model", settings=SETTINGS)
    predict_files(recipe, folder / "model", folder / "operation.csv", folder / "out.csv")
    return folder, report


def test_the_missing_entries_are_filled_in_right(fitted):
    folder, report = fitted
    assert report["metrics"] == {"train": {"accuracy": 1.0}}
    assert report["rows"] == {"train": P * P - len(MISSING)}
    with (folder / "out.csv").open() as file:
        found = [tuple(map(int, row.values())) for row in csv.DictReader(file)]
    assert found == [(a, b, (a + b) % P) for a, b in PAIRS]


def test_the_loaded_model_gives_the_same_answers(fitted):
    folder, _ = fitted
    model = ModularAdditionMLP.from_pretrained(folder / "model")
    assert model.p == P
    with torch.no_grad():
        answers = model(torch.tensor(PAIRS)).argmax(-1)
    assert answers.tolist() == [(a + b) % P for a, b in PAIRS]


def test_the_waves_told_are_those_of_the_stored_weights(fitted):
    """Frequency, amplitude and phase of every neuron against numpy's FFT; D = 2 phi - psi."""
    folder, _ = fitted
    decoded = json.loads((folder / "out-decoding.json").read_text())
    assert (decoded["p"], len(decoded["neurons"])) == (P, 64)
    model = ModularAdditionMLP.from_pretrained(folder / "model")
    w_in, w_out = (w.detach().double().numpy() for w in (model.w_in, model.w_out.T))
    for neuron, into, out in zip(decoded["neurons"], np.fft.rfft(w_in), np.fft.rfft(w_out), strict=True):
        k = 1 + np.abs(into[1:]).argmax()
        assert neuron["frequency"] == k
        assert neuron["alpha"] == pytest.approx(2 / P * abs(into[k]))
        assert neuron["beta"] == pytest.approx(2 / P * abs(out[k]))
        for angle, wave in ((neuron["phi"], into[k]), (neuron["psi"], out[k])):
            assert np.exp(1j * angle) == pytest.approx(wave / abs(wave))
        assert np.exp(1j * neuron["misalignment"]) == pytest.approx(np.exp(1j * (2 * neuron["phi"] - neuron["psi"])))
        assert 0 < neuron["purity"] <= 1 + 1e-9


def test_validation_entries_are_held_out_and_follow_the_seed(tmp_path):
    path = write(tmp_path / "t.csv", [(a, b, (a + b) % P) for a, b in PAIRS])
    one, again, other = read(path), read(path), read(path, seed=1)
    parts = [[tuple(pair) for pair in part.rows[0].tolist()] for part in (one.train, one.validation)]
    assert sorted(parts[0] + parts[1]) == PAIRS
    assert len(parts[1]) == round(0.2 * P * P)
    assert torch.equal(one.train.rows[0], again.train.rows[0])
    assert not torch.equal(one.train.rows[0], other.train.rows[0])
    for pairs, answers in (one.train.rows, one.validation.rows):
        assert torch.equal(pairs.sum(1) % P, answers)


@pytest.mark.parametrize(("largest", "p"), [(1, 3), (2, 3), (3, 5), (4, 5), (5, 7), (1000, 1001)])
def test_an_even_number_of_elements_gets_one_more(tmp_path, largest, p):
    assert read(write(tmp_path / "t.csv", [(0, 1, largest), (1, 1, 0)])).description == {"p": p}


def test_blank_lines_spaces_byte_order_marks_and_case_do_not_matter(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xef\xbb\xbfA, B ,c\r\n 0,1, 2\r\n\r\n1 ,1,\r\n")
    pairs, answers = read_operation(tmp_path / "t.csv")
    assert pairs.tolist() == [[0, 1], [1, 1]]
    assert answers.tolist() == [2, -1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "its first line is empty, expected the columns a,b,c"),
        ("x,y,z\n0,0,0\n", r"its first line is \['x', 'y', 'z'\]"),
        ("b,a,c\n0,0,0\n", r"its first line is \['b', 'a', 'c'\]"),
        ("a,b,c\n", "has a header but no line below it"),
        ("a,b,c\n0,0,0\n\n0,1\n", "line 4: 2 cells, the header has 3"),
        ("a,b,c\n0,0,0,0\n", "line 2: 4 cells, the header has 3"),
        ("a,b,c\n0,0,0\n0,one,1\n", "line 3, column b: 'one', expected a whole number below 1001"),
        ("a,b,c\n,0,0\n", "line 2, column a: ''"),
        ("a,b,c\n0,0,-1\n", "line 2, column c: '-1'"),
        ("a,b,c\n0,0,1.0\n", "line 2, column c: '1.0'"),
        ("a,b,c\n0,0,nan\n", "line 2, column c: 'nan'"),
        ("a,b,c\n0,1001,1\n", "line 2, column b: '1001'"),
        ("a,b,c\n0,\u00b2,1\n", "line 2, column b"),
        ("a,b,c\n0,0,\n0,1,\n1,1,1\n", "has 1 known entries; at least two"),
        ("a,b,c\n1,1,1\n0,1,2\n1,0,1\n", r"\(0, 1\) and its swap have different answers"),
    ],
)
def test_broken_tables_are_refused_with_their_line(tmp_path, text, told):
    (tmp_path / "operation.csv").write_text(text, encoding="utf-8")
    with pytest.raises(DataFileError, match=told) as error:
        fit_files(recipe, tmp_path / "operation.csv", tmp_path / "model", settings=SETTINGS)
    assert "operation.csv" in str(error.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff")])
def test_what_is_no_text_file_is_refused(tmp_path, make):
    make(tmp_path / "operation.csv")
    with pytest.raises(DataFileError, match=r"operation\.csv"):
        read(tmp_path / "operation.csv")


def test_an_element_that_the_model_does_not_know_is_refused(fitted, tmp_path):
    folder, _ = fitted
    path = write(tmp_path / "new.csv", [(0, 6, ""), (0, 9, "")])
    with pytest.raises(DataFileError, match="has the element 9; the model knows 0 to 6"):
        predict_files(recipe, folder / "model", path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_two_columns_are_enough_to_predict(fitted, tmp_path):
    folder, _ = fitted
    path = write(tmp_path / "new.csv", [(4, 5)], header="a,b")
    assert predict_files(recipe, folder / "model", path, tmp_path / "out.csv")["count"] == 1
    assert (tmp_path / "out.csv").read_text().split() == ["a,b,c", f"4,5,{(4 + 5) % P}"]


KILLED = """
import json, os, signal, sys
from paperworks.analysis.modular_addition.recipe import recipe
from paperworks.training import recipe as recipes
checkpoint = recipes.Checkpoint
recipes.Checkpoint = lambda path: checkpoint(path, every_seconds=0.0)
def log(step, *_, **__):
    if step >= 40:
        os.kill(os.getpid(), signal.SIGKILL)
recipes.fit_files(recipe, sys.argv[1], sys.argv[2], settings=json.loads(sys.argv[3]), log=log)
"""


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_weights_of_an_undisturbed_one(tmp_path):
    settings = {**SETTINGS, "steps": 80, "validation": 0.2}
    source = addition(tmp_path)
    whole = fit_files(recipe, source, tmp_path / "whole", settings=settings)
    command = [sys.executable, "-c", KILLED, str(source), str(tmp_path / "cut"), json.dumps(settings)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    steps: list[int] = []
    again = fit_files(
        recipe, source, tmp_path / "cut", settings=settings, log=lambda step, *_, **__: steps.append(step)
    )
    assert steps == sorted(set(steps))
    assert steps[-1] == 80
    assert again["metrics"] == whole["metrics"]
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert read_recipe(tmp_path / "cut")["data"] == {"p": P}
