"""A Ray cluster of two nodes gives the rows that one process gives, to the bit; a node that dies loses nothing.

The cluster runs on this machine: two nodes of one core each, with workers, stores and deaths of their own, and a head
that runs no trials, as the driver's own node often does.
"""

import contextlib
import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from paperworks import cli
from paperworks.lab import Ledger, run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
TOY = Path(__file__).parents[1] / "lab" / "toy_paper"
STORE = dict(object_store_memory=80 * 2**20, include_dashboard=False)
PATIENCE = 120.0  # seconds


def descendants():
    return set(psutil.Process().children(recursive=True))


def wait(until, what):
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} seconds for {what}"
        time.sleep(0.02)


class TwoNodes:
    """A cluster and every process that was seen to belong to it."""

    def __init__(self, cluster):
        self.cluster, self.seen = cluster, set()
        self.address = cluster.address

    def look(self):
        self.seen |= descendants()


@pytest.fixture
def two_nodes():
    """Two nodes; afterwards none of their processes may be left."""
    from ray.cluster_utils import Cluster

    before = descendants()
    cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=0, **STORE))
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **STORE)
        cluster.wait_for_nodes()
        nodes = TwoNodes(cluster)
        nodes.look()
        yield nodes
        nodes.look()
    finally:
        cluster.shutdown()
    _, alive = psutil.wait_procs(nodes.seen - before, timeout=PATIENCE)
    assert not alive
    assert descendants() <= before


def cells(trials):
    return [(trial["arm"], trial["seed"], trial["rows"]) for trial in trials]


@contextlib.contextmanager
def beside(work):
    """Run `work` in a thread; what it raises is raised here, at the end."""
    raised = []

    def guarded():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if raised:
        raise raised[0]


def test_the_same_command_gives_the_same_rows_to_the_bit(two_nodes, tmp_path, monkeypatch, capsys):
    def command(*words):
        monkeypatch.setattr(sys, "argv", ["paperworks", "run", str(TOY), "--json", *words])
        with contextlib.suppress(SystemExit):
            cli.main()
        return json.loads(capsys.readouterr().out)

    here = command("--runs", str(tmp_path / "here"))
    there = command("--runs", str(tmp_path / "there"), "--on", f"ray:{two_nodes.address}")
    assert len(here["trials"]) == 12
    assert cells(there["trials"]) == cells(here["trials"])
    assert [v["effect"] for v in there["verdicts"]] == [v["effect"] for v in here["verdicts"]]
    assert not there["failures"]
    with Ledger(tmp_path / "there" / "ledger.sqlite") as ledger:
        assert len(ledger) == 12


def test_a_node_that_dies_loses_nothing(two_nodes, tmp_path):
    notes = tmp_path / "notes"
    notes.touch()
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "card.md").write_text((TOY / "card.md").read_text())
    settings = {"steps": 800, "long_steps": 800}
    victim, _ = two_nodes.cluster.worker_nodes
    raylet = str(victim.all_processes["raylet"][0].process.pid)
    armed = tmp_path / "armed"
    begin = 'note(f"begin {t.arm} {t.seed}")'
    # A trial that begins on the victim once it is armed stays there until its node dies: it cannot end before.
    told = f"""os.environ['TOY_NOTES'] = {str(notes)!r}
    {begin}
    if str(os.getppid()) == {raylet!r} and os.path.exists({str(armed)!r}):
        note(f"held {{t.arm}} {{t.seed}}")
        import threading
        threading.Event().wait(120)
        raise RuntimeError("its node was not killed")"""
    text = (TOY / "study.py").read_text()
    assert text.count(begin) == 1
    (paper / "study.py").write_text(text.replace(begin, told))
    at_work = []

    def held():
        return [tuple(words[1:]) for words in map(str.split, notes.read_text().splitlines()) if words[0] == "held"]

    def kill():
        wait(lambda: notes.read_text().count("end") > 1, "finished trials to keep")
        armed.touch()
        wait(held, "a trial on the node to kill")
        two_nodes.look()
        at_work.extend(held())
        two_nodes.cluster.remove_node(victim, allow_graceful=False)

    with beside(kill):
        report = run(str(paper), runs=tmp_path / "there", on=f"ray:{two_nodes.address}", settings=settings)
    assert not report.failures
    assert Counter((t["arm"], t["seed"]) for t in report.trials) == Counter(
        (arm, seed) for arm in ("fast", "slow", "long") for seed in range(4)
    )
    with Ledger(tmp_path / "there" / "ledger.sqlite") as ledger:
        assert len(ledger) == 12
    begun = Counter(tuple(line.split()[1:3]) for line in notes.read_text().splitlines() if line.startswith("begin"))
    (interrupted,) = at_work
    assert begun[interrupted] == 2  # it was run again, on the other node
    here = run(str(paper), runs=tmp_path / "here", settings=settings)
    assert cells(report.trials) == cells(here.trials)


def test_what_is_finished_is_not_run_again(two_nodes, tmp_path):
    settings = {"long_steps": 15}
    run(str(TOY), seeds=2, runs=tmp_path, settings=settings)
    plans = []
    run(
        str(TOY),
        seeds=3,
        runs=tmp_path,
        settings=settings,
        on=f"ray:{two_nodes.address}",
        watch=lambda event: plans.append(event) if event.kind == "plan" else None,
    )
    assert (plans[0].done, plans[0].total) == (6, 9)


def test_no_cluster_at_the_address_is_told(tmp_path, monkeypatch, capsys):
    words = ["run", str(TOY), "--runs", str(tmp_path), "--on", "ray:127.0.0.1:1", "--json"]
    monkeypatch.setattr(sys, "argv", ["paperworks", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: no Ray cluster at 127.0.0.1:1")
