"""A run that is killed at any moment and run again leaves the same rows; finished trials are not run twice."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from paperworks.lab import Ledger, run
from paperworks.lab.executors import in_process

TOY = Path(__file__).parent / "toy_paper"


def rows(report):
    return [(t["arm"], t["seed"], t["rows"]) for t in report.trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    began = time.perf_counter()
    report = run(str(TOY), runs=tmp_path_factory.mktemp("undisturbed"))
    assert not report.failures
    return rows(report), time.perf_counter() - began


@pytest.mark.slow
def test_killed_at_20_random_moments(undisturbed, tmp_path, monkeypatch):
    expected, length = undisturbed
    notes = tmp_path / "notes"
    monkeypatch.setenv("TOY_NOTES", str(notes))
    chance = random.Random(0)
    kills = 0
    while kills < 20:
        child = os.fork()  # torch is imported already and runs on one thread, so forking is safe and quick
        if child == 0:
            run(str(TOY), runs=tmp_path / "runs")
            os._exit(0)
        time.sleep(chance.uniform(0.02, 0.35 * length))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        kills += 1
        if os.WIFEXITED(status):  # it was done before the signal came: start over on a fresh ledger
            (tmp_path / "runs").rename(tmp_path / f"done{kills}")
            notes.unlink()
    report = run(str(TOY), runs=tmp_path / "runs")
    assert rows(report) == expected
    ended = Counter(line for line in notes.read_text().splitlines() if line.startswith("end"))
    # A trial may end and be killed before its row is in the ledger; with 20 kills that is rare, twice is never.
    assert sum(count - 1 for count in ended.values()) <= 2
    again = run(str(TOY), runs=tmp_path / "runs")
    assert rows(again) == expected
    assert Counter(line for line in notes.read_text().splitlines() if line.startswith("end")) == ended


@pytest.mark.slow
def test_long_trial_goes_on_from_its_checkpoint(undisturbed, tmp_path, monkeypatch):
    expected, _ = undisturbed
    notes = tmp_path / "notes"
    monkeypatch.setenv("TOY_NOTES", str(notes))
    runs = tmp_path / "runs"
    long_steps = 400
    for _ in range(3):
        child = os.fork()
        if child == 0:
            run(str(TOY), runs=runs, seeds=1)
            os._exit(0)
        at = notes.read_text().count("step") if notes.exists() else 0
        deadline = time.monotonic() + 60
        while (notes.read_text().count("step") if notes.exists() else 0) < at + 90 and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    report = run(str(TOY), runs=runs, seeds=1)
    assert rows(report) == [row for row in expected if row[1] == 0]
    assert notes.read_text().count("step") < 2 * long_steps


@pytest.mark.slow
def test_worker_processes_give_the_same_rows_to_the_bit(undisturbed, tmp_path):
    assert rows(run(str(TOY), runs=tmp_path, jobs=2)) == undisturbed[0]


@pytest.mark.slow
def test_a_killed_parent_leaves_no_workers(tmp_path):
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(
        "from paperworks.lab import run\n"
        "if __name__ == '__main__':\n"
        f"    run({str(TOY)!r}, runs={str(tmp_path / 'r')!r}, jobs=2, settings={{'long_steps': 200000}})"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)

    def alive(of=None):
        """Process numbers of workers: children of the parent, or those of a given set that still run."""
        found = set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                state, ppid = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:2]
                worker = b"spawn_main" in (entry / "cmdline").read_bytes()
            except OSError:
                continue
            mine = int(ppid) == parent.pid if of is None else int(entry.name) in of
            if worker and mine and state != "Z":
                found.add(int(entry.name))
        return found

    def wait(until):
        deadline = time.monotonic() + 60
        while not until() and time.monotonic() < deadline:
            time.sleep(0.1)

    wait(lambda: len(alive()) == 2)
    workers = alive()
    assert len(workers) == 2
    time.sleep(3)  # long enough for them to be at work
    parent.kill()
    parent.wait()
    wait(lambda: not alive(workers))
    assert not alive(workers)


def test_an_empty_trial_costs_under_20_ms(tmp_path):
    from paperworks.lab import Study, trials

    study = Study("empty", arms=("a",), claims=[], seeds=40)
    study.trial(lambda t: t.row(x=1.0))

    class Empty:
        slug, folder, module, reference = "toy", TOY, None, "toy"
        studies = {"empty": study}  # noqa: RUF012

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "find_paper", lambda _: Empty)
        times = []
        for attempt in range(3):
            began = time.perf_counter()
            report = run(Empty, runs=tmp_path / str(attempt))  # type: ignore[arg-type]
            times.append((time.perf_counter() - began) / 40)
    assert len(report.trials) == 40
    assert min(times) < 0.020


WRITER = """
import sys
from paperworks.lab.ledger import Ledger
which = int(sys.argv[2])
with Ledger(sys.argv[1]) as ledger:
    for i in range(500):  # every trial is offered by two of the eight processes
        number = (which % 4) * 500 + i
        ledger.add(f"key{number}", {"paper": "p", "study": "s", "arm": "a", "seed": number, "rows": []})
"""


@pytest.mark.slow
def test_eight_writers_lose_and_duplicate_nothing(tmp_path):
    import subprocess
    import sys

    path = tmp_path / "ledger.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(i)]) for i in range(8)]
    assert [writer.wait() for writer in writers] == [0] * 8
    with Ledger(path) as ledger:
        assert len(ledger) == 2000
        found = ledger.get(f"key{i}" for i in range(2000))
    assert sorted(trial["seed"] for trial in found.values()) == list(range(2000))


def test_failed_trial_is_told_and_others_are_kept():
    def work(task, progress):
        if task["n"] == 1:
            raise RuntimeError("boom")
        return {"n": task["n"]}

    outcomes = dict(in_process([{"n": 0}, {"n": 1}, {"n": 2}], work))
    assert outcomes[0] == {"result": {"n": 0}}
    assert outcomes[2] == {"result": {"n": 2}}
    assert "RuntimeError: boom" in outcomes[1]["error"]
