"""Equal tuning and equal time: one grid for all, on seeds of their own, stored and used."""

import json

import pytest

from paperworks.errors import PaperworksError, SettingError
from paperworks.lab import Beats, Study

BEST = {"a": 3, "b": 1}


def tuned_study(**options):
    study = Study(
        "tuned",
        arms=("a", "b"),
        claims=[Beats("acc", "a", "b")],
        settings=dict(k=0, steps=100),
        grid=dict(k=[1, 2, 3, 4]),
        select=("val_acc", "higher"),
        tuning=dict(steps=10),
        seeds=3,
        **options,
    )

    @study.trial
    def body(t):
        seen.append((t.arm, t.seed, t.settings.k, t.settings.steps))
        t.row(acc=float(t.settings.k), val_acc=-abs(t.settings.k - BEST[t.method]) + 0.01 * (t.seed % 2))

    return study


seen: list = []


@pytest.fixture(autouse=True)
def _forget():
    seen.clear()


def test_every_arm_gets_the_same_grid_on_seeds_of_its_own(run_study):
    report = run_study(tuned_study(), tune=True)
    searched = {trial for trial in seen if trial[1] >= 1000}
    assert searched == {(arm, seed, k, 10) for arm in "ab" for seed in (1000, 1001) for k in (1, 2, 3, 4)}
    measured = {trial for trial in seen if trial[1] < 1000}
    assert measured == {(arm, seed, BEST[arm], 100) for arm in "ab" for seed in (0, 1, 2)}
    assert {trial["seed"] for trial in report.trials} == {0, 1, 2}
    entry = report.result["studies"][0]["tuning"]
    assert entry["choices"] == {"a": {"k": 3}, "b": {"k": 1}}
    assert entry["edges"] == ["b: k=1 is the smallest of the grid"]
    assert [item["score"] for item in entry["scores"]["a"]] == pytest.approx([-1.995, -0.995, 0.005, -0.995])


def test_choices_are_stored_and_used_by_later_runs(run_study):
    study = tuned_study()
    run_study(study, tune=True)
    seen.clear()
    run_study(study, seeds=4)
    assert seen == [("a", 3, 3, 100), ("b", 3, 1, 100)], "three seeds are in the ledger, the fourth uses the choice"


def test_choices_shipped_with_the_paper_are_used(run_study, tmp_path):
    (tmp_path / "results").mkdir()
    shipped = {"tuned@laptop": {"choices": {"a": {"k": 4}, "b": {"k": 2}}}}
    (tmp_path / "results" / "tuning.json").write_text(json.dumps(shipped))
    run_study(tuned_study(), seeds=1)
    assert seen == [("a", 0, 4, 100), ("b", 0, 2, 100)]


def test_a_setting_given_by_hand_wins(run_study):
    run_study(tuned_study(), seeds=1, settings={"k": 9})
    assert {trial[2] for trial in seen} == {9}


def test_a_point_that_diverges_is_not_chosen(run_study):
    study = Study("d", arms=("a",), claims=[], settings=dict(k=0), grid=dict(k=[1, 2]), select=("val_loss", "lower"))

    @study.trial
    def body(t):
        t.row(val_loss=None if t.settings.k == 1 else 100.0)

    report = run_study(study, tune=True, seeds=1)
    assert report.result["studies"][0]["tuning"]["choices"] == {"a": {"k": 2}}


def test_a_failing_trial_stops_the_tuning(run_study):
    study = Study("f", arms=("a",), claims=[], settings=dict(k=0), grid=dict(k=[1, 2]), select=("val", "lower"))

    @study.trial
    def body(t):
        raise RuntimeError("out of paper")

    with pytest.raises(PaperworksError, match="out of paper"):
        run_study(study, tune=True)


def test_equal_time_stretches_the_cheaper_arm(run_study):
    study = Study(
        "timed",
        arms=("cheap", "dear"),
        claims=[],
        settings=dict(steps=200),
        equal_time={"cheap_long": ("cheap", "dear")},
    )

    @study.trial
    def body(t):
        seen.append((t.arm, t.seed))
        slow = 10 if t.seed == 1001 else 1  # one of the timed runs is disturbed; the median does not follow it
        t.log(t.settings.steps, seconds=slow * {"cheap": 2e-4, "dear": 8e-4}[t.method] * t.settings.steps)
        t.row(steps=t.settings.steps)

    report = run_study(study, seeds=1)
    assert {seed for _, seed in seen} == {0, 1000, 1001, 1002}
    assert seen[:6] == [(arm, seed) for seed in (1000, 1001, 1002) for arm in ("cheap", "dear")]  # interleaved
    found = {trial["arm"]: trial for trial in report.trials}
    assert {arm: trial["rows"][0]["metrics"]["steps"] for arm, trial in found.items()} == {
        "cheap": 200,
        "dear": 200,
        "cheap_long": 800,
    }
    assert found["cheap_long"]["rows"][0]["variant"] == "cheap_long"
    assert found["cheap_long"]["seconds"] == pytest.approx(found["dear"]["seconds"])
    assert report.result["studies"][0]["calibrated"] == ["cheap_long"]
    seen.clear()
    again = run_study(study, seeds=2)
    assert {t["rows"][0]["metrics"]["steps"] for t in again.trials if t["arm"] == "cheap_long"} == {800}
    assert seen == [("cheap", 1), ("dear", 1), ("cheap_long", 1)]  # calibrated once


