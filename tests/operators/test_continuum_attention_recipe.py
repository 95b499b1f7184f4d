"""Continuum attention on a user's files: any grid that the patches cut, and errors that say what to do."""

import numpy as np
import pytest

from paperworks.errors import DataFileError, SettingError
from paperworks.operators.continuum_attention.recipe import recipe
from paperworks.training.recipe import fit_files, predict_files

SMALL = dict(d_model=8, heads=2, layers=1, ff=8, steps=2, batch_size=4)


def fields(path, n, *space):
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.normal(size=(n, *space)), y=rng.normal(size=(n, *space)))
    return path


def test_fitted_on_one_grid_and_applied_on_a_finer_one(tmp_path):
    report = fit_files(recipe, fields(tmp_path / "a.npz", 6, 16, 16), tmp_path / "model", settings=SMALL)
    assert 0 < report["metrics"]["validation"]["relative_l2"] < 10
    finer = fields(tmp_path / "b.npz", 3, 32, 48)
    assert predict_files(recipe, tmp_path / "model", finer, tmp_path / "out.npz")["count"] == 3
    with np.load(tmp_path / "out.npz") as written:
        assert written["y"].shape == (3, 32, 48)
        assert np.isfinite(written["y"]).all()


@pytest.mark.parametrize(
    ("space", "options", "kind", "told"),
    [
        ((18, 16), {}, SettingError, "patches=4 does not divide a grid of 18 x 16 points; there fit: 2"),
        ((16, 16), {"modes": 3}, SettingError, "patches of 4 points carry at most 2"),
        ((16,), {}, DataFileError, "fields on 1 axes of space; this operator takes 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(tmp_path, space, options, kind, told):
    source = fields(tmp_path / "a.npz", 6, *space)
    with pytest.raises(kind, match=told):
        fit_files(recipe, source, tmp_path / "model", settings={**SMALL, **options})
