"""The recipe fits on one grid and predicts on another; the study's functions exist on every grid."""

import numpy as np
import pytest
import torch

from paperworks.errors import SettingError
from paperworks.operators.nn_to_no import ResidualOperator
from paperworks.operators.nn_to_no.recipe import recipe
from paperworks.operators.nn_to_no.study import batches_on
from paperworks.operators.nn_to_no.task import Pairs, burgers_pairs, fourier_series, reaction_pairs
from paperworks.training.recipe import fit_files, predict_files

SETTINGS = {"steps": 60, "batch_size": 16, "width": 8, "depth": 1, "lr": 1e-2}


def shifted(folder, points, name, n=24):
    """Functions and their translations by a quarter."""
    u = fourier_series(n, points, seed=5, modes=(1, 3)).numpy().astype("f4")
    np.savez(folder / name, x=u, y=np.roll(u, points // 4, axis=1) if n > 4 else u)
    return folder / name


@pytest.mark.slow
def test_fitted_on_one_grid_it_predicts_on_a_finer_one(tmp_path):
    fitted = fit_files(recipe, shifted(tmp_path, 16, "coarse.npz"), tmp_path / "model", settings=SETTINGS)
    assert fitted["metrics"]["validation"]["relative_l2"] < 1.5
    model = ResidualOperator.from_pretrained(tmp_path / "model")
    assert model.convs[0].spacing == (2 / 16,)
    for points, name in ((16, "coarse.npz"), (64, "fine.npz")):
        predict_files(recipe, tmp_path / "model", shifted(tmp_path, points, name), tmp_path / f"out{points}.npz")
    coarse, fine = (np.load(tmp_path / f"out{n}.npz") for n in (16, 64))
    name = next(name for name in coarse.files if coarse[name].shape[-1] == 16 and name != "x")
    a, b = coarse[name].reshape(24, 16), fine[name].reshape(24, 64)[:, ::4]
    assert np.abs(a - b).max() < 0.15 * np.abs(a).max()


@pytest.mark.parametrize("conv", ["integral", "differential", "spectral", "pixel"])
def test_every_kind_in_two_dimensions(conv):
    settings = {**recipe.settings, "conv": conv, "width": 4, "depth": 1, "n_modes": 3}
    told = {"in_channels": 2, "out_channels": 1, "space": [12, 18], "bc": ["periodic", "periodic"]}
    assert recipe.build(told, settings)(torch.randn(2, 2, 24, 36)).shape == (2, 1, 24, 36)
    walls = recipe.build({**told, "bc": ["dirichlet", "periodic"]}, {**settings, "conv": "integral"})
    assert walls.convs[0].padding_mode == "replicate"
    assert walls(torch.ones(1, 2, 12, 18)).std() > 1e-3, "between walls a point knows where it is"
    everywhere = recipe.build(told, {**settings, "conv": "integral"})
    assert everywhere(torch.ones(1, 2, 12, 18)).std() < 1e-6, "on a torus no point is special"
    with pytest.raises(SettingError, match="one of integral, differential"):
        recipe.build(told, {**settings, "conv": "hats"})


def test_the_same_functions_on_every_grid():
    fine = fourier_series(3, 64, seed=1)
    torch.testing.assert_close(fine[:, ::4], fourier_series(3, 16, seed=1), rtol=0, atol=0.02)  # scaled on each grid
    torch.testing.assert_close(fine.square().mean(1).sqrt(), torch.full((3,), 0.3, dtype=torch.float64))
    torch.testing.assert_close(fourier_series(5, 64, seed=1)[:3], fine)
    modes = torch.fft.rfft(fourier_series(2, 64, seed=1, modes=(3, 5))).abs().amax(0)
    assert set((modes > 1e-9).nonzero().flatten().tolist()) == {3, 4, 5}


def test_burgers_pairs_are_solved_where_they_say():
    coarse, fine = burgers_pairs(2, 0, points=64, solved_on=128), burgers_pairs(2, 0, points=64, solved_on=256)
    torch.testing.assert_close(coarse.outputs, fine.outputs, rtol=0, atol=1e-4)
    assert abs(float(fine.outputs.mean() - fine.inputs.mean())) < 1e-6  # mass is kept
    assert fine.outputs.square().sum() < fine.inputs.square().sum()


def test_reactions_are_exact():
    """Against many small steps of u' = u - u^3."""
    pairs = reaction_pairs(2, 3, points=128, fine=(34, 60))
    u = pairs.inputs.double()
    for _ in range(2_000):
        middle = u + 0.00025 * (u - u**3)
        u = u + 0.0005 * (middle - middle**3)
    torch.testing.assert_close(pairs.outputs.double(), u, rtol=1e-5, atol=1e-5)
    assert torch.fft.rfft(pairs.inputs).abs()[:, 34:61].min() > 1e-3
    assert pairs.on(32)[0].shape == (2, 1, 32)
    assert len(pairs.rows(1, 2).inputs) == 1


def test_a_batch_has_one_grid_and_is_a_function_of_the_step():
    pairs = Pairs(*torch.randn(2, 10, 64).unbind(0))
    batches = batches_on(pairs, [16, 32, 64], 4, seed=3)
    sizes = {batches(step)[0].shape[-1] for step in range(30)}
    assert sizes == {16, 32, 64}
    again = batches_on(pairs, [16, 32, 64], 4, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(batches(7), again(7), strict=True))
    assert len(batches(2)[0]) == 4
