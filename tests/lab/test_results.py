"""Recorded results: what one study's run leaves of the others, and damage."""

import json
from types import SimpleNamespace

import pytest

from paperworks.errors import PaperworksError
from paperworks.lab import Beats, Study
from paperworks.lab.results import compact_json, record, record_fit, recorded


def paper(tmp_path, *studies):
    return SimpleNamespace(folder=tmp_path, slug="p", studies=dict.fromkeys(studies))


def result(*studies, effect=1.0, not_run=()):
    """A run's result, as small as one can be."""
    said = {"claim": "a beats b", "kind": "headline", "status": "supported", "sentence": "It does.", "interval": None}
    paid = {"arm": "a", "seed": 0, "point": {}, "settings": {}, "counts": {}, "cpu_seconds": 2.0}
    return {
        "budget": "laptop",
        "environment": {},
        "studies": [{"name": name, "settings": {}, "command": f"run {name}"} for name in studies],
        "verdicts": [{"study": name, "effect": effect, **said} for name in studies],
        "trials": [{"study": name, "rows": [], **paid} for name in studies],
        "not_run": [{"study": name, "why": "no data"} for name in not_run],
    }


def test_studies_left_out_keep_their_record_in_the_papers_order(tmp_path):
    here = paper(tmp_path, "one", "two")
    record(here, result("two", effect=2.0, not_run=["one"]))
    record(here, result("one", effect=1.0, not_run=["two"]))
    found = recorded(here).result
    assert [study["name"] for study in found["studies"]] == ["one", "two"]
    assert [verdict["effect"] for verdict in found["verdicts"]] == [1.0, 2.0]
    assert found["cpu_seconds"] == 4.0
    assert found["not_run"] == []
    assert found["command"] == "run one; run two"


def test_a_study_measured_again_replaces_its_record(tmp_path):
    here = paper(tmp_path, "one")
    record(here, result("one", effect=1.0))
    record(here, result("one", effect=3.0))
    assert [verdict["effect"] for verdict in recorded(here).result["verdicts"]] == [3.0]


def test_a_study_that_is_no_more_is_dropped(tmp_path):
    record(paper(tmp_path, "old", "new"), result("old"))
    record(paper(tmp_path, "new"), result("new"))
    assert [s["name"] for s in recorded(paper(tmp_path, "new")).result["studies"]] == ["new"]


def test_rows_are_kept_to_the_bit(tmp_path):
    exact = 0.1 + 0.2
    value = result("one")
    value["trials"][0]["rows"] = [{"metrics": {"acc": exact}}]
    value["trials"][0]["curves"] = {"loss": [[0, 1.23456789]]}
    trial = json.loads(compact_json(value))["trials"][0]
    assert trial["rows"][0]["metrics"]["acc"] == exact
    assert trial["curves"] == {"loss": [[0, 1.23457]]}


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"verdicts": 3}', "\x00\xff"])
def test_damage_is_told_with_the_file(tmp_path, text):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "laptop.json").write_text(text, encoding="latin-1")
    with pytest.raises(PaperworksError, match=r"laptop\.json"):
        recorded(paper(tmp_path, "one"))


def test_fits_are_kept_side_by_side(tmp_path):
    here = paper(tmp_path, "one")
    record_fit(here, "a", tmp_path / "x.npz", {"model": "/secret", "metrics": {"test": {"l2": 1.0}}})
    record_fit(here, "b", tmp_path / "y.npz", {"metrics": {"test": {"l2": 2.0}}})
    found = recorded(here)
    assert (found.fitted("a", "test", "l2"), found.fitted("b", "test", "l2")) == (1.0, 2.0)
    assert found.fitted("c", "test", "l2") is None
    assert "secret" not in (tmp_path / "results" / "fits.json").read_text()


def lines(name, shift=0.0):
    """A study of two arms, whose scores follow name and seed."""
    study = Study(name, arms=("a", "b"), claims=[Beats("acc", "a", "b", name=f"claim of {name}")], seeds=3)

    @study.trial
    def body(t):
        t.row(acc=0.5 + shift + 0.1 * (t.arm == "a") + 0.01 * t.seed**2 * (1 + (t.arm == "a")))

    return study


