"""The ledger: what was added is found again, by any process, whatever happened to the one that wrote it."""

import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import time

import pytest

from paperworks.errors import LedgerError
from paperworks.lab import Ledger, Study
from paperworks.lab.ledger import code_hash


def finished(seed, **more):
    return {"paper": "p", "study": "s", "arm": "a", "seed": seed, "rows": [], **more}


def test_what_was_added_is_found_by_the_next_process_to_the_bit(tmp_path):
    path = tmp_path / "runs" / "ledger.sqlite"  # its folder is made
    trial = finished(3, rows=[{"variant": "a", "cell": "é", "metrics": {"x": 0.1 + 0.2, "tiny": 5e-324, "gone": None}}])
    with Ledger(path) as ledger:
        assert ledger.get(["k"]) == {}
        assert ledger.add("k", trial)
    read = (
        "import sys, json; from paperworks.lab import Ledger; "
        "print(json.dumps(Ledger(sys.argv[1]).get(['k', 'unknown'])))"
    )
    done = subprocess.run([sys.executable, "-c", read, str(path)], capture_output=True, text=True, check=True)
    with Ledger(path) as ledger:
        assert ledger.get(["k", "unknown"]) == {"k": trial}
        assert done.stdout.strip() == json.dumps({"k": trial})


def test_a_trial_is_written_once(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as one, Ledger(tmp_path / "l.sqlite") as other:
        assert one.add("k", finished(0, by="one"))
        assert not other.add("k", finished(0, by="other"))
        assert other.get(["k"])["k"]["by"] == "one"
        assert (len(one), len(other)) == (1, 1)


def test_only_what_is_removed_is_forgotten(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for seed in range(4):
            ledger.add(f"k{seed}", finished(seed))
        ledger.remove(["k1", "k3", "unknown"])
        assert set(ledger.get(f"k{seed}" for seed in range(4))) == {"k0", "k2"}
        assert ledger.add("k1", finished(1))


def test_a_trial_takes_milliseconds_to_write_however_many_there_are(tmp_path):
    taken = []
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for seed in range(300):
            began = time.perf_counter()
            ledger.add(f"k{seed}", finished(seed))
            taken.append(time.perf_counter() - began)
    assert statistics.median(taken[-100:]) < 0.020


@pytest.mark.parametrize("missing", [1, 100, 4096, 9000])
def test_a_half_written_end_is_survived(tmp_path, missing):
    """A power cut: the newest bytes of the journal never reached the disk. Earlier trials are kept, work goes on."""
    path = tmp_path / "l.sqlite"
    padding = "x" * 3000
    with Ledger(path) as ledger:
        for seed in range(10):
            ledger.add(f"k{seed}", finished(seed, padding=padding))
        after = tmp_path / "after"
        after.mkdir()
        for name in ("l.sqlite", "l.sqlite-wal"):
            shutil.copy(tmp_path / name, after / name)
    journal = after / "l.sqlite-wal"
    journal.write_bytes(journal.read_bytes()[:-missing])
    with Ledger(after / "l.sqlite") as ledger:
        found = ledger.get(f"k{seed}" for seed in range(10))
        assert {f"k{seed}" for seed in range(7)} <= set(found) < {f"k{seed}" for seed in range(10)}
        assert list(found) == [f"k{seed}" for seed in range(len(found))]  # the newest are lost, none in between
        assert all(trial["padding"] == padding for trial in found.values())
        assert ledger.add("k9", finished(9))


def test_a_writer_killed_in_the_middle_leaves_nothing_half_and_no_lock(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.add("whole", finished(0))
    killed = (
        "import os, sys; from paperworks.lab import Ledger\n"
        "ledger = Ledger(sys.argv[1])\n"
        "with ledger._transaction():\n"
        "    ledger._connection.execute(\"INSERT INTO trials VALUES ('half','p','s','a',1,'{\\\"rows\\\": []}',0)\")\n"
        "    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", killed, str(path)], check=False).returncode == -9
    with Ledger(path) as ledger:
        assert set(ledger.get(["whole", "half"])) == {"whole"}
        assert ledger.add("half", finished(1))


def test_two_processes_may_make_the_ledger_at_once(tmp_path, monkeypatch):
    """While one looks whether the file is a ledger, another makes it one."""
    path, real, others = tmp_path / "l.sqlite", sqlite3.connect, []

    class Interrupted(sqlite3.Connection):
        def execute(self, *words):
            answer = super().execute(*words)
            if not others:
                monkeypatch.setattr(sqlite3, "connect", real)
                others.append(Ledger(path))
                others[0].add("theirs", finished(0))
            return answer

    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: real(*a, factory=Interrupted, **k))
    with Ledger(path) as ledger, others[0]:
        assert ledger.add("ours", finished(1))
        assert set(others[0].get(["ours", "theirs"])) == {"ours", "theirs"}


# What is no ledger


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=r"another program.*--runs"):
        Ledger(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"not a database, but text that is long enough to be read as one" * 20, b"\0" * 5000]
)
def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path, content):
    path = tmp_path / "l.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"l\.sqlite"), Ledger(path) as ledger:
        ledger.add("k", finished(0))
    assert path.read_bytes() == content


