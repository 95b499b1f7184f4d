"""BiPer on a user's photos: learned in two stages, packed, or refused by name."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.errors import PaperworksError, SettingError
from paperworks.layers.biper import BiPerResNet, BiPerVGG, load_binary
from paperworks.layers.biper.layers import binary_layers
from paperworks.layers.biper.recipe import recipe
from paperworks.layers.biper.tool import pack_binary
from paperworks.training.recipe import fit_files, predict_files

SETTINGS = {"side": 16, "width": 8, "steps": 30, "batch_size": 8, "warmup": 2}


def photos(folder, count=8, seed=0):
    """Noise in which one colour channel, that of the class, is bright."""
    rng = np.random.default_rng(seed)
    for channel, label in enumerate(("red", "green", "blue")):
        (folder / label).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 90, (18, 20, 3), dtype=np.uint8)
            pixels[..., channel] += 160
            Image.fromarray(pixels).save(folder / label / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    test = photos(folder / "test", seed=1)
    return folder, fit_files(recipe, photos(folder / "photos"), folder / "model", settings=SETTINGS, test=test)


@pytest.mark.slow
def test_photos_are_told_apart_by_a_binary_network(fitted):
    folder, report = fitted
    assert report["metrics"]["test"]["accuracy"] > 0.8
    model = BiPerResNet.from_pretrained(folder / "model")
    assert {layer.stage for _, layer in binary_layers(model)} == {2}
    assert predict_files(recipe, folder / "model", folder / "test", folder / "p.csv")["count"] == 24


@pytest.mark.slow
def test_packed_file_answers_the_same(fitted):
    folder, _ = fitted
    told = pack_binary(folder / "model")
    assert told["equal_to_the_bit"]
    assert told["bytes"] == (folder / "model" / "packed.safetensors").stat().st_size
    assert told["binary_bytes"] == sum(layer["bytes"] for layer in told["layers"].values())
    assert "the same to the last bit" in told["text"]
    model, packed = BiPerResNet.from_pretrained(folder / "model"), load_binary(folder / "model" / "packed.safetensors")
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(packed(x), model(x))
    foreign = folder / "foreign"
    foreign.mkdir()
    stored = json.loads((folder / "model" / "recipe.json").read_text())
    (foreign / "recipe.json").write_text(json.dumps({**stored, "slug": "crossvit"}))
    with pytest.raises(PaperworksError, match="crossvit"):
        pack_binary(foreign)


@pytest.mark.slow
def test_a_named_size_of_another_class_is_loaded_as_such(tmp_path):
    source = photos(tmp_path / "photos", count=2)
    chosen = {"size": "biper_vgg_small", "side": 8, "steps": 2, "batch_size": 4, "validation": 0.0}
    fit_files(recipe, source, tmp_path / "model", settings=chosen)
    predict_files(recipe, tmp_path / "model", source, tmp_path / "p.csv")
    assert isinstance(BiPerVGG.from_pretrained(tmp_path / "model"), BiPerVGG)


@pytest.mark.parametrize(
    "wrong",
    [{"size": "tiny"}, {"side": 12}, {"width": 0}, {"stage1": 1.5}, {"freq": 0.0}, {"lr2": 0.0}, {"tau": -1.0},
     {"optimizer": "adam"}],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(tmp_path, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        fit_files(recipe, photos(tmp_path / "photos", count=2), tmp_path / "m", settings={**SETTINGS, **wrong})
