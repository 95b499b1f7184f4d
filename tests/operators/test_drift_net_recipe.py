import numpy as np
import pytest

from paperworks.errors import DataFileError
from paperworks.operators import save_fields, simulate
from paperworks.operators.drift_net.recipe import build, recipe
from paperworks.training.recipe import fit_files, predict_files

SETTINGS = dict(in_channels=1, out_channels=1, bc=["periodic"] * 2)


@pytest.mark.parametrize(("size", "stages"), [(4, 1), (8, 2), (12, 1), (16, 3), (32, 3)])
def test_stages_follow_the_grid_and_padding_the_boundary(size, stages):
    net = build({**SETTINGS, "space": [size, size]}, recipe.settings)
    assert len(net.encoder) == stages
    assert net.recovery.padding == "circular"
    assert not net.time_conditioned
    walls = build({**SETTINGS, "space": [size, size], "bc": ["wall", "periodic"]}, recipe.settings)
    assert walls.recovery.padding == "zeros"


@pytest.mark.parametrize("space", [[16, 12], [15, 15], [16], [8, 8, 8]])
def test_grids_it_cannot_take_are_refused_with_what_to_do(space):
    with pytest.raises(DataFileError, match="square"):
        build({**SETTINGS, "space": space}, recipe.settings)


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["spectral", "window"])
def test_a_stepper_learns_from_trajectories_and_writes_rollouts(tmp_path, mixer):
    flow = simulate("decaying_turbulence", 12, seed=0, size=8, frames=4, interval=0.1, simulated_size=16)
    save_fields(flow, tmp_path / "flow.npz")
    settings = dict(steps=60, embed_dim=16, depth=1, lr=5e-3, batch_size=8, mixer=mixer)
    fit_files(recipe, tmp_path / "flow.npz", tmp_path / "model", settings=settings)
    assert predict_files(recipe, tmp_path / "model", tmp_path / "flow.npz", tmp_path / "out.npz")["count"] == 12
    with np.load(tmp_path / "out.npz") as written:
        guess = written["fields"]
    truth = flow.fields.numpy()
    assert guess.shape == truth.shape
    assert np.array_equal(guess[:, 0], truth[:, 0])
    assert np.abs(guess[:, 1] - truth[:, 1]).mean() < 0.8 * np.abs(truth[:, 1]).mean()
