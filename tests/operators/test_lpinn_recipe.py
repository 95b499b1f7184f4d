"""The Lagrangian PINN on a user's files: one start in several layouts, solved and scored, or refused in words."""

import csv
import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from paperworks.errors import DataFileError, PaperworksError, SettingError
from paperworks.gallery import figures
from paperworks.operators import EulerianPINN, LagrangianPINN
from paperworks.operators.field_writing import save_fields
from paperworks.operators.lpinn.recipe import recipe
from paperworks.operators.pde_data import Fields
from paperworks.training.recipe import fit_files, predict_files, read_recipe

X = np.linspace(0, 2 * np.pi, 32, endpoint=False, dtype="f4")
T = np.linspace(0.5, 1.5, 6, dtype="f4")
U = np.stack([2 + np.sin(X - 3 * (t - 0.5)) for t in T]).astype("f4")
SETTINGS = {"steps": 4, "batch_size": 32, "points": 200, "width": 8, "depth": 2, "viscosity": 0.0}


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def table(path, rows, header="x,u", delimiter=","):
    lines = [header, *(delimiter.join(f"{value:.7g}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def read(path, **settings):
    return recipe.read(path, {**recipe.settings, **SETTINGS, **settings}, None)


def same(one, other):
    assert one.description == pytest.approx(other.description)
    for a, b in zip(one.train.rows, other.train.rows, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_a_start_reads_alike_from_every_layout(tmp_path):
    plain = read(npz(tmp_path / "a.npz", x=X, u=U[0]))
    assert plain.description == pytest.approx(
        {"period": 2 * math.pi, "t_start": 0.0, "t_max": 1.0, "mean": 2.0, "method": "lagrangian"}
    )
    same(plain, read(npz(tmp_path / "b.npz", x=X, u0=U[0])))
    shuffled = np.random.default_rng(0).permutation(32)
    same(plain, read(table(tmp_path / "c.csv", np.stack([X, U[0]], 1)[shuffled])))
    same(plain, read(table(tmp_path / "d.csv", np.stack([U[0], X], 1), "u;x", ";")))


def test_states_over_time_read_alike_from_every_layout(tmp_path):
    together = read(npz(tmp_path / "a.npz", x=X, t=T, u=U))
    assert together.description["t_start"] == 0.5
    assert together.description["t_max"] == 1.0
    _, t, u = together.validation.rows.known
    assert np.array_equal(u, U)
    assert t.tolist() == pytest.approx((T - 0.5).tolist())
    long = [(x, t, w) for t, line in zip(T, U, strict=True) for x, w in zip(X, line, strict=True)]
    same(together, read(table(tmp_path / "b.csv", long[::-1], "x,t,u")))
    with h5py.File(tmp_path / "c.h5", "w") as file:  # PDEBench has one more time than states
        file["tensor"], file["x-coordinate"], file["t-coordinate"] = np.stack([0 * U, U]), X, np.append(T, 1.7)
    same(together, read(tmp_path / "c.h5", trajectory=1))


def test_one_of_many_trajectories_reads_alike_from_the_fields_own_layouts(tmp_path):
    """Evenly spaced places from 0 to 1, where a file does not say where they are."""
    together = read(npz(tmp_path / "a.npz", x=X / (2 * np.pi), t=T - T[0], u=U))
    pairs = dict(x=np.stack([0 * U[0], U[0]]), y=np.stack([0 * U, U]), visc=np.array([[0.01]]))  # neuraloperator's
    same(together, read(npz(tmp_path / "b.npz", **pairs), trajectory=1, frame_time=0.2))
    save_fields(
        Fields(
            torch.from_numpy(U)[None, :, None],
            (torch.arange(32) / 32,),
            torch.arange(6) / 5,
            torch.zeros(1, 0),
            ("u",),
            ("periodic",),
        ),
        tmp_path / "c.h5",
    )
    same(together, read(tmp_path / "c.h5"))
    given = dict(a=np.stack([U[0]] * 9), u=np.stack([U[1]] * 9))  # a map's pairs: the state that is given
    same(read(npz(tmp_path / "d.npz", x=X / (2 * np.pi), u=U[0])), read(npz(tmp_path / "e.npz", **given)))
    savemat(tmp_path / "f.mat", dict(x=X / (2 * np.pi), t=T - T[0], u=U))
    same(together, read(tmp_path / "f.mat"))
    with pytest.raises(DataFileError, match=r"6 states and no times; say --set frame_time"):
        read(tmp_path / "b.npz", trajectory=1)
    with pytest.raises(SettingError, match=r"trajectory=2: .* holds 2, from 0 to 1"):
        read(tmp_path / "b.npz", trajectory=2, frame_time=0.2)
    with pytest.raises(DataFileError, match=r"on 2 axes of space; one quantity on a line"):
        read(npz(tmp_path / "g.npz", x=np.ones((4, 16, 16)), y=np.ones((4, 16, 16))))


def test_pictures_show_the_known_states_the_measurements_and_the_characteristics(tmp_path):
    start = npz(tmp_path / "a.npz", x=X, t=T, u=U)
    points, _ = scattered(tmp_path / "points.csv")
    both = fit_files(recipe, start, tmp_path / "one", settings={**SETTINGS, "measurements": str(points)}, test=start)
    titles = [picture["title"] for picture in both["pictures"]]
    assert titles == ["The last state", "Spectrum", "Rollout", "Error as time goes on", "Characteristics"]
    truth = both["pictures"][0]["series"]["truth"]
    assert truth == pytest.approx(U[-1].tolist(), rel=1e-3)
    paths = both["pictures"][-1]["series"]
    assert len(paths) == 8
    assert all(path[0] == pytest.approx(2 * math.pi / 8 * i, abs=1e-3) for i, path in enumerate(paths.values()))
    settings = {**SETTINGS, "method": "eulerian", "period": 2 * math.pi}
    alone = fit_files(recipe, points, tmp_path / "two", settings=settings, test=points)
    assert [picture["title"] for picture in alone["pictures"]] == ["The solution", "Measurements"]
    for picture in (*both["pictures"], *alone["pictures"]):
        assert "<svg" in figures.picture(picture)


def test_later_states_are_never_learned_from(tmp_path):
    other = U.copy()
    other[1:] = 99
    one, two = (read(npz(tmp_path / "a.npz", x=X, t=T, u=u)) for u in (U, other))
    same(one, two)
    assert len(one.train.rows) == 3
    assert set(one.train.rows[2].tolist()) <= set(U[0].tolist())


def scattered(path, n=200, low=0.5, high=1.5, seed=0):
    """Measurements (x, t, u) of the same wave at random places and times."""
    drawn = np.random.default_rng(seed)
    x, t = drawn.uniform(0, 2 * np.pi, n), drawn.uniform(low, high, n)
    rows = np.stack([x, t, 2 + np.sin(x - 3 * (t - 0.5))], 1)
    if path.suffix == ".csv":
        return table(path, rows, "x,t,u"), rows
    return npz(path, **dict(zip("xtu", rows.astype("f4").T, strict=True))), rows


@pytest.mark.parametrize("name", ["points.csv", "points.npz"])
def test_measurements_beside_a_start_are_learned_from_and_a_tenth_is_held_out(tmp_path, name):
    points, rows = scattered(tmp_path / name)
    start = npz(tmp_path / "a.npz", x=X, t=T, u=U)
    data = read(start, measurements=str(points))
    assert [len(part.rows.measured) for part in (data.train, data.validation)] == [180, 20]
    seen = torch.cat([part.rows.measured for part in (data.train, data.validation)]).numpy()
    counted = (rows - [0, 0.5, 0])[np.argsort(rows[:, 0])]  # times from the start
    assert seen[np.argsort(seen[:, 0])] == pytest.approx(counted, abs=1e-5)
    same(read(start), shortened(data))
    drawn = data.train.rows[3]
    assert {tuple(row) for row in drawn.tolist()} <= {tuple(row) for row in data.train.rows.measured.tolist()}


def shortened(data):
    """The same data without measurements, to be compared with a start alone."""
    return replace(data, train=replace(data.train, rows=tuple(data.train.rows)[:3]))


@pytest.mark.parametrize("method", ["lagrangian", "eulerian"])
def test_measurements_in_place_of_a_start_are_fitted_scored_and_predicted(tmp_path, method):
    points, rows = scattered(tmp_path / "points.csv")
    settings = {**SETTINGS, "method": method, "equation": "convection", "speed": 3.0, "period": 2 * math.pi}
    report = fit_files(recipe, points, tmp_path / "model", settings=settings, test=points)
    assert set(report["metrics"]["test"]) == {"loss", "measured_error"}
    predict_files(recipe, tmp_path / "model", points, tmp_path / "out.csv")
    found = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=1)
    assert found[:, :2] == pytest.approx(rows[:, :2], abs=1e-5)
    mean = read_recipe(tmp_path / "model")["data"]["mean"]
    error = np.linalg.norm(found[:, 2] - rows[:, 2]) / np.linalg.norm(rows[:, 2] - mean)
    assert report["metrics"]["test"]["measured_error"] == pytest.approx(error, rel=1e-3)
    predict_files(recipe, tmp_path / "model", npz(tmp_path / "grid.npz", x=X, t=T[1:4]), tmp_path / "grid-out.npz")
    assert np.load(tmp_path / "grid-out.npz")["u"].shape == (3, 32)


def test_measurements_that_cannot_be_used_are_refused(tmp_path):
    start = npz(tmp_path / "a.npz", x=X, t=T, u=U)
    early, _ = scattered(tmp_path / "early.csv", high=0.4, low=0.1)
    with pytest.raises(DataFileError, match=r"0 of 200 measurements lie in the model's times, 0\.5 to 1\.5"):
        read(start, measurements=str(early))
    with pytest.raises(DataFileError, match="measurements have 'x', 't' and 'u'"):
        read(start, measurements=str(npz(tmp_path / "b.npz", x=X, u=U[0])))
    with pytest.raises(DataFileError, match="does not exist"):
        read(start, measurements=str(tmp_path / "none.csv"))


@pytest.mark.slow
@pytest.mark.parametrize(("method", "steps"), [("lagrangian", 400), ("eulerian", 1000)])
def test_the_start_is_found_from_later_measurements(tmp_path, method, steps):
    """Noise-free measurements at t from 0.6 on, and the equation, say what the wave was at t = 0.5."""
    points, _ = scattered(tmp_path / "points.csv", low=0.6)
    first = npz(tmp_path / "first.npz", x=X, t=T[:1], u=U[:1])
    settings = dict(equation="convection", speed=3.0, viscosity=0.0, period=2 * math.pi, width=20, depth=2, steps=steps,
                    points=4096, lr=1e-2, method=method)  # fmt: skip
    points.write_text(points.read_text() + "0,0.5,2\n")  # times count from 0.5
    report = fit_files(recipe, points, tmp_path / "model", settings=settings, test=first)
    assert report["metrics"]["validation"]["measured_error"] < 0.1
    assert report["metrics"]["test"]["start_error"] < 0.1


def test_points_fill_the_domain_and_those_of_validation_are_others(tmp_path):
    data = read(npz(tmp_path / "a.npz", x=X, u=U[0]), points=4000, t_max=3.0)
    points = data.train.rows[0]
    assert points.amin(0).tolist() == pytest.approx([0, 0], abs=0.01)
    assert points.amax(0).tolist() == pytest.approx([2 * math.pi, 3], abs=0.01)
    assert not torch.equal(points, data.validation.rows[0])


@pytest.mark.parametrize("method", ["lagrangian", "eulerian"])
def test_fit_scores_and_predictions_are_the_loaded_models(tmp_path, method):
    source = npz(tmp_path / "a.npz", x=X, t=T, u=U)
    settings = {**SETTINGS, "method": method, "equation": "convection", "speed": 3.0}
    report = fit_files(recipe, source, tmp_path / "model", settings=settings, test=source)
    kind = {"lagrangian": LagrangianPINN, "eulerian": EulerianPINN}[method]
    model = kind.from_pretrained(tmp_path / "model")
    assert read_recipe(tmp_path / "model")["data"]["method"] == method
    predict_files(recipe, tmp_path / "model", source, tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    expected = model.predict(torch.from_numpy(X), torch.from_numpy(T - np.float32(0.5)))
    assert np.array_equal(found["x"], X)
    assert np.array_equal(found["t"], T)
    assert found["u"] == pytest.approx(expected.numpy(), abs=1e-6)
    relative = np.linalg.norm(found["u"] - U) / np.linalg.norm(U - U[0].mean())
    assert report["metrics"]["test"]["relative_l2"] == pytest.approx(relative, rel=1e-4)
    predict_files(recipe, tmp_path / "model", source, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = [tuple(map(float, row)) for row in list(csv.reader(file))[1:]]
    assert np.array(rows)[:, 2].reshape(U.shape) == pytest.approx(found["u"], abs=1e-5)


@pytest.mark.slow
def test_the_users_equation_is_solved(tmp_path):
    """Fast convection from a start alone, scored against states that the fit never saw."""
    u = np.stack([2 + np.sin(X - 20 * t) for t in (T - 0.5)]).astype("f4")
    source = npz(tmp_path / "a.npz", x=X, t=T, u=u)
    settings = dict(equation="convection", speed=20.0, viscosity=0.0, steps=500, lr=1e-2, width=32, points=4096)
    report = fit_files(recipe, source, tmp_path / "model", settings=settings)
    assert report["metrics"]["validation"]["relative_l2"] < 0.1


def test_a_start_alone_is_predicted_at_a_hundred_times(tmp_path):
    source = npz(tmp_path / "a.npz", x=X, u=U[0])
    fit_files(recipe, source, tmp_path / "model", settings={**SETTINGS, "t_max": 2.0})
    predict_files(recipe, tmp_path / "model", npz(tmp_path / "b.npz", x=X[:3]), tmp_path / "out.npz")
    found = np.load(tmp_path / "out.npz")
    assert found["u"].shape == (101, 3)
    assert (found["t"][0], found["t"][-1]) == (0, 2)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        (dict(u=U[0]), "has no 'x'"),
        (dict(x=X), "no state to start from"),
        (dict(x=X, u=U[0][:9]), "9 values a time, but 32 places"),
        (dict(x=X, u=U), "6 states need as many times in 't', given 0"),
        (dict(x=X, u=U, t=T[::-1]), "must increase"),
        (dict(x=X, u=U[None], t=T), r"'u' has shape \(1, 6, 32\), expected \(places,\) or \(times, places\)"),
        (dict(x=X**2, u=U[0]), r"no even, increasing grid.*--set period"),
        (dict(x=X, u=np.where(X > 5, np.nan, X)), "NaN or infinite"),
    ],
)
def test_files_laid_out_otherwise_are_refused(tmp_path, arrays, told):
    with pytest.raises(DataFileError, match=told):
        fit_files(recipe, npz(tmp_path / "a.npz", **arrays), tmp_path / "model", settings=SETTINGS)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("place,value\n1,2\n", "a header line with 'x' and 'u'"),
        ("x,u\n1,2\n3\n", "line 3: 2 finite numbers"),
        ("x,u\n1,2\n3,nan\n", "line 3: 2 finite numbers"),
        ("x,u\n", "no rows"),
        (
            "x,t,u\n0,0,1\n1,0,1\n2,0,1\n0,1,1\n",
            "4 rows, not every one of its 3 places at every one of its 2 times.*--set period",
        ),
    ],
)
def test_tables_laid_out_otherwise_are_refused(tmp_path, text, told):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataFileError, match=told):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"equation": "heat"}, "equation=heat: one of convection, burgers, reaction"),
        ({"method": "both"}, "method=both: one of lagrangian, eulerian"),
        ({"viscosity": -0.1}, "viscosity=-0.1: a number from 0"),
        ({"period": -1.0}, "period=-1.0: a number above 0"),
        ({"x_depth": 0}, "x_depth=0: a whole number from 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(tmp_path, settings, told):
    with pytest.raises(SettingError, match=told):
        read(npz(tmp_path / "a.npz", x=X, u=U[0]), **settings)


def test_times_beyond_the_fit_and_other_endings_are_refused(tmp_path):
    source = npz(tmp_path / "a.npz", x=X, t=T, u=U)
    fit_files(recipe, source, tmp_path / "model", settings=SETTINGS)
    later = npz(tmp_path / "b.npz", x=X, t=T + 1)
    with pytest.raises(DataFileError, match=r"fitted from 0\.5 over 1"):
        predict_files(recipe, tmp_path / "model", later, tmp_path / "out.npz")
    with pytest.raises(PaperworksError, match=r"--out solution\.npz"):
        predict_files(recipe, tmp_path / "model", source, tmp_path / "out.png")
