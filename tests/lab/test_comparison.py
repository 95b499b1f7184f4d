"""A wing's models side by side: equal sizes, equal tuning, equal time, resume, and what is told of them."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from paperworks.errors import PaperworksError, SettingError
from paperworks.lab import comparison as comparing
from paperworks.lab import find_papers
from paperworks.lab.comparison import compare, summarise
from paperworks.lab.wings import find_wing, find_wings

WING = str(Path(__file__).parent / "toy_wing")
LONG = {"steps": 300}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One comparison that several tests look at."""
    return compare(WING, "waves", settings=LONG, runs=tmp_path_factory.mktemp("runs"))


def by_model(report):
    return {entry["model"]: entry for entry in report.result["comparison"]["models"]}


def without_times(report):
    return [
        (t["arm"], t["seed"], [{n: v for n, v in row["metrics"].items() if n != "inference_ms"} for row in t["rows"]])
        for t in report.trials
    ]


def test_a_linear_model_loses_to_what_can_bend(whole):
    table = by_model(whole)
    assert list(table)[-1] == "line"
    assert table["line"]["against_best"]["interval"][0] > 1
    assert whole.result["comparison"]["sentence"].startswith(("tanh has the lowest error", "flat has the lowest error"))
    assert "Not told apart" in whole.result["comparison"]["sentence"]  # tanh and flat are the same network
    assert "line" not in whole.result["comparison"]["sentence"]
    assert json.loads(json.dumps(whole.result)) == whole.result


def test_all_have_the_same_size_steps_seeds_and_data(whole):
    for entry in by_model(whole).values():
        assert abs(entry["parameters"] - 100) <= 5
        assert not entry["unequal"]
        assert entry["steps"] == 300
        assert entry["error"]["seeds"] == [0, 1, 2]
    assert whole.result["failures"] == []
    assert len(whole.trials) == 9


def test_all_are_tuned_alike_on_seeds_and_rows_of_their_own(whole):
    tuning = whole.result["studies"][0]["tuning"]
    assert tuning["seeds"] == [1000, 1001]
    assert tuning["select"] == ["validation_error", "lower"]
    for model, scores in tuning["scores"].items():
        assert [item["point"]["lr"] for item in scores] == [0.01, 0.03]
        best = min(scores, key=lambda item: item["score"])["point"]["lr"]
        assert by_model(whole)[model]["lr"] == best == tuning["choices"][model]["lr"]


def test_only_models_that_claim_to_transfer_are_scored_elsewhere(whole):
    table = by_model(whole)
    assert list(table["tanh"]["elsewhere"]) == ["elsewhere"]
    assert table["tanh"]["elsewhere"]["elsewhere"]["mean"] == pytest.approx(table["tanh"]["error"]["mean"], rel=0.5)
    assert table["line"]["elsewhere"] == table["flat"]["elsewhere"] == {}


def test_a_finished_comparison_runs_nothing_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TOY_NOTES", str(tmp_path / "notes"))
    first = compare(WING, "waves", seeds=2, runs=tmp_path)
    count = len((tmp_path / "notes").read_text())
    again = compare(WING, "waves", seeds=2, runs=tmp_path)
    assert len((tmp_path / "notes").read_text()) == count
    assert again.trials == first.trials
    fewer = compare(WING, "waves", seeds=2, models=["line", "tanh"], runs=tmp_path)
    assert len((tmp_path / "notes").read_text()) == count
    assert [t for t in first.trials if t["arm"] != "flat"] == fewer.trials
    third = compare(WING, "waves", seeds=3, runs=tmp_path)
    assert third.trials[:6] == first.trials


@pytest.mark.slow
def test_processes_give_the_same_rows(tmp_path):
    options = dict(budget="smoke", seeds=2)
    here = compare(WING, "waves", runs=tmp_path / "a", **options)
    there = compare(WING, "waves", runs=tmp_path / "b", jobs=2, **options)
    assert without_times(here) == without_times(there)


