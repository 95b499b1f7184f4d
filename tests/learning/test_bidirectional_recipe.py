"""Bidirectional learning on own files."""

import numpy as np
import pytest
import torch

from paperworks.errors import SettingError
from paperworks.learning import BidirectionalNet
from paperworks.learning.bidirectional.recipe import build, read, recipe
from paperworks.training.recipe import fit_files, predict_files


def table(folder, name="table.csv", shift=0.0, count=120, constant=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)) * [1, 10, 0.1] + shift
    labels = np.where(x[:, 0] + x[:, 1] / 10 > 2 * shift * 0.55, "up", "down")
    head = "a,b,c" + ",d" * constant
    lines = [",".join(f"{v:.5f}" for v in row) + ",7" * constant + f",{label}" for row, label in zip(x, labels)]  # noqa: B905
    (folder / name).write_text(head + ",answer\n" + "\n".join(lines) + "\n")
    return folder / name


def test_inputs_are_scaled_by_the_training_rows_alone(tmp_path):
    data = read(table(tmp_path, shift=50.0, constant=True), recipe.settings | {"seed": 1}, None)
    x = data.train.rows[0]
    torch.testing.assert_close(x.amin(0), torch.zeros(4))
    torch.testing.assert_close(x.amax(0), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    again = read(tmp_path / "table.csv", recipe.settings, data.description).everything.rows[0]
    inside = ((again >= -1e-5) & (again <= 1 + 1e-5)).all(1)
    assert len(x) <= int(inside.sum()) < 120
    first = torch.cdist(x[:1], again).min()
    assert float(first) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("hybrid", [False, True])
def test_fits_a_table_in_both_directions(hybrid, tmp_path):
    report = fit_files(recipe, table(tmp_path), tmp_path / "m", settings=dict(steps=150, hybrid=hybrid, lr=3e-3))
    assert report["metrics"]["validation"]["accuracy"] > 0.8
    assert [p["title"] for p in report["pictures"]] == [
        "Confusion", "Accuracy under attack and noise", "What the network expects of each class"
    ]  # fmt: skip
    net = BidirectionalNet.from_pretrained(tmp_path / "m")
    if not hybrid:  # the generator has learnt that column a is larger in class "up"
        made = net.generate(torch.eye(2)).sigmoid()
        assert float(made[1, 0] - made[0, 0]) > 0.1
    predict_files(recipe, tmp_path / "m", tmp_path / "table.csv", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "row,label,probability"


@pytest.mark.slow
def test_fits_images_with_convolutions(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    images = rng.random((40, 2, 8, 8)) * 0.2 + y[:, None, None, None] * np.eye(8)
    np.savez(tmp_path / "images.npz", X=images.astype("f4"), y=np.array(["plain", "line"])[y])
    settings = dict(steps=60, convolutions=[[4, 4, 2]], hidden=[8], lr=3e-3)
    report = fit_files(recipe, tmp_path / "images.npz", tmp_path / "m", settings=settings)
    assert report["metrics"]["train"]["accuracy"] > 0.9
    drawn = report["pictures"][-1]
    assert drawn["kind"] == "images"
    assert np.array(drawn["images"]).shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(mode="backwards"), "bl_then_bp"),
        (dict(optimizer="sgd"), "optimizer=adam"),
        (dict(mixed_precision="bf16"), "mixed_precision=no"),
        (dict(generator_factor=0.0), "above 0"),
        (dict(convolutions=[[4, 3, 1]]), "only for images"),
        (dict(activation="elu"), "relu, sigmoid"),
    ],
)
def test_bad_settings_are_refused_in_words(settings, words, tmp_path):
    with pytest.raises(SettingError, match=words):
        fit_files(recipe, table(tmp_path), tmp_path / "m", settings=dict(steps=2) | settings)


def test_convolutions_are_triples():
    with pytest.raises(SettingError, match="triples"):
        build({"in_shape": [1, 8, 8], "classes": ["a", "b"]}, recipe.settings | {"convolutions": [[4, 3]]})
