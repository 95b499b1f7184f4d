"""The wing's comparison: every model takes the tasks' shapes, at its size; data, scores and files are what they say."""

import numpy as np
import pytest
import torch

from paperworks.errors import DataFileError
from paperworks.gallery import figures, write_comparison
from paperworks.lab import compare
from paperworks.lab.wings import Unsuitable
from paperworks.operators import FNO, simulate
from paperworks.operators.comparison import MODELS, TASKS, Pairs, as_pairs, comparison, read, score, shape_of_file
from paperworks.operators.field_recipe import field_recipe
from paperworks.operators.on_grid import DeepONetOnGrid, FNNOnGrid
from paperworks.training.recipe import fit_files

LAPTOP = {
    name: {**comparison.settings, **comparison.laptop, **task.settings, **task.laptop} for name, task in TASKS.items()
}
SHAPES = {name: dict(task.shape(LAPTOP[name], None)) for name, task in TASKS.items()}


def refused(build):
    """Why a model does not take a shape, or nothing."""
    try:
        build()
    except Unsuitable as reason:
        return str(reason)
    return ""


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_its_size_and_gives_a_field_on_the_grid(model, task):
    spec, shape = MODELS[model], SHAPES[task]
    if reason := refused(lambda: spec.build(**shape, width=2)):
        assert reason.startswith("takes ")
        return
    width, count = comparison.size(model, shape, 100_000)
    assert abs(count - 100_000) <= 5_000
    assert width < spec.widest
    few = shape | {"size": tuple(min(n, 32) for n in shape["size"])}
    net = spec.build(**few, width=2)
    out = net(torch.randn(2, few["in_channels"], *few["size"]))
    assert out.shape == (2, few["out_channels"], *few["size"])
    assert torch.isfinite(out).all()
    assert sum(p.requires_grad for p in net.parameters())
    if spec.transfers:
        for other in ([2 * n for n in few["size"]], [n // 2 for n in few["size"]]):
            assert net(torch.randn(1, few["in_channels"], *other)).shape == (1, few["out_channels"], *other)


@pytest.mark.parametrize("model", MODELS)
def test_several_channels_and_an_odd_grid_are_taken_or_refused_in_words(model):
    shape = dict(in_channels=3, out_channels=2, size=(17, 17), boundary="unknown")
    if reason := refused(lambda: MODELS[model].build(**shape, width=2)):
        assert reason.startswith("takes ")
        return
    net = MODELS[model].build(**shape, width=2)
    assert net(torch.randn(2, 3, 17, 17)).shape == (2, 2, 17, 17)


@pytest.mark.parametrize("model", MODELS)
def test_an_oblong_grid_is_taken_or_refused_in_words(model):
    shape = dict(in_channels=1, out_channels=1, size=(16, 24), boundary="periodic")
    if reason := refused(lambda: MODELS[model].build(**shape, width=2)):
        assert reason.startswith("takes ")
        return
    net = MODELS[model].build(**shape, width=2)
    assert net(torch.randn(2, 1, 16, 24)).shape == (2, 1, 16, 24)


def test_a_model_that_refuses_the_other_grid_says_why_in_the_table(tmp_path):
    report = compare(
        "operators",
        "darcy",
        budget="smoke",
        models=["kernel_unet", "fno"],
        seeds=1,
        settings={"size_elsewhere": 20},  # 5/4 of 16: a kernel of 5 points would come out with 6
        runs=tmp_path,
    )
    assert report.failures == []
    entries = {entry["model"]: entry for entry in report.result["comparison"]["models"]}
    assert entries["kernel_unet"]["elsewhere"] == entries["fno"]["refused"] == {}
    assert "odd number, such as 8 or 32, given (4, 1, 20, 20)" in entries["kernel_unet"]["refused"]["20 × 20"]
    assert entries["fno"]["elsewhere"]["20 × 20"]["mean"] > 0
    page = write_comparison(report.result, tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "kernel_unet refuses 20 × 20: u: expected rows and columns" in page


@pytest.mark.parametrize("task", TASKS)
def test_simulated_splits_are_drawn_apart_and_the_finer_grid_holds_the_same_functions(task):
    settings = {**comparison.settings, **TASKS[task].settings, **TASKS[task].smoke}
    splits = TASKS[task].load(settings, 0, None)
    assert splits.shape == TASKS[task].shape(settings, None)
    assert not torch.equal(splits.validation.inputs[:2], splits.test.inputs[:2])
    assert not torch.equal(splits.train[0][:2], splits.test.inputs[:2])
    ((place, finer),) = splits.elsewhere.items()
    assert place.split(" × ")[0] == str(settings["size_elsewhere"])
    mean = splits.test.targets.flatten(1).mean(1), finer.targets.flatten(1).mean(1)
    spread = splits.test.targets.flatten(1).std(1)
    assert ((mean[0] - mean[1]).abs() < 0.2 * spread).all()
    again = TASKS[task].load(settings, 1, None)
    assert not torch.equal(again.train[0], splits.train[0])


def test_pairs_are_the_input_and_the_solution_or_a_frame_and_the_next():
    darcy, burgers = simulate("darcy", 2, seed=0, size=9), simulate("burgers", 2, seed=0, size=16, frames=4)
    static, series, two = as_pairs(darcy), as_pairs(burgers), as_pairs(simulate("burgers", 2, seed=0, size=16))
    assert torch.equal(static.inputs, darcy.inputs)
    assert torch.equal(static.targets, darcy.fields[:, 0])
    assert len(series.inputs) == 6
    assert torch.equal(series.targets[:2], series.inputs[1:3])
    assert two.series is None
    assert len(two.inputs) == 2


def test_the_scores_of_the_truth_are_zero_and_of_its_double_one():
    class Times(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = torch.nn.Parameter(torch.tensor(factor))

        def forward(self, u):
            return self.factor * u

    growing = 2.0 ** torch.arange(4).reshape(1, 4, 1, 1) * torch.randn(3, 1, 1, 8)
    rows = Pairs(growing[:, :-1].flatten(0, 1), growing[:, 1:].flatten(0, 1), growing)
    assert score(Times(2.0), rows) == pytest.approx({"relative_l2": 0, "rollout_l2": 0}, abs=1e-6)
    assert score(Times(4.0), rows) == pytest.approx({"relative_l2": 1, "rollout_l2": 7})  # 2 ** 3 times at the end


@pytest.mark.parametrize("out_channels", [1, 2])
def test_the_grids_models_are_deeponet_and_fnn_at_every_point(out_channels):
    size, u = (4, 5), torch.randn(3, 2, 4, 5)
    for kind in (DeepONetOnGrid, FNNOnGrid):
        net = kind(2, out_channels, size, width=6).double()
        y, flat = net.points, u.double().flatten(1)
        slow = torch.stack([net.net(flat, place.expand(3, -1)) for place in y], dim=-1)
        assert torch.allclose(net(u.double()).flatten(2), slow, atol=1e-12)
        with pytest.raises(ValueError, match="u: expected shape"):
            net(torch.randn(3, 2, 5, 5).double())


def saved(path, data):
    arrays = {"fields": data.fields.numpy()} | ({"inputs": data.inputs.numpy()} if data.inputs is not None else {})
    np.savez(path, **arrays)
    return path


def test_a_file_is_split_apart_and_scored_on_every_second_point_too(tmp_path):
    path = saved(tmp_path / "darcy.npz", simulate("darcy", 20, seed=0, size=17))
    settings = {"n_train": 8, "n_validation": 4, "n_test": 4, "frames": 0}
    splits = read(settings, 0, path)
    assert splits.shape == shape_of_file(settings, path)
    assert [len(part) for part in (splits.train[0], splits.validation.inputs, splits.test.inputs)] == [8, 2, 4]
    rows = torch.cat([splits.train[0], splits.validation.inputs, splits.test.inputs]).flatten(1)
    assert len(torch.unique(rows, dim=0)) == 14
    assert list(splits.elsewhere) == ["9 × 9"]
    assert torch.equal(splits.elsewhere["9 × 9"].targets, splits.test.targets[..., ::2, ::2])
    assert not torch.equal(read(settings, 1, path).test.inputs, splits.test.inputs)


def test_files_with_nothing_to_learn_from_are_refused(tmp_path):
    settings = {"n_train": 8, "n_validation": 4, "n_test": 4, "frames": 0}
    few = saved(tmp_path / "few.npz", simulate("darcy", 2, seed=0, size=9))
    with pytest.raises(DataFileError, match="at least 3"):
        read(settings, 0, few)
    np.savez(tmp_path / "inputs.npz", inputs=np.zeros((5, 1, 8), "f4"))
    with pytest.raises(DataFileError, match="nothing to learn from"):
        read(settings, 0, tmp_path / "inputs.npz")


@pytest.mark.slow
def test_smoke_runs_to_the_end_on_every_task_and_on_a_file(tmp_path):
    file = saved(tmp_path / "series.npz", simulate("burgers", 12, seed=0, size=16, frames=4))
    few = {"burgers": ["fno", "tno"], "navier-stokes": ["fno", "unet"]}
    for task, models in ((file, None), ("darcy", None), *few.items()):
        report = compare("operators", task, budget="smoke", models=models, seeds=1, runs=tmp_path)
        assert report.failures == []
        for entry in report.result["comparison"]["models"]:
            assert entry["error"]["mean"] > 0
        for trial in report.trials:
            assert [figures.picture(picture) is not None for picture in trial["pictures"]] == [True]


@pytest.mark.parametrize(
    ("problem", "options", "titles"),
    [
        ("darcy", {}, ["One sample", "Spectrum"]),
        ("burgers", {"frames": 4}, ["One sample", "Spectrum", "Rollout", "Error as time goes on"]),
        ("navier_stokes", {"frames": 3}, ["One sample", "Spectrum", "Rollout", "Error as time goes on"]),
    ],
)
def test_a_fitted_operator_shows_its_fields(tmp_path, problem, options, titles):
    source = saved(tmp_path / "data.npz", simulate(problem, 6, seed=0, size=16, **options))

    def build(description, settings):
        modes = [3] * len(description["space"])
        return FNO(description["in_channels"], description["out_channels"], 4, modes, projection=8)

    report = fit_files(field_recipe("fno", FNO, build), source, tmp_path / "model", settings={"steps": 2})
    assert [picture["title"].split(",")[0] for picture in report["pictures"]] == titles
    assert all(figures.picture(picture) for picture in report["pictures"])
    assert report["pictured"] == "validation"
    assert FNO.from_pretrained(tmp_path / "model")
