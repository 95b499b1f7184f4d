"""Readers of PDE files: each format, made here in its exact layout, comes out the same; what is broken is refused."""

import os
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from scipy.io import savemat

from paperworks.errors import DataFileError
from paperworks.operators.field_files import open_fields
from paperworks.operators.field_writing import save_fields, write_predictions
from paperworks.operators.pde_data import simulate
from paperworks.training import Batches

RNG = np.random.default_rng(0)
N, T, X, Y = 4, 3, 6, 5


def numbers(*shape):
    return RNG.normal(size=shape).astype("f4")


U, P, V, W = numbers(N, T, X, Y), numbers(N, T, X, Y), numbers(N, T, X, Y), numbers(N, T, X, Y)
LINE = numbers(N, T, X)
A, SOLUTION = numbers(N, X, Y), numbers(N, X, Y)
XS, YS, TS = np.linspace(0, 1, X, dtype="f4"), np.linspace(2, 3, Y, dtype="f4"), np.arange(T + 1, dtype="f4")


def h5(path, content, attributes=()):
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            file[name] = value
        for name, told in dict(attributes).items():
            (file if name == "/" else file.require_group(name) if name not in file else file[name]).attrs.update(told)
    return path


def matlab73(path, content):
    """What MATLAB writes with -v7.3: HDF5 behind 512 bytes of its own, axes in reverse."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in content.items():
            file[name] = np.ascontiguousarray(np.asarray(value).T)
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512, b" "))
    return path


def npz(path, content):
    np.savez(path, **content)
    return path


def pt(path, content):
    torch.save({name: torch.from_numpy(np.asarray(value)) for name, value in content.items()}, path)
    return path


def the_well(path):
    vector, tensor, mask = numbers(N, T, X, Y, 2), numbers(N, T, X, Y, 2, 2), numbers(X)
    content = {
        "t0_fields/pressure": P,
        "t0_fields/mask": mask,  # the same for all samples and times, constant along y
        "t1_fields/velocity": vector,
        "t2_fields/D": tensor,
        "dimensions/time": TS[:T],
        "dimensions/x": XS,
        "dimensions/y": YS,
        "boundary_conditions/x_periodic/mask": np.ones(X, bool),
        "boundary_conditions/y_wall/mask": np.ones(Y, bool),
        "scalars/Rayleigh": np.float32(1e5),
        "scalars/zeta": np.arange(N, dtype="f4"),
    }
    varying = dict(sample_varying=True, time_varying=True, dim_varying=[True, True])
    attributes = {
        "/": dict(n_trajectories=N, dataset_name="test", grid_type="cartesian", n_spatial_dims=2),
        "t0_fields": dict(field_names=["pressure", "mask"]),
        "t1_fields": dict(field_names=["velocity"]),
        "t2_fields": dict(field_names=["D"]),
        "dimensions": dict(spatial_dims=["x", "y"]),
        "t0_fields/pressure": varying,
        "t0_fields/mask": dict(sample_varying=False, time_varying=False, dim_varying=[True, False]),
        "t1_fields/velocity": varying,
        "t2_fields/D": varying,
        "boundary_conditions/x_periodic": dict(bc_type="PERIODIC", associated_dims=["x"]),
        "boundary_conditions/y_wall": dict(bc_type="WALL", associated_dims=["y"]),
        "scalars/Rayleigh": dict(sample_varying=False, time_varying=False),
        "scalars/zeta": dict(sample_varying=True, time_varying=False),
    }
    h5(path, content, attributes)
    parts = [P[:, :, None], np.moveaxis(vector, -1, 2), np.moveaxis(tensor.reshape(N, T, X, Y, 4), -1, 2)]
    return path, np.concatenate(parts, 2), np.broadcast_to(mask[:, None], (N, 1, X, Y))


def groups(path):
    content = {}
    for i in range(N):
        content |= {f"{i:04d}/data": np.stack([U[i], V[i]], -1), f"{i:04d}/grid/x": XS, f"{i:04d}/grid/y": YS}
        content[f"{i:04d}/grid/t"] = TS[:T]
    return h5(path, content)


def stacked(*fields):
    return np.stack(fields, 2)


def formats(folder):
    """name -> (file, fields, inputs, channels, coordinates of x)."""
    grid = {"x-coordinate": XS, "y-coordinate": YS, "t-coordinate": TS}
    well, well_fields, well_mask = the_well(folder / "well.hdf5")
    velocity, tracer, force = numbers(N, T, X, Y, 2), numbers(N, T, X, Y, 1), numbers(N, X, Y, 2)
    square = numbers(N, X, X), numbers(N, X, X, T)
    pres, wide = numbers(N, T, X, Y), numbers(N, 2, 9, 9)
    wind = numbers(N, T, 1, X, Y), numbers(N, T, 1, X, Y)
    arena = {
        "train/u": U,
        "train/vx": V,
        "train/vy": W,
        "train/t": np.tile(TS[:T], (N, 1)),
        "train/x": np.tile(XS, (N, 1)),
    }
    arena["train/buo_y"] = np.linspace(0.1, 0.4, N)
    weather = {"train/u": wind[0], "train/v": wind[1], "train/pres": pres, "train/lat": XS, "train/lon": YS}
    return {
        "PDEBench 1D": (h5(folder / "1D.hdf5", {"tensor": LINE, **grid}), LINE[:, :, None], None, "u", XS),
        "PDEBench CFD": (
            h5(folder / "cfd.hdf5", {"density": U, "pressure": P, "Vx": V, "Vy": W, **grid}),
            stacked(U, P, V, W),
            None,
            "density pressure Vx Vy",
            XS,
        ),
        "PDEBench Darcy": (
            h5(
                folder / "2D_DarcyFlow.hdf5",
                {"tensor": SOLUTION[:, None], "nu": A, "x-coordinate": XS, "y-coordinate": YS},
            ),
            SOLUTION[:, None, None],
            A[:, None],
            "u",
            XS,
        ),
        "PDEBench groups": (groups(folder / "swe.h5"), stacked(U, V), None, "u0 u1", XS),
        "PDEBench incompressible": (
            h5(
                folder / "ns.h5",
                {"velocity": velocity, "particles": tracer, "force": force, "t": np.tile(TS[:T], (N, 1))},
            ),
            np.concatenate([np.moveaxis(velocity, -1, 2), np.moveaxis(tracer, -1, 2)], 2),
            np.moveaxis(force, -1, 1),
            "Vx Vy particles",
            None,
        ),
        "PDEArena": (h5(folder / "arena.h5", arena), stacked(U, V, W), None, "u vx vy", XS),
        "PDEArena weather": (
            h5(folder / "weather.h5", weather),
            np.concatenate([pres[:, :, None], *wind], 2),
            None,
            "pres u v",
            XS,
        ),
        "The Well": (
            well,
            well_fields,
            well_mask,
            "pressure velocity_x velocity_y D_xx D_xy D_yx D_yy",
            XS,
        ),
        "Poseidon": (
            h5(folder / "NS-PwC.nc", {"velocity": stacked(U, V, W)}),
            stacked(U, V, W),
            None,
            "u v tracer",
            None,
        ),
        "Poseidon KF": (h5(folder / "KF.nc", {"solution": stacked(U, V)}), stacked(U, V), None, "u v", None),
        "Poseidon compressible": (
            h5(folder / "CE.nc", {"data": stacked(U, V, W, P)}),
            stacked(U, V, W, P),
            None,
            "rho u v p",
            None,
        ),
        "Poseidon wave": (h5(folder / "wave.nc", {"solution": U, "c": A}), U[:, :, None], A[:, None], "u", None),
        "Poseidon Poisson": (
            h5(folder / "poisson.nc", {"source": A, "solution": SOLUTION}),
            SOLUTION[:, None, None],
            A[:, None],
            "solution",
            None,
        ),
        "FNO .mat 7.3": (
            matlab73(folder / "ns73.mat", {"a": square[0], "u": square[1], "t": TS[None, :T]}),
            np.moveaxis(square[1], -1, 1)[:, :, None],
            None,
            "vorticity",
            None,
        ),
        "FNO .mat 5": (
            savemat(folder / "ns5.mat", {"a": square[0], "u": square[1], "t": TS[None, :T]}) or folder / "ns5.mat",
            np.moveaxis(square[1], -1, 1)[:, :, None],
            None,
            "vorticity",
            None,
        ),
        "Darcy .mat": (
            matlab73(folder / "darcy.mat", {"coeff": A, "sol": SOLUTION, "Kcoeff": A}),
            SOLUTION[:, None, None],
            A[:, None],
            "sol",
            None,
        ),
        "Burgers .mat": (
            savemat(folder / "burgers.mat", {"a": LINE[:, 0], "u": LINE[:, 1]}) or folder / "burgers.mat",
            LINE[:, 1][:, None, None],
            LINE[:, 0][:, None],
            "u",
            None,
        ),
        "neuraloperator Darcy .pt": (
            pt(folder / "darcy.pt", {"x": A > 0, "y": SOLUTION}),
            SOLUTION[:, None, None],
            (A > 0)[:, None],
            "y",
            None,
        ),
        "neuraloperator Burgers .pt": (
            pt(folder / "burgers.pt", {"x": LINE[:, 0], "y": LINE, "visc": np.array([[0.01]])}),
            LINE[:, :, None],
            None,
            "y",
            None,
        ),
        "pairs .npz": (
            npz(folder / "pairs.npz", {"x": A, "y": SOLUTION}),
            SOLUTION[:, None, None],
            A[:, None],
            "y",
            None,
        ),
        "pairs with channels": (
            npz(folder / "many.npz", {"x": wide[:, :1], "y": wide}),
            wide[:, None],
            wide[:, :1],
            "y0 y1",
            None,
        ),
        "plain .npy": (
            np.save(folder / "plain.npy", stacked(U, V)) or folder / "plain.npy",
            stacked(U, V),
            None,
            "u0 u1",
            None,
        ),
    }


FORMATS = [
    "PDEBench 1D",
    "PDEBench CFD",
    "PDEBench Darcy",
    "PDEBench groups",
    "PDEBench incompressible",
    "PDEArena",
    "PDEArena weather",
    "The Well",
    "Poseidon",
    "Poseidon KF",
    "Poseidon compressible",
    "Poseidon wave",
    "Poseidon Poisson",
    "FNO .mat 7.3",
    "FNO .mat 5",
    "Darcy .mat",
    "Burgers .mat",
    "neuraloperator Darcy .pt",
    "neuraloperator Burgers .pt",
    "pairs .npz",
    "pairs with channels",
    "plain .npy",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return formats(tmp_path_factory.mktemp("formats"))


def test_every_format_is_listed(made):
    assert list(made) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_format_comes_out_in_the_one_layout(made, name):
    path, fields, inputs, channels, x = made[name]
    files = open_fields(path)
    data = files[:]
    assert data.fields.dtype == torch.float32
    assert np.array_equal(data.fields.numpy(), fields.astype("f4"))
    assert (data.inputs is None) == (inputs is None)
    if inputs is not None:
        assert np.array_equal(data.inputs.numpy(), inputs.astype("f4"))
    assert data.channel_names == tuple(channels.split())
    assert [len(axis) for axis in data.coords] == list(fields.shape[3:])
    assert x is None or np.array_equal(data.coords[0].numpy(), x)
    assert len(data.t) == fields.shape[1]
    assert files.has_fields


@pytest.mark.parametrize("name", FORMATS)
def test_samples_and_frames_are_chosen(made, name):
    path, fields, inputs, *_ = made[name]
    files = open_fields(path)
    assert np.array_equal(files[[2, 0, 2]].fields.numpy(), fields[[2, 0, 2]].astype("f4"))
    part = files.read([1], slice(0, 1))
    assert np.array_equal(part.fields.numpy(), fields[1:2, :1].astype("f4"))
    assert len(part.t) == 1
    if inputs is not None:
        assert np.array_equal(files[[3]].inputs.numpy(), inputs[3:].astype("f4"))
    with pytest.raises(IndexError):
        files[[N]]


@pytest.mark.parametrize("name", FORMATS)
def test_statistics_stream(made, name):
    path, fields, inputs, *_ = made[name]
    told = open_fields(path).statistics()
    axes = (0, 1, *range(3, fields.ndim))
    assert np.allclose(told.mean, fields.mean(axes), atol=1e-6)
    assert np.allclose(told.std, fields.std(axes), rtol=1e-5)
    if inputs is not None:
        assert np.allclose(told.input_mean, inputs.mean((0, *range(2, inputs.ndim))), atol=1e-6)
    rows = open_fields(path).statistics([1, 2])
    assert np.allclose(rows.std, fields[1:3].std(axes), rtol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_predictions_go_back_in_the_same_layout(made, name, tmp_path):
    path, fields, inputs, channels, _ = made[name]
    files = open_fields(path)
    out = tmp_path / ("out.h5" if files.files[0].hdf5 else "out.npz")
    other = torch.from_numpy((fields + 1).astype("f4"))
    count = write_predictions(out, files, other.split(3), fields.shape[1], tuple(channels.split()))
    assert count == N
    again = open_fields(out)
    assert np.array_equal(again[:].fields.numpy(), other.numpy())
    assert inputs is None or np.array_equal(again[:].inputs.numpy(), inputs.astype("f4"))
    if name != "plain .npy":
        assert again.layout.name == files.layout.name
    assert torch.equal(again.t, files.t)
    assert torch.equal(again.params, files.params)
    assert [axis.tolist() for axis in again.coords] == [axis.tolist() for axis in files.coords]
    for block in files.layout.fields if files.files[0].hdf5 else ():
        stored = block.name.format(*files.layout.groups[:1])
        assert again.files[0].arrays()[stored].shape == files.files[0].arrays()[stored].shape


def test_parameters_boundaries_and_times(made):
    well = open_fields(made["The Well"][0])
    assert well.param_names == ("Rayleigh", "zeta")
    assert well.params.tolist() == [[1e5, float(i)] for i in range(N)]
    assert well.bc == ("periodic", "wall")
    assert well.t.tolist() == TS[:T].tolist()
    arena = open_fields(made["PDEArena"][0])
    assert (arena.param_names, arena.params.shape) == (("buo_y",), (N, 1))
    assert open_fields(made["PDEBench 1D"][0]).t.tolist() == TS[:T].tolist()  # one entry longer in the file
    burgers = open_fields(made["neuraloperator Burgers .pt"][0])
    assert torch.allclose(burgers.params, torch.full((N, 1), 0.01))
    assert open_fields(made["FNO .mat 7.3"][0]).bc == ("periodic", "periodic")
    assert open_fields(made["PDEBench Darcy"][0]).bc == ("dirichlet", "dirichlet")


@pytest.mark.parametrize("ending", [".npz", ".h5"])
@pytest.mark.parametrize("problem", ["darcy", "burgers", "shallow_water"])
def test_simulated_data_are_saved_and_read_whole(tmp_path, ending, problem):
    data = simulate(problem, 3, seed=0, size=12, **({"nu": (0.01, 0.1)} if problem == "burgers" else {}))
    save_fields(data, tmp_path / f"data{ending}")
    again = open_fields(tmp_path / f"data{ending}")[:]
    for name in ("fields", "t", "params", "inputs"):
        a, b = getattr(data, name), getattr(again, name)
        assert (a is None and b is None) or torch.equal(a, b)
    for name in ("channel_names", "bc", "input_names", "param_names"):
        assert getattr(data, name) == getattr(again, name)


def test_inputs_alone_are_read_to_predict_from(tmp_path):
    files = open_fields(npz(tmp_path / "new.npz", {"x": A}))
    assert not files.has_fields
    assert np.array_equal(files[[1]].inputs.numpy(), A[1:2, None])
    write_predictions(tmp_path / "out.npz", files, [torch.from_numpy(SOLUTION)[:, None, None]], 1, ("y",))
    found = np.load(tmp_path / "out.npz")
    assert np.array_equal(found["y"], SOLUTION)
    assert np.array_equal(found["x"], A)
    darcy = open_fields(h5(tmp_path / "darcy.h5", {"nu": A}))
    write_predictions(tmp_path / "out.h5", darcy, [torch.from_numpy(SOLUTION)[:, None, None]], 1, ("u",))
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["tensor"][:, 0], SOLUTION)


def test_a_folder_of_shards_is_one_data_set(tmp_path):
    for i in (0, 1, 10, 2):
        h5(tmp_path / f"NavierStokes2D_train_{i}.h5", {"train/u": U + i, "train/vx": V, "train/vy": W})
    h5(tmp_path / "NavierStokes2D_valid_0.h5", {"valid/u": U, "valid/vx": V, "valid/vy": W})
    files = open_fields(tmp_path, "train")
    assert len(files) == 4 * N
    assert np.array_equal(files[[1, N + 1, 3 * N + 1]].fields[:, :, 0].numpy(), np.stack([U[1], U[1] + 1, U[1] + 10]))
    assert len(open_fields(tmp_path, "valid")) == N
    h5(tmp_path / "NavierStokes2D_train_3.h5", {"train/u": U[:, :2], "train/vx": V[:, :2], "train/vy": W[:, :2]})
    with pytest.raises(DataFileError, match=r"train_3\.h5: times 2; expected 3 as in .*train_0\.h5"):
        open_fields(tmp_path, "train")


def test_one_file_a_trajectory(tmp_path):
    for i in range(2):
        content = {"u": U[i][:, None], "v": V[i][:, None], "vor": W[i][:, None], "pres": P[i], "lat": XS, "lon": YS}
        h5(tmp_path / f"run{i}.nc", {**content, "time": TS[:T]})
    files = open_fields(tmp_path)
    assert np.array_equal(files[:].fields.numpy(), np.stack([P[:2], U[:2], V[:2]], 2))
    assert files.channel_names == ("pres", "u", "v")


class Rows:
    """The sum of each chosen sample: what Batches takes."""

    def __init__(self, files):
        self.files = files

    def __len__(self):
        return len(self.files)

    def __getitem__(self, rows):
        return (self.files[rows].fields.sum((1, 2, 3, 4))[:, None],)


def test_batches_index_the_files_and_workers_open_their_own_handles(made):
    files = open_fields(made["PDEBench CFD"][0])
    batches = Batches(Rows(files), 2)
    expected = torch.from_numpy(made["PDEBench CFD"][1]).sum((1, 2, 3, 4))
    found = torch.cat([batches(0)[0][:, 0], batches(1)[0][:, 0]])
    assert torch.allclose(found.sort().values, expected.sort().values, rtol=1e-4, atol=1e-4)
    files[[0]]
    assert files.files[0]._handle[0] == os.getpid()
    copy = pickle.loads(pickle.dumps(files))
    assert copy.files[0]._handle is None
    assert torch.equal(copy[[1]].fields, files[[1]].fields)
    child = os.fork()
    if child == 0:
        same = torch.equal(files[[1]].fields, copy[[1]].fields)
        os._exit(0 if same and files.files[0]._handle[0] == os.getpid() else 1)
    assert os.waitpid(child, 0)[1] == 0
    files.close()
    assert torch.equal(copy[[1]].fields, files[[1]].fields)


HOLE = U.copy()
HOLE[2, 1, 3, 3] = np.nan


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.h5", {"density": U, "Vx": V[:, :2]}, r"expected \(n, time, x, y\) with as many times as 'density', 3"),
        ("a.h5", {"density": U, "Vx": V[:3]}, r"as many samples as 'density', 4"),
        ("a.h5", {"velocity": numbers(4, 3, 6, 5)[0]}, r"\(3, 6, 5\), expected \(n, time, channel, x, y\)"),
        ("a.h5", {"tensor": LINE, "x-coordinate": XS[:3]}, r"'x-coordinate' has shape \(3,\), expected 6 values"),
        ("a.h5", {"tensor": LINE[0]}, r"'tensor' has shape \(3, 6\); expected 2 axes and one to three of space"),
        ("a.h5", {"tensor": np.zeros((0, 3, 6))}, "there is nothing in it"),
        ("a.h5", {"tensor": LINE.astype(complex)}, "'tensor' holds complex128, expected numbers"),
        ("a.h5", {"other": LINE, "more": LINE}, r"has 'more', 'other'; expected 'fields' \(n, time"),
        ("a.h5", {"train/u": U, "train/vx": V, "test/u": U, "test/vx": V[:, :, :2]}, None),
        ("a.npz", {"x": A, "y": SOLUTION[:, :3]}, "expected as many functions on the same grid"),
        ("a.npz", {"x": A, "y": U[:, :, :2]}, r"expected \(n, time, ...grid\) or"),
        ("a.npz", {"fields": LINE}, r"'fields' has shape \(4, 3, 6\); expected 3 axes and one to three of space"),
        ("a.npz", {"fields": U, "channel_names": ["a"]}, "'channel_names' names 1 channels, 'fields' has 6"),
        ("a.npz", {"x": A.astype("U4"), "y": SOLUTION}, "'x' holds <U4, expected numbers"),
        ("a.npz", {"x": A, "y": np.array([{}] * N, dtype=object)}, "Python objects, which need pickle"),
        ("a.npz", {"a": LINE[:, 0], "u": LINE, "visc": np.ones(3)}, r"\(3,\); expected one value for each of 4"),
    ],
)  # fmt: skip
def test_files_laid_out_otherwise_are_refused(tmp_path, name, content, told):
    path = (h5 if name == "a.h5" else npz)(tmp_path / name, content)
    if told is None:
        open_fields(path)
        return
    with pytest.raises(DataFileError, match=told) as error:
        open_fields(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("ending", [".h5", ".npz"])
def test_nan_is_told_with_its_sample(tmp_path, ending):
    path = (h5 if ending == ".h5" else npz)(tmp_path / f"a{ending}", {"density": HOLE, "Vx": V})
    files = open_fields(path)
    assert torch.isfinite(files[[0, 1, 3]].fields).all()
    for read in (lambda: files[[2]], files.statistics):
        with pytest.raises(DataFileError, match="'density' holds NaN or infinite values in sample 2"):
            read()
    path = npz(tmp_path / "large.npz", {"density": U.astype("f8") * 1e300, "Vx": V})
    with pytest.raises(DataFileError, match="holds values beyond 3e38 in sample 0"):
        open_fields(path)[:]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = h5(tmp_path / "a.h5", {"tensor": LINE})
    whole = path.read_bytes()
    for content, told in (
        (whole[: len(whole) // 2], "damaged"),
        (b"CDF\x01" + bytes(100), "netCDF-3"),
        (b"", "is empty"),
        (b"some text that is no data", "is no HDF5 file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataFileError, match=told) as error:
            open_fields(path)
        assert str(path) in str(error.value)
    for name, content in (("a.npz", b"text"), ("a.npy", b"text"), ("a.pt", b"text"), ("a.mat", b"text" * 50)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataFileError, match="damaged"):
            open_fields(tmp_path / name)
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataFileError, match="expected a file ending in"):
        open_fields(tmp_path / "a.csv")
    with pytest.raises(DataFileError, match="does not exist"):
        open_fields(tmp_path / "none.h5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataFileError, match="is a folder without a file"):
        open_fields(tmp_path / "empty")


def test_numbers_in_other_files_are_refused(tmp_path):
    (tmp_path / "numbers").write_bytes(LINE.tobytes())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("tensor", LINE.shape, "f4", external=[(str(tmp_path / "numbers"), 0, LINE.nbytes)])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        layout = h5py.VirtualLayout((N, T, X), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "c.h5"), "tensor", (N, T, X))
        file.create_virtual_dataset("tensor", layout)
    h5(tmp_path / "c.h5", {"tensor": LINE})
    for name in ("a.h5", "b.h5"):
        with pytest.raises(DataFileError, match="'tensor' lies in other files"):
            open_fields(tmp_path / name)
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["tensor"] = h5py.ExternalLink("c.h5", "tensor")
    with pytest.raises(DataFileError, match="has no arrays"):
        open_fields(tmp_path / "d.h5")


def test_chunks_that_unpack_to_too_much_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("tensor", (10, 100, 2**20), "f4", chunks=(1, 100, 2**20), compression="gzip")
    with pytest.raises(DataFileError, match="is stored in chunks of"):
        open_fields(tmp_path / "a.h5")


ITERATED = """
import resource, sys
from paperworks.operators.field_files import open_fields
from paperworks.training import Batches
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

