"""MgNO on a user's PDE files: the boundary and the levels are taken from them, other grids are predicted."""

import numpy as np
import pytest
import torch

from paperworks.errors import SettingError
from paperworks.operators.mgno.recipe import recipe
from paperworks.operators.pde_data import simulate
from paperworks.training.recipe import fit_files, predict_files

SETTINGS = {"hidden_channels": 4, "layers": 1, "batch_size": 4, "steps": 3}


def described(**changes):
    told = dict(kind="static", in_channels=2, out_channels=1, space=[32, 32], bc=["dirichlet", "dirichlet"])
    return told | changes


@pytest.mark.parametrize(
    ("bc", "boundary"),
    [("periodic", "periodic"), ("wall", "neumann"), ("dirichlet", "dirichlet"), ("unknown", "dirichlet")],
)
def test_boundary_is_the_files(bc, boundary):
    net = recipe.build(described(bc=[bc, bc]), recipe.settings)
    assert net.cycles[0].boundary == boundary
    net = recipe.build(described(bc=[bc, bc]), {**recipe.settings, "boundary": "neumann"})
    assert net.cycles[0].boundary == "neumann"


@pytest.mark.parametrize(("space", "levels"), [((32, 32), 4), ((33,), 5), ((16, 64), 3), ((130, 160), 6), ((4, 4), 1)])
def test_levels_follow_the_grid(space, levels):
    net = recipe.build(described(space=list(space), bc=["periodic"] * len(space)), recipe.settings)
    assert net.cycles[0].n_levels == levels
    assert net(torch.randn(1, 2, *space)).shape == (1, 1, *space)


def test_a_time_stepper_starts_from_the_last_state():
    net = recipe.build(described(kind="series", in_channels=1), recipe.settings)
    torch.nn.init.zeros_(net.head.weight)
    u = torch.randn(2, 1, 32, 32)
    assert torch.equal(net(u), u)


def test_settings_that_cannot_be_are_said():
    with pytest.raises(SettingError, match="one of dirichlet"):
        recipe.build(described(), {**recipe.settings, "boundary": "open"})


def test_fits_coefficients_to_pressures_and_predicts_on_a_finer_grid(tmp_path):
    for name, size in (("coarse", 8), ("fine", 15)):
        data = simulate("darcy", 8, seed=0, size=size, n_modes=8)
        np.savez(tmp_path / f"{name}.npz", a=data.inputs[:, 0].numpy(), u=data.fields[:, 0, 0].numpy())
    fit_files(recipe, tmp_path / "coarse.npz", tmp_path / "model", settings=SETTINGS)
    out = tmp_path / "predicted.npz"
    assert predict_files(recipe, tmp_path / "model", tmp_path / "fine.npz", out)["count"] == 8
    with np.load(out) as made:
        found = [made[name] for name in made.files if made[name].shape[-2:] == (15, 15) and name != "a"]
    assert found
    assert all(np.isfinite(field).all() for field in found)