def test_a_smoke_run_calibrates_nothing(run_study):
    study = Study(
        "timed", arms=("a", "b"), claims=[], settings=dict(rounds=7), equal_time={"a_long": ("a", "b", "rounds")}
    )

    @study.trial
    def body(t):
        t.row(rounds=t.settings.rounds)

    report = run_study(study, budget="smoke")
    assert {trial["rows"][0]["metrics"]["rounds"] for trial in report.trials} == {7}
    assert report.result["studies"][0]["calibrated"] == []


def test_equal_time_goes_by_the_tuned_settings(run_study):
    """The chosen setting makes each step dearer: the calibration must time the arms as they will be run."""
    study = Study(
        "both",
        arms=("a", "b"),
        claims=[],
        settings=dict(k=1, steps=100),
        grid=dict(k=[1, 2, 4]),
        select=("val_loss", "lower"),
        equal_time={"a_long": ("a", "b")},
    )

    @study.trial
    def body(t):
        best = {"a": 1, "b": 4}[t.method]
        t.log(t.settings.steps, seconds=1e-3 * t.settings.k * t.settings.steps)
        t.row(val_loss=1.0 + abs(t.settings.k - best), steps=t.settings.steps, k=t.settings.k)

    trials = {trial["arm"]: trial for trial in run_study(study, tune=True, seeds=1).trials}
    assert {arm: trial["settings"] for arm, trial in trials.items()} == {
        "a": dict(k=1, steps=100),
        "b": dict(k=4, steps=100),
        "a_long": dict(k=1, steps=400),
    }


def test_tuning_is_told_with_its_grid_and_recorded_with_the_paper(run_study, tmp_path):
    """A run tunes beside its ledger; only recording writes into the paper's folder."""
    run_study(tuned_study(), tune=True, seeds=1)
    assert not (tmp_path / "results").exists()
    stored = json.loads((tmp_path / "runs" / "toy" / "tuning.json").read_text())["tuned@laptop"]
    assert stored["grid"] == {"k": [1, 2, 3, 4]}
    assert stored["select"] == ["val_acc", "higher"]
    assert stored["seeds"] == [1000, 1001]
    assert [item["point"] for item in stored["scores"]["b"]] == [{"k": k} for k in (1, 2, 3, 4)]


def test_tuning_does_not_look_at_the_test_metric(run_study):
    """The test score rises with k; the choice follows the validation score alone."""
    report = run_study(tuned_study(), tune=True, seeds=1)
    assert [trial["rows"][0]["metrics"]["acc"] for trial in report.trials] == [3.0, 1.0]


def test_every_combination_of_a_grid_is_tried(run_study):
    study = Study(
        "grid", arms=("a",), claims=[], settings=dict(k=0, m=0), grid=dict(k=[1, 2], m=[5, 6, 7]),
        select=("val", "higher"),
    )  # fmt: skip

    @study.trial
    def body(t):
        seen.append((t.settings.k, t.settings.m))
        t.row(val=float(t.settings.k * (10 - abs(t.settings.m - 6))))

    entry = run_study(study, tune=True, seeds=1).result["studies"][0]["tuning"]
    assert set(seen) == {(k, m) for k in (1, 2) for m in (5, 6, 7)}
    assert entry["choices"] == {"a": {"k": 2, "m": 6}}
    assert entry["edges"] == []  # of two values each one is an edge: nothing to say


def test_fresh_seeds_repeat_the_choices_and_leave_the_first_runs_alone(run_study):
    def trial(t):
        t.row(error=t.settings["lr"] + t.seed, val_error=t.settings["lr"] + t.seed)

    study = Study(
        "fresh",
        arms=("a", "b"),
        settings=dict(lr=1.0),
        grid=dict(lr=[0.5, 1.0, 2.0]),
        select=("val_error", "lower"),
        seeds=3,
        claims=[Beats("error", "a", "b")],
    )
    study.trial(trial)
    first = run_study(study, tune=True)
    again = run_study(study, first_seed=100, seeds=4)
    assert [t["seed"] for t in again.trials if t["arm"] == "a"] == [100, 101, 102, 103]
    assert {t["settings"]["lr"] for t in again.trials} == {t["settings"]["lr"] for t in first.trials} == {0.5}
    assert again.folder != first.folder
    assert "--first-seed 100" in again.result["command"]
    with pytest.raises(SettingError, match="leave --tune out"):
        run_study(study, first_seed=100, tune=True)
    with pytest.raises(SettingError, match="from 1000 up are for tuning"):
        run_study(study, first_seed=998, seeds=4)