def test_a_truncated_ledger_is_told(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        for seed in range(200):
            ledger.add(f"k{seed}", finished(seed, padding="x" * 500))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LedgerError, match=r"l\.sqlite.*move it away"), Ledger(path) as ledger:
        ledger.get(f"k{seed}" for seed in range(200))


def test_a_path_under_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="--runs"):
        Ledger(tmp_path / "file" / "l.sqlite")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"rows": 3}', "{}"])
def test_a_damaged_record_is_told_and_mended_by_fresh(tmp_path, run_study, text):
    study = Study("s", arms=("a",), claims=[], seeds=2)
    study.trial(lambda t: t.row(x=float(t.seed)))
    before = run_study(study).trials
    with sqlite3.connect(tmp_path / "runs" / "ledger.sqlite") as database:
        database.execute("UPDATE trials SET result=? WHERE seed=1", (text,))
    database.close()
    with pytest.raises(LedgerError, match=r"damaged.*--fresh"):
        run_study(study)
    assert [trial["rows"] for trial in run_study(study, fresh=True).trials] == [trial["rows"] for trial in before]
    assert [trial["rows"] for trial in run_study(study).trials] == [trial["rows"] for trial in before]


# What a run takes from it


def test_a_finished_trial_is_not_run_again_and_a_changed_one_is(run_study):
    ran = []
    study = Study("s", arms=("a", "b"), claims=[], settings=dict(k=1), per_arm={"b": dict(only_b=1)}, seeds=2)

    @study.trial
    def body(t):
        ran.append((t.arm, t.seed, t.settings.k))
        t.row(x=float(t.settings.k))

    first = run_study(study)
    assert ran == [("a", 0, 1), ("b", 0, 1), ("a", 1, 1), ("b", 1, 1)]
    assert run_study(study).trials == first.trials
    assert len(ran) == 4
    run_study(study, seeds=3)
    assert ran[4:] == [("a", 2, 1), ("b", 2, 1)]
    run_study(study, seeds=1, settings={"k": 2})
    assert ran[6:] == [("a", 0, 2), ("b", 0, 2)]
    run_study(study, seeds=1, fresh=True)
    assert ran[8:] == [("a", 0, 1), ("b", 0, 1)]
    assert run_study(study).trials[2:] == first.trials[2:]  # fresh forgot no more than was asked for
    assert len(ran) == 10


def test_a_trial_is_run_again_when_its_code_changes_and_only_then(run_study, tmp_path):
    ran = []
    study = Study("s", arms=("a",), claims=[], seeds=1)

    @study.trial
    def body(t):
        ran.append(t.seed)
        t.row(x=1.0)

    def runs_after(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        code_hash.cache_clear()
        before = len(ran)
        run_study(study)
        return len(ran) - before

    assert runs_after(study="from .model import Net\n", model="class Net: width = 1\n") == 1
    assert runs_after() == 0
    assert runs_after(notes="x = 1\n") == 0  # nothing imports it
    assert runs_after(model="class Net: width = 2\n") == 1
    assert runs_after(study="from .model import Net\n# more\n") == 1
    assert runs_after(model="class Net: width = 1\n", study="from .model import Net\n") == 0  # back again, and known
    code_hash.cache_clear()


def test_a_failing_trial_is_no_finished_one(run_study):
    study, mended = Study("s", arms=("a", "b"), claims=[], seeds=1), []

    @study.trial
    def body(t):
        if t.arm == "a" and not mended:
            raise RuntimeError("boom")
        t.row(x=1.0)

    report = run_study(study)
    assert [(f["arm"], "RuntimeError: boom" in f["traceback"]) for f in report.failures] == [("a", True)]
    assert [trial["arm"] for trial in report.trials] == ["b"]
    mended.append(True)
    again = run_study(study)
    assert again.failures == []
    assert [trial["arm"] for trial in again.trials] == ["a", "b"]
