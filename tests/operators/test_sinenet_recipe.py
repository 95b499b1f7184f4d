"""SineNet on a user's files: padding follows the data, impossible grids are refused, predictions keep the layout."""

import numpy as np
import pytest
import torch

from paperworks.errors import SettingError
from paperworks.operators.sinenet.recipe import build, recipe
from paperworks.training.recipe import fit_files, predict_files

DESCRIPTION = dict(in_channels=3, out_channels=2, space=[16, 32], bc=["periodic", "periodic"])


def built(description=None, **settings):
    small = {**recipe.settings, "hidden": 4, "waves": 2, "growth": 1.2}
    with torch.device("meta"):
        return build(DESCRIPTION | (description or {}), small | settings)


def test_padding_follows_the_boundary():
    def circular(net):
        return net.image_proj.padding == (0, 0)  # then the ring is laid around by the network

    assert circular(built())
    assert not circular(built({"bc": ["periodic", "wall"]}))
    assert not circular(built(padding="zeros"))
    assert circular(built({"bc": ["unknown", "unknown"]}, padding="circular"))
    assert built().final.out_channels == 2


@pytest.mark.parametrize(
    ("space", "words"),
    [([64], "have 1"), ([12, 32], "levels=2"), ([15, 32], "even number"), ([8, 8, 8], "have 3")],
)
def test_grids_that_do_not_fit_are_refused_with_advice(space, words):
    with pytest.raises(SettingError, match=words):
        built({"space": space})


def test_a_fitted_flow_is_predicted_in_the_files_layout(tmp_path):
    x = 2 * np.pi * np.arange(8) / 8
    phase = np.random.default_rng(0).uniform(0, 2 * np.pi, (6, 1, 1, 1, 1))
    waves = np.sin(x[:, None] + x + phase - 0.5 * np.arange(4)[:, None, None, None])
    np.savez(tmp_path / "flow.npz", fields=(100 + 5 * waves).astype("f4"), bc=["periodic", "periodic"])
    settings = dict(hidden=4, waves=1, growth=1.5, levels=2, steps=120, batch_size=8, lr=5e-3)
    report = fit_files(recipe, tmp_path / "flow.npz", tmp_path / "model", settings=settings)
    scores = report["metrics"]["validation"]
    assert scores["relative_l2"] < 0.02  # of fields about 100: no more than a third of the wave
    predict_files(recipe, tmp_path / "model", tmp_path / "flow.npz", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as made:
        assert made["fields"].shape == (6, 4, 1, 8, 8)
        assert np.allclose(made["fields"][:, 0], 100 + 5 * waves[:, 0], atol=1e-3)
