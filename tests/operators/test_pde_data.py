"""Simulated data in one layout: reproducible, sliced, resolved alike at two sizes, kept on disk."""

import math

import pytest
import torch

from paperworks.operators import pde_data
from paperworks.operators.pde_data import PROBLEMS, Fields, simulate
from paperworks.operators.spectral_grid import resample

SMALL = {
    "navier_stokes": dict(frames=3, interval=0.1, simulated_size=16),
    "decaying_turbulence": dict(frames=3, interval=0.05, simulated_size=16),
    "kolmogorov": dict(frames=3, interval=0.05, simulated_size=16, warm_up=0.1),
    "darcy": dict(),
    "burgers": dict(simulated_size=32, interval=0.1),
    "advection": dict(frames=4),
    "shallow_water": dict(frames=3, channels="huv"),
}


def small(problem, n=3, seed=0, size=16, **more):
    return simulate(problem, n, seed=seed, size=size, **{**SMALL[problem], **more})


@pytest.mark.parametrize("problem", PROBLEMS)
def test_layout_and_reproducibility(problem):
    data, again, other = small(problem), small(problem), small(problem, seed=1)
    dims = 1 if problem in ("burgers", "advection") else 2
    assert data.fields.dtype == torch.float32
    assert tuple(data.fields.shape[-dims:]) == (16,) * dims
    assert data.fields.ndim == 3 + dims
    assert torch.isfinite(data.fields).all()
    assert torch.equal(data.fields, again.fields)
    assert not torch.equal(data.fields, other.fields)
    assert len(data) == 3
    assert data.fields[0].std() > 0
    assert not torch.equal(data.fields[0], data.fields[1])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_sample_i_does_not_depend_on_how_many_are_made(problem, monkeypatch):
    many = small(problem, 5)
    monkeypatch.setattr(pde_data, "CHUNK", 2)
    few = small(problem, 3)
    torch.testing.assert_close(few.fields, many[:3].fields, rtol=0, atol=3e-6 * float(many.fields.abs().max()))
    assert torch.equal(few.params, many[:3].params)


def test_the_same_seed_is_the_same_problem_at_two_resolutions():
    kw = dict(frames=3, interval=0.5)
    coarse, fine = (simulate("navier_stokes", 2, seed=0, size=size, **kw).fields for size in (16, 32))
    torch.testing.assert_close(resample(fine, 16, 2), coarse, rtol=0, atol=1e-6)
    coarse, fine = (simulate("darcy", 2, seed=0, size=size, n_modes=8) for size in (17, 33))
    assert torch.equal(fine.inputs[..., ::2, ::2], coarse.inputs)
    assert (fine.fields[..., ::2, ::2] - coarse.fields).norm() < 0.1 * coarse.fields.norm()


def test_slices_select_samples_with_their_inputs_and_parameters():
    data = small("darcy", 4)
    part = data[1:3]
    assert torch.equal(part.inputs, data.inputs[1:3])
    assert torch.equal(data[[2, 0]].fields, data.fields[[2, 0]])
    series = small("burgers", 3, nu=(0.01, 0.1))
    assert len(set(series.params[:, 0].tolist())) == 3
    assert ((series.params >= 0.01) & (series.params <= 0.1)).all()
    assert torch.equal(series[1:].params, series.params[1:])


def test_pairs_are_frames_and_their_successors():
    data = small("advection", 2)
    now, later = data.pairs()
    assert now.shape == later.shape == (6, 1, 16)
    assert torch.equal(now[1], data.fields[0, 1])
    assert torch.equal(later[1], data.fields[0, 2])


def test_simulated_advection_is_exact():
    data = simulate("advection", 8, seed=0, size=64, beta=(0.1, 4.0), frames=3, interval=0.25)
    assert data.params.min() >= 0.1
    periodic = simulate("advection", 8, seed=0, size=64, beta=4.0, frames=3, interval=0.25)
    torch.testing.assert_close(periodic.fields[:, 1], periodic.fields[:, 0], rtol=0, atol=1e-5)
    smooth = simulate("advection", 2, seed=0, size=64, initial="gaussian", beta=1.0, frames=3, interval=0.25)
    torch.testing.assert_close(smooth.fields[:, 1], smooth.fields[:, 0].roll(16, -1), rtol=0, atol=1e-5)


def test_the_cache_gives_back_what_was_simulated_and_only_for_the_same_arguments(tmp_path, monkeypatch):
    made = []
    for problem in ("darcy", "burgers"):
        simulator = PROBLEMS[problem]

        def counted(*args, simulator=simulator, **kw):
            made.append(1)
            return simulator(*args, **kw)

        counted.__signature__ = __import__("inspect").signature(simulator)
        monkeypatch.setitem(PROBLEMS, problem, counted)
        data, again = (small(problem, cache=tmp_path) for _ in range(2))
        assert len(made) == 1
        for name in ("fields", "params", "t", "inputs"):
            a, b = getattr(data, name), getattr(again, name)
            assert (a is None and b is None) or torch.equal(a, b)
        assert (data.channel_names, data.bc, data.input_names, data.param_names) == (
            again.channel_names,
            again.bc,
            again.input_names,
            again.param_names,
        )
        small(problem, cache=tmp_path, seed=1)
        small(problem, 2, cache=tmp_path)
        small(problem, cache=tmp_path, size=12)
        small(problem, cache=tmp_path, **({"high": 10.0} if problem == "darcy" else {"nu": 0.2}))
        monkeypatch.setattr(pde_data, "_source", lambda: "a later solver")
        small(problem, cache=tmp_path)
        assert len(made) == 6
        monkeypatch.undo()
        made.clear()


def test_the_environment_names_the_cache_and_a_damaged_file_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("PAPERWORKS_CACHE", str(tmp_path))
    data = small("darcy")
    (path,) = tmp_path.iterdir()
    for content in (b"", b"no file", path.read_bytes()[:-100]):
        path.write_bytes(content)
        assert torch.equal(small("darcy").fields, data.fields)
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


def test_wrong_names_are_refused_in_words():
    with pytest.raises(ValueError, match="problem 'stokes': one of navier_stokes"):
        simulate("stokes", 1, seed=0, size=16)
    with pytest.raises(ValueError, match="darcy has no parameter 'nu'; there are alpha"):
        simulate("darcy", 1, seed=0, size=16, nu=1)
    for problem, name in (("navier_stokes", "forcing"), ("burgers", "initial"), ("shallow_water", "channels")):
        with pytest.raises(ValueError, match=f"{name}: "):
            simulate(problem, 1, seed=0, size=16, **{name: "other"})
    with pytest.raises(ValueError, match="params: expected"):
        Fields(torch.zeros(2, 1, 1, 4), (torch.zeros(4),), torch.zeros(1), torch.zeros(3, 0), ("u",), ("periodic",))


def test_kolmogorov_and_decaying_turbulence_live_on_two_pi():
    data = small("kolmogorov")
    assert float(data.coords[0][-1]) == pytest.approx(2 * math.pi * 15 / 16)
    decay = simulate("decaying_turbulence", 2, seed=0, size=32, frames=3, simulated_size=32)
    enstrophy = decay.fields.square().mean((2, 3, 4))
    assert (enstrophy.diff(dim=1) < 0).all()
