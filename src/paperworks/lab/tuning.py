"""Equal tuning and equal time: each arm's settings chosen on one grid, and arms stretched to the same training time.

Choices are made once, on seeds from 1000 up and on the study's validation metric, and stored as settings, so that a
rerun repeats them: with the paper (`results/tuning.json`) or, for a run that tuned for itself, beside its ledger.
"""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .results import compact_json, read_json
from .study import Study
from .trials import TrialFailure, run_trial

FIRST_SEED, SEEDS = 1000, 2
CALIBRATION_ROUNDS, CALIBRATION_SHARE = 3, 10


class Tuning:
    """The choices that a run goes by."""

    def __init__(self, job: Any, studies: list[Study], anew: bool):
        self.job, self.anew = job, anew
        self.shipped = job.paper.folder / "results" / "tuning.json"
        self.own = Path(job.folder) / job.paper.slug / "tuning.json"
        self.stored: dict[str, Any] = {**(read_json(self.shipped) or {}), **(read_json(self.own) or {})}

    def _entry(self, study: Study) -> dict[str, Any]:
        return self.stored.get(f"{study.name}@{self.job.budget}") or {}

    def settings(self, study: Study, arm: str) -> dict[str, Any]:
        """The chosen settings of an arm, and an equal-time arm's calibrated one."""
        entry = self._entry(study)
        choice = dict(entry.get("choices", {}).get(study.method(arm)) or {})
        steps = entry.get("steps", {}).get(arm)
        return choice | ({study.scaled_setting(arm): steps} if steps is not None else {})

    def calibrated(self, study: Study) -> frozenset[str]:
        """Equal-time arms whose length was calibrated."""
        return frozenset(self._entry(study).get("steps", {}))

    def described(self, study: Study) -> dict[str, Any] | None:
        """What the result says of the choices."""
        entry = self._entry(study)
        return dict(entry) if entry else None

    def prepare(self, study: Study) -> None:
        """Tune and calibrate where asked, and calibrate where a laptop or paper run has not been yet."""
        wanted = self.anew and study.grid
        missing = set(study.equal_time) - self.calibrated(study)
        calibrate = study.equal_time and (self.anew or (missing and self.job.budget != "smoke"))
        if not wanted and not calibrate:
            return
        entry = dict(self._entry(study))
        name = f"{study.name}@{self.job.budget}"
        if wanted:
            entry |= self._search(study)
            self.stored[name] = {**entry, "steps": {}}
        if calibrate:
            entry["steps"] = self._calibrate(study)
        self.stored[name] = entry
        if self.job.rank == 0:
            from .files import write_text

            own = {**(read_json(self.own) or {}), name: entry}
            write_text(self.own, compact_json(own))

    def _search(self, study: Study) -> dict[str, Any]:
        assert study.select is not None
        metric, better = study.select
        points = [dict(zip(study.grid, values, strict=True)) for values in itertools.product(*study.grid.values())]
        seeds = [FIRST_SEED + i for i in range(SEEDS)]
        job, tasks = self.job, {}
        for arm in study.arms:
            for index, point in enumerate(points):
                for seed in seeds:
                    settings = study.resolve(job.budget, arm, study.tuning, job._own(study), point)
                    sweep = study.points(job.overrides)[0]
                    tasks[arm, index, seed] = job.task(study, arm, seed, settings, sweep)
        found = job.measure(list(tasks.values()), purpose=f"tuning {study.name}")
        self._refuse_failures(f"tuning of study '{study.name}'")
        choices, scores, edges = {}, {}, []
        for arm in study.arms:
            score = [
                _score([found[tasks[arm, index, seed]["key"]] for seed in seeds], arm, metric)
                for index in range(len(points))
            ]
            sign = 1.0 if better == "higher" else -1.0
            merit = [-math.inf if value is None else sign * value for value in score]
            choices[arm] = points[merit.index(max(merit))]
            scores[arm] = [{"point": point, "score": value} for point, value in zip(points, score, strict=True)]
            for name, values in study.grid.items():
                ordered = sorted(values) if all(isinstance(v, int | float) for v in values) else []
                if len(ordered) > 2 and choices[arm][name] in (ordered[0], ordered[-1]):
                    side = "smallest" if choices[arm][name] == ordered[0] else "largest"
                    edges.append(f"{arm}: {name}={choices[arm][name]} is the {side} of the grid")
        return {
            "grid": study.grid,
            "select": list(study.select),
            "seeds": seeds,
            "tuned_with": study.tuning,
            "choices": choices,
            "scores": scores,
            "edges": edges,
        }

    def _calibrate(self, study: Study) -> dict[str, int]:
        """Steps that make each equal-time arm train as long as its reference: medians of interleaved short runs."""
        job, steps = self.job, {}
        for arm, (method, reference, *_) in study.equal_time.items():
            name = study.scaled_setting(arm)
            lengths, per_step = {}, {method: [], reference: []}
            for round_ in range(CALIBRATION_ROUNDS):
                for each in (method, reference):
                    settings = study.resolve(job.budget, each, self.settings(study, each), job._own(study))
                    lengths[each] = settings[name]
                    settings[name] = max(1, math.ceil(settings[name] / CALIBRATION_SHARE))
                    task = job.task(study, each, FIRST_SEED + round_, settings, study.points(job.overrides)[0])
                    trial = run_trial({**task, "checkpoint": None})
                    per_step[each].append(trial["seconds"] / settings[name])
            cost = {each: sorted(values)[len(values) // 2] for each, values in per_step.items()}
            steps[arm] = max(1, round(lengths[reference] * cost[reference] / max(cost[method], 1e-9)))
        return steps

    def _refuse_failures(self, what: str) -> None:
        if self.job.failures:
            raise TrialFailure(f"{what} failed:\n{self.job.failures[0]['traceback']}")


def _score(trials: list[Mapping[str, Any]], arm: str, metric: str) -> float | None:
    values = [
        row["metrics"][metric]
        for trial in trials
        for row in trial["rows"]
        if row["variant"] == arm and metric in row["metrics"]
    ]
    if not values:
        raise ValueError(f"no row of arm {arm} reports the metric '{metric}' that the study selects by")
    return None if None in values else sum(values) / len(values)
