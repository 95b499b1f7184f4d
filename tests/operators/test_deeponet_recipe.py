"""DeepONet on a user's files: layouts that mean the same are read the same, in the user's units, or refused."""

import h5py
import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError
from paperworks.operators import DeepONet
from paperworks.operators.deeponet.recipe import build_on_fields, forward_on_fields, recipe
from paperworks.training.recipe import fit_files, predict_files, read_recipe

RNG = np.random.default_rng(0)
U, X = RNG.normal(2, 3, size=(30, 6)).astype("f4"), np.linspace(1, 3, 5, dtype="f4")[:, None]
S = (np.cumsum(U, 1)[:, :5] * 3 + 20).astype("f4")
TOGETHER = dict(u=U, x=X, s=S)
ONE_A_ROW = dict(X_train0=np.repeat(U, 5, 0), X_train1=np.tile(X, (30, 1)), y_train=S.reshape(-1, 1))
SETTINGS = {"steps": 20, "width": 8, "depth": 2, "batch_size": 16}


def write(path, arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value
    return path


def read(folder, saved=None, **arrays):
    return recipe.read(write(folder / "read.npz", arrays), recipe.settings, saved)


def rows(part):
    """All rows of a part, whichever way it keeps them."""
    return tuple(part.rows) if isinstance(part.rows, tuple) else part.rows[list(range(len(part.rows)))]


def assert_alike(one, other):
    assert one.description.keys() == other.description.keys()
    for name in one.description.keys() - {"layout"}:
        assert one.description[name] == pytest.approx(other.description[name]), name
    for part, counterpart in ((one.train, other.train), (one.validation, other.validation)):
        for a, b in zip(rows(part), rows(counterpart), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


def test_shared_locations_are_the_product_written_row_by_row(tmp_path):
    together, one_a_row = read(tmp_path, **TOGETHER), read(tmp_path, **ONE_A_ROW)
    assert (together.description["layout"], one_a_row.description["layout"]) == ("aligned", "triples")
    for data in (together, one_a_row):
        assert len(rows(data.train)[0]) == 27 * 5
    assert_alike(together, one_a_row)


@pytest.mark.parametrize(
    "names", [("u", "x", "y"), ("u", "y", "s"), ("X_train0", "X_train1", "y_train"), ("X_test0", "X_test1", "y_test")]
)
def test_every_way_to_name_three_arrays_reads_alike(tmp_path, names):
    assert_alike(read(tmp_path, **dict(zip(names, (U, X, S), strict=True))), read(tmp_path, **TOGETHER))


def test_locations_may_be_a_plain_list(tmp_path):
    assert_alike(read(tmp_path, u=U, x=X[:, 0], s=S), read(tmp_path, **TOGETHER))


def test_training_rows_are_standardised_and_validation_rows_have_no_say(tmp_path):
    data = read(tmp_path, **TOGETHER)
    u, x, s = rows(data.train)
    for value in (u, s):
        assert float(value.mean()) == pytest.approx(0, abs=1e-5)
        assert float(value.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert (float(x.min()), float(x.max())) == (0, 1)
    changed_u, changed_s = U.copy(), S.copy()
    changed_u[27:] += 1000
    changed_s[27:] -= 1000
    assert read(tmp_path, u=changed_u, x=X, s=changed_s).description == data.description


def test_what_never_changes_does_not_divide_by_zero(tmp_path):
    data = read(tmp_path, u=np.ones((4, 3)), x=np.full((2, 1), 7.0), s=np.full((4, 2), 5.0))
    assert all(torch.isfinite(value).all() for value in rows(data.train))


def test_a_grid_lies_on_the_unit_cube_at_i_over_n(tmp_path):
    fields = RNG.normal(size=(4, 2, 3))
    data = read(tmp_path, x=fields, y=fields + 1)
    assert data.description | {"layout": "grid", "sensors": 6, "dims": 2} == data.description
    located = data.train.rows.x * (torch.tensor(data.description["x_high"]) - torch.tensor(data.description["x_low"]))
    expected = [[i / 2, j / 3] for i in range(2) for j in range(3)]
    assert torch.allclose(located, torch.tensor(expected))
    order = rows(data.train)[2][:6, 0] * data.description["s_std"] + data.description["s_mean"]
    assert np.allclose(order, fields[0].ravel() + 1, atol=1e-5)


@pytest.mark.parametrize("arrays", [TOGETHER, ONE_A_ROW], ids=["together", "one a row"])
def test_npz_and_hdf5_are_fitted_to_the_same_bytes(tmp_path, arrays):
    models = []
    for ending in (".npz", ".h5"):
        models.append(tmp_path / f"model{ending}")
        fit_files(recipe, write(tmp_path / f"pairs{ending}", arrays), models[-1], settings=SETTINGS)
    assert len({(model / "model.safetensors").read_bytes() for model in models}) == 1


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    source = write(folder / "pairs.npz", TOGETHER)
    settings = {**SETTINGS, "steps": 400, "lr": 0.01}
    return folder / "model", fit_files(recipe, source, folder / "model", settings=settings, test=source)


def by_hand(folder, u, x):
    """What the loaded model says, in the units of the data, from `recipe.json` alone."""
    model, d = DeepONet.from_pretrained(folder), read_recipe(folder)["data"]
    low, high = np.float32(d["x_low"]), np.float32(d["x_high"])
    with torch.no_grad():
        located = torch.from_numpy((x - low) / (high - low))
        guess = model.grid(torch.from_numpy((u - np.float32(d["u_mean"])) / np.float32(d["u_std"])), located)[..., 0]
    return guess.numpy() * d["s_std"] + d["s_mean"]


def test_predictions_are_the_loaded_models_and_its_scores_are_those_told(fitted, tmp_path):
    folder, report = fitted
    predict_files(recipe, folder, write(tmp_path / "new.npz", dict(u=U, x=X)), tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    assert np.array_equal(found["x"], X)
    assert found["s"] == pytest.approx(by_hand(folder, U, X), rel=1e-4, abs=1e-4)
    relative = np.linalg.norm(found["s"] - S, axis=1) / np.linalg.norm(S, axis=1)
    assert report["metrics"]["test"]["relative_l2"] == pytest.approx(relative.mean(), rel=1e-3)
    assert report["metrics"]["test"]["mse"] == pytest.approx(np.square(found["s"] - S).mean(), rel=1e-3)


def test_what_was_learned_is_better_than_the_mean(fitted):
    _, report = fitted
    assert report["metrics"]["train"]["mse"] < 0.1 * S[:27].var()


def test_rows_at_places_of_their_own_are_predicted_as_on_shared_ones(fitted, tmp_path):
    folder, _ = fitted
    places = np.linspace(1, 3, 30, dtype="f4")[:, None]
    predict_files(recipe, folder, write(tmp_path / "new.npz", dict(X_test0=U, X_test1=places)), tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["s"][:, 0] == pytest.approx(
        np.diag(by_hand(folder, U, places)), rel=1e-4, abs=1e-4
    )


@pytest.mark.parametrize("channel", [False, True])
def test_predictions_on_a_grid_keep_its_shape(tmp_path, channel):
    fields = RNG.normal(size=(6, 3, 4)).astype("f4")
    arrays = dict(x=fields, y=fields[:, None] if channel else fields)
    source = write(tmp_path / "grid.npz", arrays)
    fit_files(recipe, source, tmp_path / "model", settings=SETTINGS)
    predict_files(recipe, tmp_path / "model", source, tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["y"].shape == arrays["y"].shape


def pde_file(path, kind):
    """Small files of the field: a time series of PDEBench, its Darcy flow, a folder of two channels of PDEArena."""
    series = np.cumsum(RNG.normal(size=(6, 4, 5, 8)), 1).astype("f4")
    if kind == "series":
        return write(path / "1D.hdf5", {"tensor": series[:, :, 0], "x-coordinate": np.arange(8.0)})
    if kind == "darcy":
        return write(path / "darcy.h5", {"nu": series[:, 0], "tensor": series[:, 1:2]})
    (path / "arena").mkdir()
    write(path / "arena" / "NS_train_0.h5", {"train/u": series, "train/vx": series + 1})
    return path / "arena"


@pytest.mark.parametrize(
    ("kind", "told", "shape"),
    [
        ("series", {"relative_l2", "rollout_relative_l2"}, {"tensor": (6, 4, 8)}),
        ("darcy", {"relative_l2"}, {"tensor": (6, 1, 5, 8), "nu": (6, 5, 8)}),
        ("arena", {"relative_l2", "rollout_relative_l2"}, {"train/u": (6, 4, 5, 8), "train/vx": (6, 4, 5, 8)}),
    ],
)
def test_files_of_the_field_are_fitted_and_predicted_in_their_own_layout(tmp_path, kind, told, shape):
    source = pde_file(tmp_path, kind)
    report = fit_files(recipe, source, tmp_path / "model", settings=SETTINGS, test=source)
    assert report["metrics"]["test"].keys() == told
    assert report["pictures"]
    predict_files(recipe, tmp_path / "model", source, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as out:
        assert {name: out[name].shape for name in shape} == shape


def test_a_net_asked_on_a_grid_is_the_net_asked_at_its_points():
    torch.manual_seed(0)
    description = {"in_channels": 2, "out_channels": 3, "space": [4, 5]}
    net = build_on_fields(description, recipe.settings)
    x = torch.randn(2, 2, 4, 5)
    found = forward_on_fields(net, x)
    at = torch.tensor([[2 / 4, 3 / 5]])
    torch.testing.assert_close(found[:, :, 2, 3], net(x.flatten(1), at.expand(2, 2)))


def test_what_can_be_learned_is_learned_from_a_file_of_the_field(tmp_path):
    x, (b, c) = np.arange(6) / 6, RNG.normal(size=(2, 60, 1, 1))
    a = (b * np.sin(2 * np.pi * x) + c * x[:, None]).astype("f4")
    source = write(tmp_path / "darcy.h5", {"nu": a, "tensor": (a[:, ::-1] * 2 + 1)[:, None]})
    settings = {**SETTINGS, "steps": 300, "width": 48, "depth": 1, "lr": 0.01}
    assert fit_files(recipe, source, tmp_path / "model", settings=settings)["metrics"]["train"]["relative_l2"] < 0.5


def broken_with(**changes):
    return {name: value for name, value in {**TOGETHER, **changes}.items() if value is not None}


HOLE = U.copy()
HOLE[4, 2] = np.nan


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (broken_with(s=S[:20]), r"'s' has shape \(20, 5\).*expected \(30, 5\) for shared locations"),
        (broken_with(s=S.T), r"'s' has shape \(5, 30\).*expected \(30, 5\)"),
        (broken_with(u=HOLE), "'u' holds 1 NaN or infinite values, the first at record 4"),
        (broken_with(s=None), "no outputs to learn from"),
        (broken_with(x=None, s=None), "'u' but no locations"),
        (broken_with(u=U[0]), r"'u' has shape \(6,\), expected 2 axes"),
        (broken_with(u=U[:1], s=S[:1]), "holds 1 function; at least 2"),
        (broken_with(x=np.ones((5, 1, 1))), r"'x' has shape \(5, 1, 1\), expected \(locations, dims\)"),
        (broken_with(u=U.astype("U5")), "'u' holds <U5, expected numbers"),
        (dict(x=U, y=U[:9]), "'x' holds 30 functions, 'y' 9"),
        (dict(x=U[0], y=U[0]), r"'x' has shape \(6,\), expected \(functions, ...grid\)"),
        (dict(inputs=U[:, None], outputs=S), "has inputs but nothing to learn from: expected 'fields' too"),
        (dict(ours=U, theirs=S), "has 'ours', 'theirs'; expected X_train0"),
        ({**ONE_A_ROW, "y_train": S.reshape(-1, 1)[:9]}, r"'y_train' has shape \(9, 1\).*one location a row"),
    ],
)
def test_files_laid_out_otherwise_are_refused(tmp_path, arrays, told):
    source = write(tmp_path / "pairs.npz", arrays)
    with pytest.raises(DataFileError, match=told) as error:
        fit_files(recipe, source, tmp_path / "model", settings=SETTINGS)
    assert str(source) in str(error.value)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (dict(u=U[:, :4], x=X), "4 sensors; the model was fitted on 6"),
        (dict(u=U, x=np.ones((5, 2))), "2 dims; the model was fitted on 1"),
    ],
)
def test_data_of_another_shape_than_the_models_is_refused(fitted, tmp_path, arrays, told):
    source = write(tmp_path / "new.npz", arrays)
    with pytest.raises(DataFileError, match=told):
        predict_files(recipe, fitted[0], source, tmp_path / "out.npz")


def test_predictions_go_to_npz_alone(fitted, tmp_path):
    source = write(tmp_path / "new.npz", TOGETHER)
    with pytest.raises(DataFileError, match=r"give --out predictions\.npz"):
        predict_files(recipe, fitted[0], source, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_time_series_of_the_fields_own_files_are_rolled_out_and_written_back(tmp_path):
    rng = np.random.default_rng(1)
    phase, x, t = rng.uniform(0, 6, (12, 1, 1)), np.arange(16) / 16, np.arange(5)[:, None]
    tensor = np.sin(2 * np.pi * x - 0.3 * t + phase).astype("f4")
    path = tmp_path / "1D_Advection.hdf5"
    with h5py.File(path, "w") as file:
        file["tensor"], file["x-coordinate"], file["t-coordinate"] = tensor, x, np.arange(6.0)
    settings = {"steps": 300, "batch_size": 16, "width": 32, "depth": 2}
    report = fit_files(recipe, path, tmp_path / "model", settings=settings, test=path)
    assert set(report["metrics"]["test"]) == {"relative_l2", "rollout_relative_l2"}
    assert report["metrics"]["test"]["rollout_relative_l2"] < 0.5
    assert "Rollout, u" in [picture["title"] for picture in report["pictures"]]
    assert predict_files(recipe, tmp_path / "model", path, tmp_path / "out.h5")["count"] == 12
    with h5py.File(tmp_path / "out.h5") as file:
        found = file["tensor"][:]
        assert file["t-coordinate"].shape == (6,)
    assert np.array_equal(found[:, 0], tensor[:, 0])
    error = np.linalg.norm(found - tensor, axis=2) / np.linalg.norm(tensor, axis=2)
    assert error[:, 1:].mean() == pytest.approx(report["metrics"]["test"]["rollout_relative_l2"], rel=0.05)


@pytest.mark.parametrize(
    ("names", "shape", "written"),
    [
        (("coeff", "sol"), (8, 8, 8), "sol"),
        (("a", "u"), (8, 16), "u"),
        (("inputs", "fields"), None, "fields"),
    ],
)
def test_pairs_of_other_names_are_fitted_as_fields(tmp_path, names, shape, written):
    rng = np.random.default_rng(0)
    given = rng.normal(size=shape or (8, 1, 8, 8)).astype("f4")
    wanted = given if shape else given[:, None]
    source = write(tmp_path / "pairs.npz", dict(zip(names, (given, wanted), strict=True)))
    report = fit_files(recipe, source, tmp_path / "model", settings=SETTINGS)
    assert set(report["metrics"]["validation"]) == {"relative_l2"}
    predict_files(recipe, tmp_path / "model", source, tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")[written].shape == wanted.shape