def test_at_equal_time_a_slower_model_takes_fewer_steps_and_a_rerun_repeats_them(tmp_path, monkeypatch):
    cost = {"tanh": 0.001, "flat": 0.002, "line": 0.004}
    timed = []

    def run_trial(task, progress=None):
        timed.append(task["arm"])
        return {"seconds": cost[task["arm"]] * task["settings"]["steps"] * [1.0, 5.0, 1.0][(len(timed) - 1) // 3]}

    monkeypatch.setattr(comparing, "run_trial", run_trial)
    settings = {"seconds": 0.1, "lr": 0.01}
    report = compare(WING, "waves", equal="time", seeds=1, settings=settings, runs=tmp_path)
    assert {model: entry["steps"] for model, entry in by_model(report).items()} == {"tanh": 100, "flat": 50, "line": 25}
    assert timed == ["tanh", "line", "flat"] * 3  # interleaved
    again = compare(WING, "waves", equal="time", seeds=1, settings=settings, runs=tmp_path)
    assert len(timed) == 9
    assert again.trials == report.trials
    longer = compare(WING, "waves", equal="time", seeds=1, settings={**settings, "seconds": 0.2}, runs=tmp_path)
    assert len(timed) == 9  # what a step takes is known
    assert by_model(longer)["line"]["steps"] == 50


def test_several_sizes_make_a_curve(tmp_path):
    report = compare(WING, "waves", parameters=[40, 160], seeds=2, budget="smoke", runs=tmp_path)
    entries = report.result["comparison"]["models"]
    assert len(entries) == 6
    for entry in entries:
        assert abs(entry["parameters"] - entry["size"]) <= 0.05 * entry["size"]
        assert len(entry["error"]["values"]) == 2
    tanh = {entry["size"]: entry for entry in entries if entry["model"] == "tanh"}
    assert set(tanh) == {40, 160}
    assert list(tanh[40]["elsewhere"]) == ["elsewhere"]
    with pytest.raises(SettingError, match="give one"):
        compare(WING, "waves", parameters=[40, 160], equal="time", runs=tmp_path)


def table_file(folder, dims):
    x = np.random.default_rng(0).uniform(-1, 1, (90, dims))
    np.savez(folder / f"table{dims}.npz", x=x, y=np.sin(x.sum(1, keepdims=True)))
    return folder / f"table{dims}.npz"


def test_a_file_of_ones_own_and_who_cannot_take_it(tmp_path):
    report = compare(WING, table_file(tmp_path, 2), seeds=2, runs=tmp_path / "runs")
    assert set(by_model(report)) == {"tanh", "line"}
    assert report.result["comparison"]["left_out"] == [{"model": "flat", "why": "takes one dimension"}]
    assert report.result["studies"][0]["data"]["name"] == "table2.npz"
    assert set(by_model(compare(WING, table_file(tmp_path, 1), seeds=2, runs=tmp_path / "runs"))) == {
        "tanh",
        "line",
        "flat",
    }
    with pytest.raises(PaperworksError, match="flat cannot be asked for this task: it takes one dimension"):
        compare(WING, tmp_path / "table2.npz", models=["flat"], runs=tmp_path / "runs")


def test_another_content_of_a_file_is_measured_anew(tmp_path):
    path = table_file(tmp_path, 1)
    first = compare(WING, path, seeds=1, budget="laptop", settings={"lr": 0.01}, runs=tmp_path / "runs")
    np.savez(path, x=np.load(path)["x"], y=1 + np.load(path)["y"])
    comparing_again = compare(WING, path, seeds=1, settings={"lr": 0.01}, runs=tmp_path / "runs")
    assert first.trials != comparing_again.trials


@pytest.mark.parametrize(
    ("wing", "task", "options", "told"),
    [
        (WING, "wave", {}, "did you mean 'waves'"),
        (WING, "waves", {"models": ["tan"]}, "did you mean 'tanh'"),
        (WING, "waves", {"settings": {"step": 3}}, "did you mean 'steps'"),
        (WING, "waves", {"equal": "luck"}, "parameters, time"),
        (WING, "waves", {"budget": "huge"}, "smoke, laptop, paper"),
        (WING, "waves", {"seeds": 0}, "from 1"),
        (WING, "waves", {"parameters": [0]}, "from 1"),
        (WING, "absent.npz", {}, "does not exist"),
        ("operater", "darcy", {}, "did you mean 'operators'"),
        ("./nowhere", "darcy", {}, "no field"),
    ],
)
def test_what_can_be_mended_is_told(tmp_path, wing, task, options, told):
    with pytest.raises(PaperworksError, match=told):
        compare(wing, task, runs=tmp_path, **options)


def test_a_wing_without_a_comparison_says_so_and_who_has_one(tmp_path):
    without = [wing for wing in find_wings().values() if not wing.comparable]
    assert set(find_wings()) == {paper.card.field for paper in find_papers().values()}
    for wing in without:
        with pytest.raises(PaperworksError, match=f"'{wing.field}' has no comparison.*operators"):
            compare(wing, "anything", runs=tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [("import no_such_module\n", "line 1 cannot be imported"), ("x = 1\n", "must define one Comparison, it defines 0")],
)
def test_a_broken_comparison_is_told(tmp_path, text, told):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "comparison.py").write_text(text)
    with pytest.raises(PaperworksError, match=told):
        compare(str(folder), "waves", runs=tmp_path)


def test_trials_follow_the_wings_code(tmp_path):
    """An edited comparison.py is measured anew."""
    folder = tmp_path / "edited_wing"
    shutil.copytree(WING, folder)
    first = compare(str(folder), "waves", seeds=1, budget="smoke", runs=tmp_path)
    text = (folder / "comparison.py").read_text()
    (folder / "comparison.py").write_text(text + "# another line\n")
    comparing.find_wing(str(folder))
    from paperworks.lab.ledger import code_hash

    assert code_hash.__wrapped__(folder / "comparison.py", folder) != code_hash.__wrapped__(
        Path(WING) / "comparison.py", Path(WING)
    )
    assert first.result["failures"] == []


# The table, from rows made by hand


def trial(arm, seed, error, parameters=100, seconds=1.0, inference=1.0, **changes):
    rows = [{"variant": arm, "cell": None, "metrics": {"error": error, "inference_ms": inference}}]
    made = {"arm": arm, "seed": seed, "point": {}, "rows": rows, "parameters": parameters, "seconds": seconds}
    return made | {"operations": 1, "settings": {"steps": 1, "lr": 0.1}} | changes


DECLARED = SimpleNamespace(
    metric="error", models={name: SimpleNamespace(about="", transfers=False) for name in ("a", "b", "c")}
)


def table_of(trials, sizes=(100,)):
    found = summarise(trials, DECLARED, ["a", "b", "c"], list(sizes), "parameters")  # type: ignore[arg-type]
    return {entry["model"]: entry for entry in found["models"]}, found["sentence"]


def test_the_ratio_is_paired_by_seed():
    """Twice the best's error on every seed: the interval has no width, however much seeds differ."""
    trials = [trial("a", seed, 10.0**seed) for seed in range(3)] + [
        trial("b", seed, 2 * 10.0**seed) for seed in range(3)
    ]
    table, sentence = table_of(trials)
    assert table["b"]["against_best"]["effect"] == pytest.approx(2)
    assert table["b"]["against_best"]["interval"] == pytest.approx([2, 2])
    assert table["a"]["against_best"] is None
    assert "Next is b, 2 times that" in sentence


def test_a_model_that_diverged_once_has_no_mean_and_is_last():
    trials = [trial("a", 0, 1.0), trial("a", 1, None), trial("b", 0, 5.0), trial("b", 1, 6.0)]
    table, sentence = table_of(trials)
    assert list(table) == ["b", "a"]
    assert table["a"]["error"]["mean"] is None
    assert table["a"]["error"]["diverged"] == 1
    assert not any(table["a"]["front"].values())
    assert sentence.startswith("b has the lowest error")
    assert table_of([trial("a", 0, None)])[1] == "No model finished."


def test_the_front_is_what_no_other_beats_in_both():
    trials = [
        trial("a", 0, 1.0, parameters=300, seconds=1.0, inference=2.0),
        trial("b", 0, 2.0, parameters=100, seconds=2.0, inference=2.0),
        trial("c", 0, 3.0, parameters=200, seconds=0.5, inference=1.0),
    ]
    table, _ = table_of(trials)
    assert [table[name]["front"]["parameters"] for name in "abc"] == [True, True, False]
    assert [table[name]["front"]["seconds"] for name in "abc"] == [True, False, True]
    assert [table[name]["front"]["inference_ms"] for name in "abc"] == [True, False, True]


def test_a_size_missed_by_more_than_5_per_cent_is_marked():
    table, _ = table_of([trial("a", 0, 1.0, parameters=104), trial("b", 0, 1.0, parameters=110)])
    assert [table["a"]["unequal"], table["b"]["unequal"]] == [False, True]


def test_times_are_medians_and_errors_means_with_t_intervals():
    trials = [trial("a", seed, error, seconds=s) for seed, (error, s) in enumerate([(1, 1), (2, 1.1), (3, 50)])]
    table, _ = table_of(trials)
    assert table["a"]["seconds"]["mean"] == 1.1
    assert table["a"]["error"]["mean"] == 2
    half = 4.302652729911275 / math.sqrt(3)  # t of 2 degrees of freedom times the standard error
    assert table["a"]["error"]["interval"] == pytest.approx([2 - half, 2 + half])


def test_a_model_is_built_at_the_width_nearest_to_its_size():
    wing = find_wing(WING)
    for parameters in (10, 100, 1000):
        width, count = wing.comparison.size("tanh", {"dims": 1}, parameters)
        assert count == 3 * width + 1
        assert abs(count - parameters) <= 2
        built = wing.comparison.models["tanh"].build(dims=1, width=width)
        assert sum(p.numel() for p in built.parameters()) == count
        assert isinstance(built, torch.nn.Module)


def test_a_recorded_comparison_is_found_again_and_a_smoke_run_or_a_failed_one_is_not_kept(tmp_path):
    shutil.copytree(WING, tmp_path / "wing")
    wing = find_wing(str(tmp_path / "wing"))
    assert comparing.recorded(wing) == {}
    report = compare(wing, "waves", models=["tanh", "line"], settings={"steps": 5, "lr": 0.01}, runs=tmp_path / "runs")
    path = comparing.record(wing, report)
    assert path == wing.folder / "results" / "waves-parameters.json"
    assert comparing.recorded(wing)["waves-parameters"]["comparison"] == report.result["comparison"]
    report.result["budget"] = "smoke"
    with pytest.raises(PaperworksError, match="--record needs another budget"):
        comparing.record(wing, report)
    report.result["budget"] = "laptop"
    report.failures.append({"arm": "tanh"})
    with pytest.raises(PaperworksError, match="not recorded"):
        comparing.record(wing, report)
    path.write_text('{"comparison": 3}')
    with pytest.raises(PaperworksError, match="record it again"):
        comparing.recorded(wing)
