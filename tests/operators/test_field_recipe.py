"""The recipe that operator models share: normalised rows, relative errors, rollouts, and predictions that come back."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from paperworks.errors import DataFileError, SettingError
from paperworks.nn import Pretrained
from paperworks.operators import field_recipe as module
from paperworks.operators.field_files import open_fields
from paperworks.operators.field_recipe import FieldRows, field_recipe, read_fields
from paperworks.operators.field_writing import save_fields
from paperworks.operators.pde_data import Fields, simulate
from paperworks.training.recipe import fit_files, predict_files, read_recipe

SETTINGS = {"steps": 30, "batch_size": 8}


class Toy(nn.Module, Pretrained, tags=["test"]):
    """One circular convolution."""

    def __init__(self, dims: int = 2, in_channels: int = 1, out_channels: int = 1):
        super().__init__()
        convolution = (nn.Conv1d, nn.Conv2d)[dims - 1]
        self.layer = convolution(in_channels, out_channels, 5, padding=2, padding_mode="circular")

    def forward(self, x):
        return self.layer(x)


def build(description, settings):
    return Toy(len(description["space"]), description["in_channels"], description["out_channels"])


drawing = field_recipe("toy", Toy, build, any_size=True)
recipe = replace(drawing, pictures=None)  # pictures take longer than these fits


def saved(folder, problem="burgers", n=12, ending=".npz", **more):
    path = folder / f"{problem}{ending}"
    save_fields(simulate(problem, n, seed=0, size=16, **more), path)
    return path


def read(path, **settings):
    return read_fields(path, {**recipe.settings, **settings}, None)


SERIES = dict(frames=5, interval=0.05, simulated_size=32, nu=0.01)


def test_static_rows_are_inputs_and_solutions_normalised_on_the_training_part(tmp_path):
    path = saved(tmp_path, "darcy")
    data, d = read(path), read(path).description
    assert (d["kind"], d["in_channels"], d["out_channels"], d["space"]) == ("static", 1, 1, [16, 16])
    assert (data.train.count, data.validation.count) == (11, 1)
    x, y, size = data.train.rows[list(range(11))]
    for value in (x, y):
        assert abs(float(value.mean())) < 1e-5
        assert float(value.std(correction=0)) == pytest.approx(1, abs=1e-5)
    whole = open_fields(path)[:]
    truth = whole.fields[:11, 0]
    torch.testing.assert_close(data.train.rows.restore(y), truth)
    torch.testing.assert_close(size * d["std"][0], truth.flatten(1).norm(dim=1))
    changed = whole.fields.clone()
    changed[11:] += 1000  # the validation sample has no say
    save_fields(
        Fields(
            changed,
            *[getattr(whole, n) for n in ("coords", "t", "params", "channel_names", "bc", "inputs", "input_names")],
        ),
        path,
    )
    assert read(path).description == d


@pytest.mark.parametrize("history", [1, 3])
def test_series_rows_are_frames_and_the_next_one(tmp_path, history):
    path = saved(tmp_path, **SERIES)
    data = read(path, history=history)
    rows = data.train.rows
    assert len(rows) == 11 * (5 - history)
    assert data.description["in_channels"] == history
    fields = open_fields(path)[:].fields
    x, y, _ = rows[[0, 5 - history, len(rows) - 1]]
    for row, (sample, start) in enumerate([(0, 0), (1, 0), (10, 4 - history)]):
        torch.testing.assert_close(rows.restore(x[row][:, None])[:, 0], fields[sample, start : start + history, 0])
        torch.testing.assert_close(rows.restore(y[row]), fields[sample, start + history])


def test_parameters_that_vary_and_static_inputs_become_channels(tmp_path):
    path = saved(tmp_path, **{**SERIES, "nu": (0.01, 0.1)})
    data = read(path)
    assert data.description["in_channels"] == 2
    x, *_ = data.train.rows[list(range(len(data.train.rows)))]
    assert torch.equal(x[:, 1], x[:, 1, :1].expand(-1, 16))
    assert abs(float(x[:, 1].mean())) < 1e-5
    whole = open_fields(path)[:]
    assert read(saved(tmp_path, **SERIES)).description["params"] is False
    mask = torch.rand(len(whole), 2, 16)
    with_inputs = Fields(
        whole.fields, whole.coords, whole.t, whole.params, whole.channel_names, whole.bc, mask, ("a", "b"), ("nu",)
    )
    save_fields(with_inputs, tmp_path / "inputs.h5")
    assert read(tmp_path / "inputs.h5").description["in_channels"] == 4


@pytest.mark.parametrize("problem", ["darcy", "burgers"])
def test_rows_read_from_the_disk_are_those_held_in_memory(tmp_path, monkeypatch, problem):
    path = saved(tmp_path, problem, ending=".h5", **(SERIES if problem == "burgers" else {}))
    held = read(path).train.rows
    lazy = read(path).train.rows
    chosen = [3, 0, len(held) - 1, 3]
    expected = held[chosen]
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    for a, b in zip(lazy[chosen], expected, strict=True):
        assert torch.equal(a, b)
    assert held.memory is not None
    assert lazy.memory is None


class Shift(nn.Module):
    """u(x - c): exact for advection by whole cells."""

    def __init__(self, cells=0):
        super().__init__()
        self.cells, self.weight = cells, nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x.roll(self.cells, -1) + self.weight


def test_scores_of_a_known_model(tmp_path):
    """Advection by two cells a frame: the exact step has no error; standing still has that of the shift, rolled out."""
    path = saved(tmp_path, "advection", n=6, initial="gaussian", beta=1.0, interval=2 / 16, frames=6)
    rows = FieldRows(open_fields(path), list(range(6)), read(path).description)
    apply = lambda net, x: net(x)  # noqa: E731
    exact = module.field_scores(Shift(2), rows, apply)
    assert exact["relative_l2"] < 1e-5
    assert exact["rollout_relative_l2"] < 1e-5
    still = module.field_scores(Shift(0), rows, apply)
    u = open_fields(path)[:].fields[:, :, 0].numpy()
    norm = np.linalg.norm(u, axis=-1)
    assert still["relative_l2"] == pytest.approx(
        (np.linalg.norm(u[:, 1:] - u[:, :-1], axis=-1) / norm[:, 1:]).mean(), rel=1e-4
    )
    rolled = np.linalg.norm(u[:, 1:] - u[:, :1], axis=-1) / norm[:, 1:]
    assert still["rollout_relative_l2"] == pytest.approx(rolled.mean(), rel=1e-4)
    told = module.roll_out(Shift(2), rows, [0, 4], 6, apply)
    torch.testing.assert_close(told, open_fields(path)[[0, 4]].fields, rtol=0, atol=1e-5)


def test_a_rollout_that_leaves_the_numbers_is_a_large_error(tmp_path):
    path = saved(tmp_path, **SERIES)
    rows = FieldRows(open_fields(path), [0, 1], read(path).description)
    scores = module.field_scores(Shift(), rows, lambda net, x: net(x) * 1e30)
    assert scores["rollout_relative_l2"] > 1e5
    assert np.isfinite(scores["rollout_relative_l2"])


def test_several_channels_weigh_alike():
    guess, target = torch.zeros(2, 2, 8), torch.ones(2, 2, 8)
    size = target.flatten(1).norm(dim=1)
    assert module.relative_l2(guess, target, size).tolist() == pytest.approx([1, 1])


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".npz", ".h5"])
@pytest.mark.parametrize("problem", ["darcy", "burgers"])
def test_fit_and_predict_come_back_in_the_same_layout(tmp_path, problem, ending):
    source = saved(tmp_path, problem, ending=ending, **(SERIES if problem == "burgers" else {}))
    report = fit_files(drawing, source, tmp_path / "model", settings=SETTINGS, test=source)
    assert set(report["metrics"]["test"]) >= {"relative_l2"}
    assert ("rollout_relative_l2" in report["metrics"]["test"]) == (problem == "burgers")
    titles = " ".join(picture["title"].lower() for picture in report["pictures"])
    assert "one sample" in titles
    assert "spectrum" in titles
    assert ("rollout" in titles) == (problem == "burgers")
    predict_files(recipe, tmp_path / "model", source, tmp_path / f"out{ending}")
    truth, told = open_fields(source)[:], open_fields(tmp_path / f"out{ending}")[:]
    assert told.fields.shape == truth.fields.shape
    assert told.channel_names == truth.channel_names
    if problem == "burgers":
        assert torch.equal(told.fields[:, 0], truth.fields[:, 0])
        return
    d, net = read_recipe(tmp_path / "model")["data"], Toy.from_pretrained(tmp_path / "model")
    with torch.no_grad():  # from the stored description alone
        guess = net((truth.inputs - d["input_mean"][0]) / d["input_std"][0]) * d["std"][0] + d["mean"][0]
    torch.testing.assert_close(told.fields[:, 0], guess)
    error = ((guess - truth.fields[:, 0]).flatten(1).norm(dim=1) / truth.fields.flatten(1).norm(dim=1)).mean()
    assert report["metrics"]["test"]["relative_l2"] == pytest.approx(float(error), rel=1e-4)


@pytest.mark.slow
def test_training_lowers_the_error(tmp_path):
    source = saved(tmp_path, **SERIES)
    errors = []
    for steps in (1, 300):
        report = fit_files(recipe, source, tmp_path / f"{steps}", settings={"steps": steps, "lr": 0.01})
        errors.append(report["metrics"]["validation"]["relative_l2"])
    assert errors[1] < 0.25 < errors[0]


def test_pdebench_files_are_fitted_and_predicted_in_their_own_names(tmp_path):
    data = simulate("shallow_water", 6, seed=0, size=16, frames=4)
    with h5py.File(tmp_path / "swe.h5", "w") as file:
        for i, sample in enumerate(data.fields.numpy()):
            file[f"{i:04d}/data"] = np.moveaxis(sample, 1, -1)
            file[f"{i:04d}/grid/t"] = data.t.numpy()
    fit_files(recipe, tmp_path / "swe.h5", tmp_path / "model", settings=SETTINGS)
    predict_files(recipe, tmp_path / "model", tmp_path / "swe.h5", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["0005/data"].shape == (4, 16, 16, 1)
        assert np.array_equal(file["0003/data"][0, :, :, 0], data.fields[3, 0, 0].numpy())
        assert "0002/grid/t" in file


def test_other_grids_and_files_of_inputs_or_first_frames_are_predicted(tmp_path):
    source = saved(tmp_path, "darcy")
    fit_files(recipe, source, tmp_path / "model", settings=SETTINGS)
    finer = simulate("darcy", 2, seed=1, size=24)
    np.savez(tmp_path / "new.npz", inputs=finer.inputs.numpy(), input_names=np.array(["coefficient"]))
    predict_files(recipe, tmp_path / "model", tmp_path / "new.npz", tmp_path / "out.npz")
    assert np.load(tmp_path / "out.npz")["fields"].shape == (2, 1, 1, 24, 24)
    source = saved(tmp_path, **SERIES)
    fit_files(recipe, source, tmp_path / "stepper", settings=SETTINGS)
    first = open_fields(source)[:].fields[:3, :1].numpy()
    np.savez(tmp_path / "first.npz", fields=first, channel_names=np.array(["u"]))
    predict_files(recipe, tmp_path / "stepper", tmp_path / "first.npz", tmp_path / "out.npz")
    out = np.load(tmp_path / "out.npz")["fields"]
    assert out.shape == (3, 5, 1, 16)  # as many frames as it was fitted to
    assert np.array_equal(out[:, :1], first)


def test_what_cannot_be_learned_or_predicted_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 12))
    cases = [
        ({"x": a}, {}, DataFileError, "inputs but nothing to learn from: expected 'y' too"),
        ({"x": a[:1], "y": a[:1]}, {}, DataFileError, "holds 1 sample; at least 2"),
        ({"fields": a[:, None, None]}, {}, DataFileError, "one frame and no inputs"),
        ({"x": a, "y": rng.normal(size=(4, 3, 12))}, {"history": 3}, DataFileError, "3 frames; with --set history=3"),
        ({"x": a, "y": rng.normal(size=(4, 3, 12))}, {"history": 0}, SettingError, "history=0"),
    ]
    for content, settings, kind, told in cases:
        np.savez(tmp_path / "a.npz", **content)
        with pytest.raises(kind, match=told):
            fit_files(recipe, tmp_path / "a.npz", tmp_path / "model", settings=settings)
        assert not (tmp_path / "model").exists()
    fixed = replace(field_recipe("toy", Toy, build), pictures=None)
    source = saved(tmp_path, "darcy")
    fit_files(fixed, source, tmp_path / "model", settings=SETTINGS)
    np.savez(tmp_path / "other.npz", x=rng.normal(size=(2, 9, 9)))
    save_fields(simulate("darcy", 2, seed=0, size=12), tmp_path / "coarse.npz")
    series = saved(tmp_path, **SERIES)
    for path, told in (
        (tmp_path / "other.npz", r"input names \['x'\]; the model was fitted on \['coefficient'\]"),
        (tmp_path / "coarse.npz", r"a grid of \[12, 12\] points; the model was fitted on \[16, 16\]"),
        (series, "the model was fitted on"),
    ):
        with pytest.raises(DataFileError, match=told):
            predict_files(fixed, tmp_path / "model", path, tmp_path / "out.npz")
    with pytest.raises(DataFileError, match=r"give --out predictions\.npz"):
        predict_files(fixed, tmp_path / "model", source, tmp_path / "out.csv")
    assert not (tmp_path / "out.npz").exists()


def test_models_with_a_call_of_their_own(tmp_path):
    wrapped = replace(field_recipe("toy", Toy, build, forward=lambda net, x: x[:, :1] + net(x)), pictures=None)
    source = saved(tmp_path, **SERIES)
    report = fit_files(wrapped, source, tmp_path / "model", settings={**SETTINGS, "lr": 1e-8})
    assert report["metrics"]["train"]["relative_l2"] < 2


REAL = next(
    (above / "shared/data/pde" for above in Path(__file__).parents if (above / "shared/data/pde").is_dir()), None
)


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="needs the small real sets in ../shared/data/pde")
@pytest.mark.parametrize(
    ("train", "test", "best"), [("darcy_train_16", "darcy_test_32", 0.9), ("burgers_train_16", "burgers_test_16", 0.3)]
)
def test_the_real_small_sets(tmp_path, train, test, best):
    """Darcy flow and Burgers of the neuraloperator repository; one convolution is better than nothing on both."""
    given, settings = REAL / f"{test}.npz", {"steps": 150, "lr": 0.01}
    report = fit_files(recipe, REAL / f"{train}.npz", tmp_path / "model", settings=settings, test=given)
    assert report["metrics"]["test"]["relative_l2"] < best
    predict_files(recipe, tmp_path / "model", given, tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as out, np.load(given) as truth:
        assert out["y"].shape == truth["y"].shape
        assert np.array_equal(out["x"], truth["x"])
