"""Quantiles of a table's column, from files."""

import csv

import numpy as np
import pytest

from paperworks.errors import DataFileError, SettingError
from paperworks.layers.mip.recipe import recipe
from paperworks.training.recipe import fit_files, predict_files


def table(folder, n=400, name="t.csv"):
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(n, 2))
    y = 10 * x[:, 0] + (1 + 4 * x[:, 1]) * rng.normal(size=n)
    lines = [f"{a:.5f},{b:.5f},{c:.5f}" for (a, b), c in zip(x, y, strict=True)]
    (folder / name).write_text("a,b,y\n" + "\n".join(lines) + "\n")
    return folder / name


@pytest.mark.slow
def test_fits_scores_and_predicts(tmp_path):
    source = table(tmp_path)
    report = fit_files(recipe, source, tmp_path / "m", settings={"target": "y", "steps": 300}, test=source)
    assert 0.7 < report["metrics"]["test"]["coverage_90"] < 0.99
    assert predict_files(recipe, tmp_path / "m", source, tmp_path / "p.csv")["count"] == 400
    rows = list(csv.reader((tmp_path / "p.csv").open()))
    assert rows[0] == ["row", "q0.05", "q0.25", "q0.5", "q0.75", "q0.95"]
    values = np.array(rows[1:], float)[:, 1:]
    assert (np.diff(values, axis=1) >= 0).all()
    truth = np.loadtxt(source, delimiter=",", skiprows=1)[:, 2]
    assert abs(np.mean(truth < values[:, 2]) - 0.5) < 0.15


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,y\n1,2\n2,x\n3,1\n4,2\n", "line 3"),
        ("a,y\n1,2\n2,inf\n3,1\n4,2\n", "line 3"),
        ("a,y\n1,2\n2,2\n3,2\n4,2\n", "never changes"),
        ("a,y\n1,2\n2,3\n", "at least 4"),
    ],
)
def test_targets_that_have_no_quantiles_are_told(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataFileError, match=told):
        fit_files(recipe, tmp_path / "t.csv", tmp_path / "m", settings={"target": "y", "steps": 1})


def test_settings_and_rows_without_target_are_told(tmp_path):
    source = table(tmp_path, 40)
    with pytest.raises(SettingError, match="depth"):
        fit_files(recipe, source, tmp_path / "m", settings={"target": "y", "steps": 1, "depth": 0})
    fit_files(recipe, source, tmp_path / "n", settings={"target": "y", "steps": 1})
    (tmp_path / "x.csv").write_text("a,b\n0.5,0.5\n")
    assert predict_files(recipe, tmp_path / "n", tmp_path / "x.csv", tmp_path / "p.csv")["count"] == 1
    with pytest.raises(DataFileError, match="'y'"):
        fit_files(recipe, source, tmp_path / "k", settings={"target": "y", "steps": 1}, test=tmp_path / "x.csv")
