"""One trial, run wherever this process is: what every executor is handed."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError

from .discover import find_paper
from .study import Trial, thinned
from .wings import REFERENCE, find_wing


class TrialFailure(PaperworksError):
    """A trial that tuning or calibration needs raised an exception."""


def _room(reference: str) -> Any:
    """The paper, or the wing that compares its models, which a task names."""
    if reference.startswith(REFERENCE):
        return find_wing(reference.removeprefix(REFERENCE))
    return find_paper(reference)


def run_trial(task: Mapping[str, Any], progress: Any = None) -> dict[str, Any]:
    """Run one trial as described by `task`, wherever this process is; returns its JSON."""
    import torch

    from paperworks.training import Checkpoint

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        study = _room(task["paper"]).studies[task["study"]]
        assert study.body is not None
        torch.manual_seed(task["seed"])
        checkpoint = Checkpoint(Path(task["checkpoint"])) if task.get("checkpoint") else None
        trial = Trial(
            arm=task["arm"],
            method=study.method(task["arm"]),
            seed=task["seed"],
            settings={**task["settings"], **task["point"]},
            point=task["point"],
            data_root=Path(task["data_root"]) if task["data_root"] else None,
            device=task["device"],
            checkpoint=checkpoint,
            progress=progress,
        )
        began, cpu = time.perf_counter(), time.process_time()
        study.body(trial)
        known = {*study.all_arms, *study.variants}
        unknown = [row["variant"] for row in trial.rows if row["variant"] not in known]
        if unknown:
            raise ValueError(f"a row of '{unknown[0]}', which study '{study.name}' declares neither as arm nor variant")
        wall = time.perf_counter() - began
        spent = time.process_time() - cpu
    finally:
        torch.set_num_threads(threads)
    seconds = trial.training_seconds
    return {
        "paper": task["slug"],
        "study": task["study"],
        "arm": task["arm"],
        "seed": task["seed"],
        "point": task["point"],
        "parameters": trial.measured.get("parameters"),
        "operations": trial.measured.get("operations"),
        "saved_bytes": trial.measured.get("saved_bytes"),
        "counter": trial.measured.get("counter"),
        "device": task["device"] if trial.device_used else "cpu",
        "unit": trial.measured.get("unit"),
        "counts": trial.counts,
        "seconds": wall - trial.off_the_clock if seconds is None else seconds,
        "wall_seconds": wall,
        "cpu_seconds": spent,
        "costs": trial.costs,
        "settings": {**task["settings"], **task["point"]},
        "rows": trial.rows,
        "curves": {name: thinned(curve) for name, curve in trial.curves.items()},
        "pictures": trial.pictures if task["seed"] == 0 else [],
        "notes": trial.notes,
    }
