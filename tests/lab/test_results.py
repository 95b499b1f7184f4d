"""Recorded results: what one study's run leaves of the others, and damage."""

import json
from types import SimpleNamespace

import pytest

from paperworks.errors import PaperworksError
from paperworks.lab.results import compact_json, record, record_fit, recorded


def paper(tmp_path, *studies):
    return SimpleNamespace(folder=tmp_path, slug="p", studies=dict.fromkeys(studies))


def result(*studies, effect=1.0, not_run=()):
    return {
        "budget": "laptop",
        "studies": [{"name": name, "command": f"run {name}"} for name in studies],
        "verdicts": [{"study": name, "effect": effect} for name in studies],
        "trials": [{"study": name, "cpu_seconds": 2.0, "rows": []} for name in studies],
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
