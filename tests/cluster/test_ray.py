"""A local Ray cluster of two nodes: the same rows as in process, and a lost node loses nothing."""

import threading
import time
from pathlib import Path

import pytest

from paperworks.lab import find_paper, run

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
TOY = Path(__file__).parents[1] / "lab" / "toy_paper"


@pytest.fixture
def cluster():
    """Two nodes of one worker each; the driver's own node runs no trials."""
    import ray
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 100 * 2**20})
    nodes.workers = [nodes.add_node(num_cpus=1, object_store_memory=100 * 2**20) for _ in range(2)]
    nodes.wait_for_nodes()
    yield nodes
    if ray.is_initialized():
        ray.shutdown()
    nodes.shutdown()


def rows(report):
    return {(trial["study"], trial["arm"], trial["seed"]): trial["rows"] for trial in report.trials}


def test_same_rows_as_in_process_to_the_bit(cluster, tmp_path):
    here = run(str(TOY), "laptop", seeds=3, runs=tmp_path / "here")
    there = run(str(TOY), "laptop", seeds=3, runs=tmp_path / "there", on=f"ray:{cluster.address}")
    assert there.failures == []
    assert rows(there) == rows(here)
    assert [verdict.interval for verdict in there.verdicts] == [verdict.interval for verdict in here.verdicts]


def test_a_node_killed_mid_run_loses_nothing(cluster, tmp_path, monkeypatch):
    here = run(str(TOY), "laptop", seeds=6, runs=tmp_path / "here")
    events: list = []
    begun = threading.Event()

    def watch(event):
        events.append(event)
        if event.kind == "finished":
            begun.set()

    def kill():
        assert begun.wait(120)
        cluster.remove_node(cluster.workers[0], allow_graceful=False)
        killed.append(time.monotonic())

    killed: list = []
    killer = threading.Thread(target=kill)
    killer.start()
    there = run(str(TOY), "laptop", seeds=6, runs=tmp_path / "there", on=f"ray:{cluster.address}", watch=watch)
    killer.join()
    assert killed
    assert sum(event.kind == "finished" for event in events) == len(here.trials)
    assert rows(there) == rows(here)


def test_what_is_finished_is_not_run_again(cluster, tmp_path):
    run(str(TOY), "laptop", seeds=2, runs=tmp_path)
    plan: list = []
    run(
        str(find_paper(str(TOY)).folder),
        "laptop",
        seeds=3,
        runs=tmp_path,
        on=f"ray:{cluster.address}",
        watch=lambda event: plan.append(event) if event.kind == "plan" else None,
    )
    assert (plan[0].done, plan[0].total) == (6, 9)