class Pairs:
    def __init__(self, files): self.files = files
    def __len__(self): return len(self.files) * (self.files.times - 1)
    def __getitem__(self, rows):
        n = self.files.times - 1
        return tuple(self.files.read([i // n], slice(i % n, i % n + 2)).fields for i in rows)

open_fields(sys.argv[2]).statistics()  # what libraries take is taken before
before = peak()
files = open_fields(sys.argv[1])
assert len(files) == 1280 and files.nbytes > 10 * 2**30, files.nbytes
batches = Batches(Pairs(files), 8)
for step in range(20):
    batch = batches(step)
files.statistics(at_most=100 * 2**20)
assert float(files[[777]].fields.max()) == 3.0
print(peak() - before)
"""


@pytest.mark.slow
def test_ten_gigabytes_are_opened_and_iterated_in_bounded_memory(tmp_path):
    """A sparse file: its size is told, nothing but one number is on the disk."""
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        space = h5py.h5s.create_simple((1280, 129, 128, 128))
        h5py.h5d.create(file.id, b"tensor", h5py.h5t.IEEE_F32LE, space, creation)
        file["tensor"][777, 5, 5, 5] = 3.0
    assert path.stat().st_size > 10 * 2**30
    assert path.stat().st_blocks * 512 < 2**20
    small = h5(tmp_path / "small.h5", {"tensor": U})
    done = subprocess.run([sys.executable, "-c", ITERATED, path, small], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150  # MB, of 10,000
