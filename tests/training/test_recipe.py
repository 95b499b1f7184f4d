"""Fitting to files: an interrupted fit goes on, nothing is overwritten unasked, and what is written can be used."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from safetensors.torch import load_file

from paperworks.errors import PaperworksError, SettingError
from paperworks.lab import find_paper
from paperworks.operators import DeepONet
from paperworks.training import recipe as recipes
from paperworks.training.recipe import fit_files, predict_files

RNG = np.random.default_rng(0)
U, X = RNG.normal(size=(30, 6)).astype("f4"), np.linspace(0, 1, 5, dtype="f4")[:, None]
S = (np.cumsum(U, 1)[:, :5] * 3 + 2).astype("f4")
SETTINGS = {"steps": 60, "width": 8, "depth": 2, "batch_size": 16}


@pytest.fixture
def recipe():
    return find_paper("deeponet").load("recipe").recipe


@pytest.fixture
def pairs(tmp_path):
    np.savez(tmp_path / "pairs.npz", u=U, x=X, s=S)
    return tmp_path / "pairs.npz"


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_an_interrupted_fit_goes_on_to_the_same_weights(recipe, pairs, tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop(step, *_, **__):
        if step >= 30:
            raise Stop

    whole = fit_files(recipe, pairs, tmp_path / "whole", settings=SETTINGS)
    checkpoint = recipes.Checkpoint
    monkeypatch.setattr(recipes, "Checkpoint", lambda path: checkpoint(path, every_seconds=0.0))
    with pytest.raises(Stop):
        fit_files(recipe, pairs, tmp_path / "cut", settings=SETTINGS, log=stop)
    assert (tmp_path / "cut" / "checkpoint.safetensors").exists()
    assert not (tmp_path / "cut" / "model.safetensors").exists()
    steps: list = []
    again = fit_files(recipe, pairs, tmp_path / "cut", settings=SETTINGS, log=lambda step, *_, **__: steps.append(step))
    assert again["metrics"] == whole["metrics"]
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all((first[name] == second[name]).all() for name in first)
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {
        "model.safetensors",
        "config.json",
        "recipe.json",
        "README.md",
    }


def test_a_model_is_not_overwritten_unasked(recipe, pairs, tmp_path):
    fit_files(recipe, pairs, tmp_path / "model", settings=SETTINGS)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    with pytest.raises(PaperworksError, match="already holds"):
        fit_files(recipe, pairs, tmp_path / "model", settings={**SETTINGS, "seed": 1})
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    fit_files(recipe, pairs, tmp_path / "model", settings={**SETTINGS, "seed": 1}, fresh=True)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != before


def test_an_interrupted_fit_is_not_mixed_with_another(recipe, pairs, tmp_path):
    def stop(*_, **__):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_files(recipe, pairs, tmp_path / "model", settings=SETTINGS, log=stop)
    with pytest.raises(PaperworksError, match="interrupted fit of other data or settings"):
        fit_files(recipe, pairs, tmp_path / "model", settings={**SETTINGS, "lr": 0.5})


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"lr": 0.0},
        {"optimizer": "lion"},
        {"schedule": "step"},
        {"unheard": 1},
        {"mixed_precision": "fp8"},
    ],
)
def test_settings_out_of_range_are_told(recipe, pairs, tmp_path, wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        fit_files(recipe, pairs, tmp_path / "model", settings=wrong)
    assert not (tmp_path / "model").exists()


def test_divergence_is_told_with_a_lower_rate(recipe, pairs, tmp_path):
    with pytest.raises(PaperworksError, match="try a lower rate"):
        fit_files(recipe, pairs, tmp_path / "m", settings={**SETTINGS, "optimizer": "sgd", "lr": 1e30, "steps": 200})


def test_validation_rows_are_not_trained_on(recipe, pairs, tmp_path):
    """Other outputs in the last tenth, which is held out: the same weights."""
    changed = S.copy()
    changed[27:] += 100
    np.savez(tmp_path / "other.npz", u=U, x=X, s=changed)
    reports = [
        fit_files(recipe, path, tmp_path / path.stem, settings=SETTINGS) for path in (pairs, tmp_path / "other.npz")
    ]
    one, two = weights(tmp_path / "pairs"), weights(tmp_path / "other")
    assert all((one[name] == two[name]).all() for name in one)
    assert reports[0]["metrics"]["validation"] != reports[1]["metrics"]["validation"]
    assert reports[0]["rows"] == {"train": 27, "validation": 3}


def layouts(folder):
    """The same operator in every layout that the card names, and what `predict` must give back."""
    rows = dict(X_train0=np.repeat(U, 5, 0), X_train1=np.tile(X, (30, 1)), y_train=S.reshape(-1, 1))
    together = dict(u=U, x=X, s=S)
    grid = dict(x=U, y=np.cumsum(U, 1).astype("f4"))
    for name, arrays, key, shape in (
        ("rows", rows, "s", (150, 1)),
        ("together", together, "s", (30, 5)),
        ("grid", grid, "y", (30, 6)),
    ):
        np.savez(folder / f"{name}.npz", **arrays)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for each, value in arrays.items():
                file[each] = value
        yield name, key, shape


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_every_layout_is_fitted_and_predicted(recipe, tmp_path, ending):
    for name, key, shape in layouts(tmp_path):
        path, model = tmp_path / f"{name}{ending}", tmp_path / f"{name}{ending}.model"
        report = fit_files(recipe, path, model, settings={**SETTINGS, "steps": 400, "lr": 0.01}, test=path)
        assert report["metrics"]["test"]["relative_l2"] < 0.5
        predict_files(recipe, model, path, tmp_path / "out.npz")
        found = np.load(tmp_path / "out.npz")
        assert found[key].size == np.prod(shape), name
        assert isinstance(DeepONet.from_pretrained(model), DeepONet)


def test_predictions_are_in_the_users_units(recipe, tmp_path):
    """Outputs of mean 1,000 come back around 1,000, at the score that fit told."""
    np.savez(tmp_path / "far.npz", u=U, x=X, s=1000 + 10 * S)
    report = fit_files(recipe, tmp_path / "far.npz", tmp_path / "m", settings={**SETTINGS, "steps": 500, "lr": 0.01})
    predict_files(recipe, tmp_path / "m", tmp_path / "far.npz", tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")["s"]
    error = np.linalg.norm(found[:27] - (1000 + 10 * S)[:27]) / np.linalg.norm((1000 + 10 * S)[:27])
    assert error < 0.02
    per_function = np.linalg.norm(found - (1000 + 10 * S), axis=1) / np.linalg.norm(1000 + 10 * S, axis=1)
    assert per_function[:27].mean() == pytest.approx(report["metrics"]["train"]["relative_l2"], rel=0.05)


def test_the_model_card_holds_the_scores(recipe, pairs, tmp_path):
    report = fit_files(recipe, pairs, tmp_path / "m", settings=SETTINGS)
    text = (tmp_path / "m" / "README.md").read_text()
    stored = json.loads((tmp_path / "m" / "recipe.json").read_text())
    assert stored["metrics"] == report["metrics"]
    assert f"{report['metrics']['validation']['relative_l2']:.4g}" in text
    from huggingface_hub import ModelCard

    assert ModelCard(text).data.library_name == "paperworks"


def test_a_recipe_is_immutable(recipe):
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.slug = "other"
