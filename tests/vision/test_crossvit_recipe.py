"""CrossViT on a user's photos: learned, told in the classes' names, stored for the hub, resumed, or refused by name."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.errors import DataFileError, SettingError
from paperworks.training.image_folder import ImageRows
from paperworks.training.recipe import fit_files, predict_files, read_recipe
from paperworks.vision import CrossViT
from paperworks.vision.crossvit.recipe import recipe

SETTINGS = {"side": 16, "width": 48, "steps": 25, "batch_size": 16, "warmup": 5, "lr": 3e-3}
HUES = {"blue": 2, "green": 1, "red": 0}


def photos(folder, classes=tuple(HUES), count=8, seed=0):
    """Noise in which one colour channel, that of the class, is bright."""
    rng = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 90, (18, 20, 3), dtype=np.uint8)
            pixels[..., HUES[label]] += 160
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


def predictions(path):
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    test = photos(folder / "test", seed=1)
    report = fit_files(recipe, photos(folder / "photos"), folder / "model", settings=SETTINGS, test=test)
    return folder, report


def test_held_out_photos_are_told_apart(fitted):
    _, report = fitted
    assert report["rows"] == {"train": 18, "validation": 6, "test": 24}
    assert set(report["metrics"]) == {"train", "validation", "test"}
    assert report["metrics"]["validation"]["accuracy"] == 1
    assert report["metrics"]["test"]["accuracy"] > 0.9


def test_the_folder_holds_what_the_hub_expects(fitted):
    folder, report = fitted
    assert sorted(path.name for path in (folder / "model").iterdir()) == [
        "README.md", "config.json", "model.safetensors", "recipe.json",
    ]  # fmt: skip
    stored = read_recipe(folder / "model")
    assert stored["slug"] == "crossvit"
    assert stored["data"]["classes"] == ["blue", "green", "red"]
    assert stored["metrics"] == report["metrics"]
    assert json.loads((folder / "model" / "config.json").read_text())["num_classes"] == 3
    card = (folder / "model" / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card


def test_predictions_name_file_and_class_and_are_the_loaded_models(fitted, tmp_path):
    folder, report = fitted
    count = predict_files(recipe, folder / "model", folder / "test", tmp_path / "out.csv")["count"]
    found = predictions(tmp_path / "out.csv")
    assert count == len(found) == 24
    d = read_recipe(folder / "model")["data"]
    rows = ImageRows([row["file"] for row in found], None, d["side"], d["mean"], d["std"])
    with torch.no_grad():
        expected = CrossViT.from_pretrained(folder / "model")(rows[list(range(24))][0]).softmax(-1)
    assert [row["label"] for row in found] == [d["classes"][index] for index in expected.argmax(-1).tolist()]
    assert [float(row["probability"]) for row in found] == pytest.approx(expected.amax(-1).tolist(), abs=2e-4)
    right = np.mean([f"/{row['label']}/" in row["file"] for row in found])
    assert right == pytest.approx(report["metrics"]["test"]["accuracy"])


def test_one_photo_a_flat_folder_and_other_folders_are_predicted_alike(fitted, tmp_path):
    folder, _ = fitted
    flat = folder / "test" / "red"
    (tmp_path / "holidays").mkdir()
    (tmp_path / "holidays" / "2024").symlink_to(flat)
    answers = []
    for source in (flat, tmp_path / "holidays"):
        assert predict_files(recipe, folder / "model", source, tmp_path / "out.csv")["count"] == 8
        answers.append([(row["label"], row["probability"]) for row in predictions(tmp_path / "out.csv")])
    predict_files(recipe, folder / "model", flat / "3.png", tmp_path / "out.csv")
    answers.append([(row["label"], row["probability"]) for row in predictions(tmp_path / "out.csv")])
    assert answers[0] == answers[1]
    assert answers[2] == answers[0][3:4]


def split_of(folder, **settings):
    data = recipe.read(folder, {**recipe.settings, **SETTINGS, **settings}, None)
    return [part.rows if part else None for part in (data.train, data.validation)]


@pytest.mark.parametrize(("share", "held"), [(0.25, 2), (0.5, 4), (0.0, 0)])
def test_the_same_share_of_every_class_is_held_out(tmp_path, share, held):
    train, validation = split_of(photos(tmp_path / "p"), validation=share)
    assert torch.bincount(train.labels, minlength=3).tolist() == [8 - held] * 3
    if not held:
        assert validation is None
        return
    assert torch.bincount(validation.labels).tolist() == [held] * 3
    assert len({*train.paths, *validation.paths}) == 24
    names = [path.parent.name for path in train.paths]
    assert [sorted(HUES)[label] for label in train.labels] == names


def test_the_split_follows_the_seed_alone(tmp_path):
    root = photos(tmp_path / "p")
    assert split_of(root)[1].paths == split_of(root)[1].paths != split_of(root, seed=1)[1].paths


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_folders_of_training_and_validation_are_taken_as_they_are(tmp_path, name):
    root = tmp_path / "p"
    photos(root / "train")
    photos(root / name, count=2, classes=("red", "blue"))
    train, validation = split_of(root)
    assert {path.parent.parent.name for path in train.paths} == {"train"}
    assert {path.parent.parent.name for path in validation.paths} == {name}
    assert (len(train), validation.labels.tolist()) == (24, [0, 0, 2, 2])


@pytest.mark.slow
def test_an_interrupted_fit_goes_on_to_the_same_weights(fitted, tmp_path, monkeypatch):
    """Mirroring and dropped paths draw random numbers, which must go on where they were."""
    folder, _ = fitted
    settings = {**SETTINGS, "steps": 12, "drop_path_rate": 0.3}
    fit_files(recipe, folder / "photos", tmp_path / "whole", settings=settings)
    monkeypatch.setattr("paperworks.training.checkpoint.Checkpoint.due", lambda self: True)

    def stop(step, *_, **__):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_files(recipe, folder / "photos", tmp_path / "torn", settings=settings, log=stop)
    torch.manual_seed(123)
    fit_files(recipe, folder / "photos", tmp_path / "torn", settings=settings)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "torn")]
    assert weights[0] == weights[1]


def test_half_of_the_images_are_mirrored_in_training_and_none_else():
    seen = []

    class Sees(torch.nn.Module):
        def forward(self, images):
            seen.append(images)
            return torch.zeros(len(images), 2)

    images = torch.randn(1, 3, 4, 4).expand(1000, -1, -1, -1)
    model = Sees()
    for training in (True, False):
        recipe.loss(model.train(training), (images, torch.zeros(1000, dtype=torch.long)))
    same = (seen[0] == images).all((1, 2, 3))
    mirrored = (seen[0] == images.flip(-1)).all((1, 2, 3))
    assert (same ^ mirrored).all()
    assert 400 < int(mirrored.sum()) < 600
    assert torch.equal(seen[1], images)


@pytest.mark.parametrize("spoil", [lambda p: p.write_bytes(b""), lambda p: p.write_bytes(p.read_bytes()[:200])])
def test_a_broken_photo_is_named_when_fitting_and_when_predicting(fitted, tmp_path, spoil):
    root = photos(tmp_path / "photos", count=3)
    spoil(root / "green" / "1.png")
    with pytest.raises(DataFileError, match=r"green/1\.png is no readable image"):
        fit_files(recipe, root, tmp_path / "model", settings={**SETTINGS, "steps": 3})
    assert not (tmp_path / "model" / "model.safetensors").exists()
    with pytest.raises(DataFileError, match=r"green/1\.png is no readable image"):
        predict_files(recipe, fitted[0] / "model", root, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_a_class_that_only_validation_has_is_refused(tmp_path):
    photos(tmp_path / "p" / "train", classes=("red", "blue"))
    photos(tmp_path / "p" / "val")
    with pytest.raises(DataFileError, match=r"val has the class 'green', which .*train has not"):
        split_of(tmp_path / "p")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"size": "crossvit_42"}, "size=crossvit_42: one of crossvit_toy, "),
        ({"side": 12}, "side=12: a multiple of 8"),
        ({"width": 50}, "width=50: a multiple of 6"),
    ],
)
def test_settings_out_of_range_are_refused(fitted, tmp_path, settings, told):
    with pytest.raises(SettingError, match=told):
        fit_files(recipe, fitted[0] / "photos", tmp_path / "model", settings={**SETTINGS, **settings})
    assert not (tmp_path / "model").exists()