def test_recording_one_measured_study_keeps_the_others_to_the_letter(run_study, tmp_path):
    here = paper(tmp_path, "one", "two")
    record(here, run_study(lines("one")).result)
    record(here, run_study(lines("two")).result)
    before = recorded(here)
    path = record(here, run_study(lines("two", shift=0.2), seeds=4, fresh=True).result)
    after = recorded(here)
    for found in (before.result, after.result):
        assert [study["name"] for study in found["studies"]] == ["one", "two"]
        assert [verdict["claim"] for verdict in found["verdicts"]] == ["claim of one", "claim of two"]
    assert (len(after.trials("one")), len(after.trials("two"))) == (6, 8)
    assert after.trials("one") == before.trials("one")
    assert after.verdict("one") == before.verdict("one")
    assert after.study("one") == before.study("one")
    assert after.verdict("two")["seeds"] == 4
    assert after.mean("two", "b", "acc") == pytest.approx(0.7 + 0.01 * (0 + 1 + 4 + 9) / 4)
    assert [entry for entry in path.parent.iterdir() if entry.name.startswith(".")] == []  # no half-written file


def test_budgets_are_recorded_apart(run_study, tmp_path):
    here = paper(tmp_path, "one")
    record(here, run_study(lines("one")).result)
    record(here, run_study(lines("one"), budget="smoke").result)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"laptop.json", "smoke.json"}
    assert recorded(here).verdict("one")["seeds"] == 3
    assert recorded(here, "smoke").verdict("one")["seeds"] == 2
    assert recorded(here, "paper").result is None


def test_what_was_measured_is_read_back_as_it_was(run_study, tmp_path):
    report = run_study(lines("one"))
    record(paper(tmp_path, "one"), report.result)
    found = recorded(paper(tmp_path, "one"))
    assert found.trials("one") == report.trials
    assert found.result["verdicts"] == [verdict.to_dict() for verdict in report.verdicts]
    by_name = found.verdict("one", "claim of one")
    assert by_name == found.verdict("one", 0)
    assert found.verdict("one", 1) is None
    assert found.verdict("one", "claim of nobody") is None


def test_means_are_over_seeds_and_cells_and_none_where_a_seed_diverged(tmp_path):
    here, measured = paper(tmp_path, "s"), result("s")
    rows = [
        [{"variant": "a", "cell": f"m={m}", "metrics": {"x": seed + m, "gone": None}} for m in (0, 10)]
        for seed in (0, 1)
    ]
    measured["trials"] = [
        {
            **measured["trials"][0],
            "seed": seed,
            "parameters": 10 + seed,
            "counts": {"spikes": 4.0 * seed},
            "rows": rows[seed],
        }
        for seed in (0, 1)
    ]
    record(here, measured)
    found = recorded(here)
    assert found.mean("s", "a", "x") == 5.5
    assert (found.mean("s", "a", "x", cell="m=0"), found.mean("s", "a", "x", "m=10")) == (0.5, 10.5)
    assert found.mean("s", "a", "gone") is None
    assert found.mean("s", "a", "x", cell="m=3") is None
    assert (found.cost("s", "a", "parameters"), found.cost("s", "a", "spikes")) == (10.5, 2.0)
    assert found.cost("s", "a", "unheard of") is None


def test_a_damaged_record_is_not_written_over(tmp_path):
    here = paper(tmp_path, "one", "two")
    path = record(here, result("one"))
    path.write_text(path.read_text()[:-30])
    before = path.read_bytes()
    with pytest.raises(PaperworksError, match=r"laptop\.json is not JSON"):
        record(here, result("two"))
    assert path.read_bytes() == before


def test_a_full_disk_leaves_the_earlier_record(tmp_path, monkeypatch):
    import errno

    here = paper(tmp_path, "one")
    path = record(here, result("one"))
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(PaperworksError, match=r"laptop\.json cannot be written: No space left.*make room"):
        record(here, result("one", effect=9.0))
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["laptop.json"]


def test_a_results_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    with pytest.raises(PaperworksError, match="cannot be written"):
        record(paper(tmp_path, "one"), result("one"))


def test_a_run_on_fresh_seeds_is_kept_beside_the_first(tmp_path):
    here = paper(tmp_path, "one")
    record(here, result("one", effect=1.0))
    assert recorded(here).confirmed("one") is None
    record(here, {**result("one", effect=3.0), "first_seed": 100})
    found = recorded(here)
    assert found.verdict("one")["effect"] == 1.0
    assert found.confirmed("one", "a beats b")["effect"] == 3.0
