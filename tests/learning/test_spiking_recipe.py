"""Spiking networks on users' files: tables and photos."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from paperworks.errors import DataFileError, SettingError
from paperworks.learning.spiking import SpikingConvNet, SpikingMLP
from paperworks.learning.spiking.recipe import recipe
from paperworks.training.recipe import fit_files, predict_files


def table(folder, n=300):
    x = np.random.default_rng(0).normal(10, 4, size=(n, 3))
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{'yes' if a > b else 'no'}" for a, b, c in x]
    (folder / "t.csv").write_text("a,b,c,answer\n" + "\n".join(lines) + "\n")
    return folder / "t.csv"


def photos(folder):
    rng = np.random.default_rng(0)
    for label, low in (("dark", 0), ("bright", 150)):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(20):
            shade = rng.integers(low, low + 100, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(shade).save(folder / "photos" / label / f"{index}.png")
    return folder / "photos"


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["direct", "latency", "rate"])
def test_a_table_is_learnt_and_its_cost_told(tmp_path, encoding):
    settings = {"encoding": encoding, "steps": 150, "width": 32, "penalty": 0.1, "time_steps": 6}
    report = fit_files(recipe, table(tmp_path), tmp_path / "m", settings=settings, test=tmp_path / "t.csv")
    metrics = report["metrics"]["validation"]
    assert metrics["accuracy"] > 0.8
    assert metrics["synaptic_operations"] > 0
    assert metrics["macs"] == (6 * 3 * 32 if encoding == "direct" else 0)
    assert predict_files(recipe, tmp_path / "m", tmp_path / "t.csv", tmp_path / "p.csv")["count"] == 300
    guessed = [row["label"] for row in csv.DictReader((tmp_path / "p.csv").open())]
    truth = [row["answer"] for row in csv.DictReader((tmp_path / "t.csv").open())]
    share = np.mean([a == b for a, b in zip(guessed, truth, strict=True)])
    assert share == pytest.approx(report["metrics"]["test"]["accuracy"])
    assert isinstance(SpikingMLP.from_pretrained(tmp_path / "m"), SpikingMLP)


@pytest.mark.slow
def test_photos_are_learnt(tmp_path):
    settings = {"steps": 150, "side": 16, "channels": (4, 8), "batch_size": 16, "encoding": "latency"}
    report = fit_files(recipe, photos(tmp_path), tmp_path / "m", settings=settings)
    assert report["metrics"]["validation"]["accuracy"] > 0.8
    assert report["metrics"]["validation"]["nanojoules"] > 0
    assert predict_files(recipe, tmp_path / "m", tmp_path / "photos", tmp_path / "p.csv")["count"] == 40
    assert json.loads((tmp_path / "m" / "config.json").read_text())["in_shape"] == [3, 16, 16]
    assert SpikingConvNet.from_pretrained(tmp_path / "m").encoding == "latency"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"encoding": "morse"}, "encoding"),
        ({"time_steps": 0}, "time_steps"),
        ({"beta": 2.0}, "beta"),
        ({"side": 4}, "side"),
        ({"channels": ()}, "channels"),
    ],
)
def test_settings_that_make_no_network_are_told(tmp_path, settings, told):
    with pytest.raises(SettingError, match=told):
        fit_files(recipe, table(tmp_path, 20), tmp_path / "m", settings={"steps": 1, **settings})


def test_too_many_convolutions_for_the_side_and_one_class_are_told(tmp_path):
    with pytest.raises(SettingError, match="too small"):
        fit_files(recipe, photos(tmp_path), tmp_path / "m", settings={"side": 8, "channels": (2, 2, 2, 2), "steps": 1})
    (tmp_path / "one.csv").write_text("a,y\n1,x\n2,x\n3,x\n")
    with pytest.raises(DataFileError, match="at least 2 classes"):
        fit_files(recipe, tmp_path / "one.csv", tmp_path / "k", settings={"steps": 1})
