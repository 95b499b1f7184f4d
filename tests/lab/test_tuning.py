"""Equal tuning and equal time: one grid for all, on seeds of their own, stored and used."""

import json
import time

import pytest

from paperworks.errors import PaperworksError
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
        pause = {"cheap": 2e-4, "dear": 8e-4}[t.method]
        began = time.perf_counter()
        while time.perf_counter() - began < pause * t.settings.steps:
            pass
        t.log(t.settings.steps, seconds=time.perf_counter() - began)
        t.row(steps=t.settings.steps)

    report = run_study(study, seeds=1)
    steps = {trial["arm"]: trial["rows"][0]["metrics"]["steps"] for trial in report.trials}
    assert (steps["cheap"], steps["dear"]) == (200, 200)
    assert steps["cheap_long"] == pytest.approx(800, rel=0.1)
    assert report.result["studies"][0]["calibrated"] == ["cheap_long"]
    again = run_study(study, seeds=2)
    assert {t["rows"][0]["metrics"]["steps"] for t in again.trials if t["arm"] == "cheap_long"} == {steps["cheap_long"]}
