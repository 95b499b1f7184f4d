"""NoProp on a user's table: fitted, interrupted and resumed, applied, and refused with a reason."""

import csv

import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError, SettingError
from paperworks.learning.noprop import NoPropDT
from paperworks.learning.noprop.recipe import probabilities, recipe
from paperworks.training.class_recipe import stratified
from paperworks.training.recipe import fit_files, predict_files, read_recipe

SMALL = {"T": 3, "width": 16, "steps": 150, "lr": 1e-2, "batch_size": 32}
NAMES = ["ant", "bee", "cow"]


@pytest.fixture
def table(tmp_path):
    """Three clouds far from the origin, on scales that differ a thousandfold."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 3
    x = rng.normal(size=(120, 2)) + 6 * np.eye(3)[y][:, :2]
    path = tmp_path / "table.csv"
    rows = [f"{a * 1000 + 5e4:.3f},{NAMES[label]},{b / 10:.5f}" for (a, b), label in zip(x, y, strict=True)]
    path.write_text("long,kind,short\n" + "\n".join(rows) + "\n")
    return path


def predictions(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_fit_and_predict(tmp_path, table):
    settings = {**SMALL, "target": "kind"}
    report = fit_files(recipe, table, tmp_path / "model", settings=settings, test=table)
    assert report["rows"] == {"train": 96, "validation": 24, "test": 120}
    assert min(part["accuracy"] for part in report["metrics"].values()) > 0.9
    stored = read_recipe(tmp_path / "model")["data"]
    assert stored["classes"] == NAMES
    assert stored["columns"] == ["long", "short"]

    lines = [line.split(",") for line in table.read_text().splitlines()]
    unlabelled = tmp_path / "new.csv"  # no label, another order of columns
    unlabelled.write_text("\n".join(f"{short},{long}" for long, _, short in lines) + "\n")
    count = predict_files(recipe, tmp_path / "model", unlabelled, tmp_path / "out.csv")["count"]
    rows = predictions(tmp_path / "out.csv")
    assert count == len(rows) == 120
    assert [row["row"] for row in rows] == [str(number) for number in range(1, 121)]
    right = [row["label"] == kind for row, (_, kind, _) in zip(rows, lines[1:], strict=True)]
    assert np.mean(right) == pytest.approx(report["metrics"]["test"]["accuracy"])
    assert all(1 / 3 <= float(row["probability"]) <= 1 for row in rows)


def test_an_interrupted_fit_goes_on_to_the_same_weights(tmp_path, table, monkeypatch):
    settings = {**SMALL, "target": "kind", "steps": 40}
    fit_files(recipe, table, tmp_path / "whole", settings=settings)
    monkeypatch.setattr("paperworks.training.checkpoint.Checkpoint.due", lambda self: True)

    def stop(step, steps, **metrics):
        if step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_files(recipe, table, tmp_path / "torn", settings=settings, log=stop)
    assert (tmp_path / "torn" / "checkpoint.safetensors").exists()
    seen = []
    fit_files(recipe, table, tmp_path / "torn", settings=settings, log=lambda step, steps, **_: seen.append(step))
    assert seen[-1] == 40
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "torn")]
    assert weights[0] == weights[1]


def test_training_statistics_standardise_and_constant_columns_do_not_divide(tmp_path):
    rng = np.random.default_rng(1)
    x = np.column_stack([rng.normal(3, 2, 50), np.full(50, 7.0)])
    np.savez(tmp_path / "t.npz", X=x, y=np.arange(50) % 2)
    with pytest.warns(UserWarning, match=r"never change.*X\[1\]"):
        data = recipe.read(tmp_path / "t.npz", recipe.settings, None)
    train = data.train.rows[0]
    assert torch.allclose(train.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(train.std(0, correction=0), torch.tensor([1.0, 0.0]), atol=1e-5)
    again = recipe.read(tmp_path / "t.npz", recipe.settings, data.description).everything
    expected = (x - data.description["mean"]) / data.description["std"]
    assert np.allclose(again.rows[0], expected, atol=1e-5)


def test_images_are_fitted_and_predicted(tmp_path):
    rng = np.random.default_rng(2)
    y = np.arange(24) % 2
    np.savez(tmp_path / "t.npz", X=rng.normal(size=(24, 2, 4, 4)) + y[:, None, None, None], y=y)
    settings = {**SMALL, "steps": 3, "channels": [2, 3, 4]}
    fit_files(recipe, tmp_path / "t.npz", tmp_path / "model", settings=settings)
    assert predict_files(recipe, tmp_path / "model", tmp_path / "t.npz", tmp_path / "o.csv")["count"] == 24
    assert {row["label"] for row in predictions(tmp_path / "o.csv")} <= {"0", "1"}
    np.savez(tmp_path / "wide.npz", X=np.ones((2, 2, 4, 8)))
    with pytest.raises(DataFileError, match=r"rows of shape \(2, 4, 8\); the model was fitted on \[2, 4, 4\]"):
        predict_files(recipe, tmp_path / "model", tmp_path / "wide.npz", tmp_path / "o.csv")


def test_probabilities_sum_to_one_and_name_the_nearest_label():
    torch.manual_seed(0)
    model, x = NoPropDT((6,), 4, T=3, width=8, decode="nearest").eval(), torch.randn(50, 6)
    weights = probabilities(model, x)
    assert torch.allclose(weights.sum(1), torch.ones(50), atol=1e-6)
    only = NoPropDT((6,), 4, T=1, width=8, decode="nearest").eval()
    first = only.denoise(only.start.expand(1, 50, -1), x, 1)[0]
    assert torch.allclose(probabilities(only, x), first, atol=1e-6)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.2, 0.5])
def test_held_out_rows_are_a_fair_share_of_every_class(share):
    y = np.repeat(np.arange(5), [2, 3, 10, 40, 200])
    mask = stratified(y, share, 0)
    assert mask.sum() == int(share * len(y) + 1e-9)
    for label in range(5):
        own = mask[y == label]
        assert abs(own.sum() - share * len(own)) <= 1
        assert not own.all()
    assert share == 0 or not np.array_equal(mask, stratified(y, share, 1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"validation": 0.7}, "validation=0.7"),
        ({"T": 0}, "T=0"),
        ({"width": 1}, "width=1"),
        ({"batch_size": 1}, "batch_size=1"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, table, settings, message):
    with pytest.raises(SettingError, match=message):
        fit_files(recipe, table, tmp_path / "model", settings={"target": "kind", **settings})


def test_bad_tables_are_refused(tmp_path, table):
    with pytest.raises(DataFileError, match="line 2, column 'kind': 'ant'; a number is expected"):
        fit_files(recipe, table, tmp_path / "model", settings=SMALL)  # by default the last column is the target
    with pytest.raises(DataFileError, match="did you mean 'kind'"):
        fit_files(recipe, table, tmp_path / "model", settings={**SMALL, "target": "kinds"})
    strange = tmp_path / "strange.csv"
    strange.write_text("long,kind,short\n1,ant,2\n1,yak,2\n")
    settings = {**SMALL, "target": "kind", "steps": 2}
    with pytest.raises(DataFileError, match=r"row 2 .*no label in column 'kind' that the model knows"):
        fit_files(recipe, table, tmp_path / "model", settings=settings, test=strange)
    fit_files(recipe, table, tmp_path / "other", settings=settings)
    strange.write_text("long,kind\n1,ant\n")
    with pytest.raises(DataFileError, match="no column 'short', which the model was fitted on"):
        predict_files(recipe, tmp_path / "other", strange, tmp_path / "out.csv")
