"""A wing's models side by side on one task, at equal parameters or equal training time.

`compare` runs a wing's `Comparison` as any study is run: the same executors, ledger, progress and tuning.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError, SettingError

from .files import write_text
from .results import compact_json, read_json
from .running import RUNS, Event, Report, run_study
from .study import BUDGETS, Study
from .trials import TrialFailure, run_trial
from .tuning import FIRST_SEED, Tuning
from .verdict import EQUAL_WITHIN, number, t_interval
from .wings import FILE, Comparison, Unsuitable, Wing, find_wing, hint

EQUAL = ("parameters", "time")
CALIBRATION_ROUNDS = 3


def compare(
    wing: str | Wing,
    task: str | Path,
    *,
    equal: str = "parameters",
    models: Sequence[str] | None = None,
    parameters: Sequence[int] = (),
    budget: str = "laptop",
    seeds: int | None = None,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    fresh: bool = False,
    on: str | None = None,
    runs: str | Path = RUNS,
    watch: Callable[[Event], None] | None = None,
) -> Report:
    """Put a wing's models side by side on one task.

    Args:
        wing: a field, or a folder with a `comparison.py`.
        task: one of the wing's tasks, or a data file.
        equal: `parameters`: all train for the same steps; `time`: all train for the setting `seconds`, the steps of
            each set by short interleaved runs beforehand. Sizes are those of the nearest width in both.
        models: only these.
        parameters: how many each model has; several make a curve each (at equal parameters).
        budget, seeds, jobs, settings, device, fresh, on, runs, watch: as in `run`.

    Returns:
        The report; `report.result["comparison"]` holds the table.

    Raises:
        PaperworksError: an unknown field, task, model or setting (with the nearest), a file that cannot be read.
    """
    wing = find_wing(wing) if isinstance(wing, str) else wing
    comparison = wing.comparison
    if equal not in EQUAL:
        raise SettingError(f"--equal {equal}: one of {', '.join(EQUAL)}")
    if budget not in BUDGETS:
        raise SettingError(f"no budget '{budget}'; there are {', '.join(BUDGETS)}")
    if len(parameters) > 1 and equal == "time":
        raise SettingError("several --parameters make a curve at equal parameters; with --equal time give one")
    if any(size < 1 for size in parameters):
        raise SettingError("--parameters: whole numbers from 1")
    name, file = _asked(wing, task)
    chosen = _models(wing, models)
    overrides = dict(settings or {}) | ({"parameters": parameters[0]} if len(parameters) == 1 else {})
    sizes = list(dict.fromkeys(parameters)) if len(parameters) > 1 else []
    known = comparison.study(name, chosen, file=file).known_settings()
    for setting in overrides:
        if setting not in known:
            raise SettingError(f"no setting '{setting}'{hint(setting, known)} There are: {', '.join(sorted(known))}")
    tuned = budget != "smoke" and "lr" not in overrides
    plain = comparison.study(name, chosen, file=file).resolve(budget, None, overrides)
    present, left_out = _sized(wing, name, file, plain, chosen, sizes, asked=models is not None)
    study = comparison.study(name, list(present), sizes, file, tuned)
    report = run_study(
        wing,
        study,
        budget,
        code_file=wing.folder / "comparison.py",
        make_tuning=lambda job, studies, _: _Choices(job, studies, tuned, equal, present),
        command=_command(wing, task, equal, models, parameters, budget, seeds, settings),
        seeds=seeds,
        jobs=jobs,
        settings=overrides,
        data=file.parent if file else None,
        device=device,
        fresh=fresh,
        on=on,
        runs=runs,
        watch=watch,
    )
    report.folder = Path(runs) / wing.slug / f"{file.stem if file else name}-{equal}-{budget}"
    asked_task = comparison.file if file else comparison.tasks[name]
    assert asked_task is not None
    report.result["comparison"] = {
        "field": wing.field,
        "task": file.name if file else name,
        "about": asked_task.about,
        "equal": equal,
        "metric": comparison.metric,
        "sizes": sizes or [plain["parameters"]],
        "seconds": plain["seconds"] if equal == "time" else None,
        "tuned": tuned,
        **summarise(report.trials, comparison, list(present), sizes or [plain["parameters"]], equal),
        "left_out": left_out,
    }
    return report


def record(wing: Wing, report: Report) -> Path:
    """Keep a comparison in the wing's folder, where the gallery finds it; it takes the place of an earlier one.

    Raises:
        PaperworksError: a smoke run, one with failures, or a folder that cannot be written.
    """
    if report.result["budget"] == "smoke":
        raise PaperworksError("a smoke run only shows that everything runs; --record needs another budget")
    if report.failures:
        raise PaperworksError("trials failed and are missing in the table; it is not recorded")
    compared = report.result["comparison"]
    path = wing.folder / "results" / f"{Path(compared['task']).stem}-{compared['equal']}.json"
    write_text(path, compact_json(report.result))
    return path


def recorded(wing: Wing) -> dict[str, dict[str, Any]]:
    """The comparisons kept in a wing's folder: task-equal -> result.

    Raises:
        PaperworksError: one of them is damaged.
    """
    found = {}
    for path in sorted((wing.folder / "results").glob("*.json")):
        result = read_json(path) or {}
        if not isinstance(result.get("comparison"), dict) or not isinstance(result.get("trials"), list):
            raise PaperworksError(f"{path} is no comparison; remove it and record it again")
        found[path.stem] = result
    return found


def known_settings(wing: Wing, task: str | Path) -> dict[str, Any]:
    """Every setting of a task with a value that shows its type."""
    name, file = _asked(wing, task)
    return wing.comparison.study(name, list(wing.comparison.models), file=file).known_settings()


def _asked(wing: Wing, task: str | Path) -> tuple[str, Path | None]:
    """The task's name, and the file if it is one."""
    comparison = wing.comparison
    if str(task) in comparison.tasks:
        return str(task), None
    path = Path(task).expanduser()
    if path.exists() or path.suffix or len(path.parts) > 1:
        if comparison.file is None:
            raise PaperworksError(
                f"the wing '{wing.field}' compares on its own tasks only: {', '.join(comparison.tasks)}"
            )
        if not path.exists():
            raise PaperworksError(f"{path} does not exist; give a task ({', '.join(comparison.tasks)}) or a data file")
        return FILE, path.resolve()
    kinds = f", or {comparison.file_kinds}" if comparison.file else ""
    raise PaperworksError(
        f"'{wing.field}' has no task '{task}'{hint(str(task), comparison.tasks)} "
        f"There are: {', '.join(comparison.tasks)}{kinds}"
    )


def _models(wing: Wing, names: Sequence[str] | None) -> list[str]:
    known = wing.comparison.models
    for name in names or ():
        if name not in known:
            raise PaperworksError(
                f"'{wing.field}' has no model '{name}'{hint(name, known)} There are: {', '.join(known)}"
            )
    return [name for name in known if names is None or name in names]


def _sized(
    wing: Wing,
    name: str,
    file: Path | None,
    settings: Mapping[str, Any],
    models: Sequence[str],
    sizes: Sequence[int],
    asked: bool,
) -> tuple[dict[str, int], list[dict[str, str]]]:
    """Model -> width for those that can take the task's data; the others with the reason."""
    comparison = wing.comparison
    task = comparison.file if file else comparison.tasks[name]
    assert task is not None
    shape = task.shape(settings, file)
    present, left_out = {}, []
    for model in models:
        try:
            for size in sizes or [settings["parameters"]]:
                present[model], _ = comparison.size(model, shape, size)
        except Unsuitable as error:
            if asked:
                raise PaperworksError(f"{model} cannot be asked for this task: it {error}") from error
            left_out.append({"model": model, "why": str(error)})
    if not present:
        raise PaperworksError(f"no model of '{wing.field}' can be asked for this task: it {left_out[0]['why']}")
    return present, left_out


def _command(wing, task, equal, models, parameters, budget, seeds, settings) -> str:
    import shlex

    words = ["paperworks", "compare", wing.field if wing.module else f"./{wing.folder.name}", "--task", str(task)]
    words += ["--equal", equal, "--budget", budget]
    words += ["--models", ",".join(models)] if models else []
    words += ["--parameters", ",".join(map(str, parameters))] if parameters else []
    words += ["--seeds", str(seeds)] if seeds is not None else []
    for name, value in (settings or {}).items():
        words += ["--set", f"{name}={value}"]
    return shlex.join(words)


class _Choices:
    """The settings of every model: its learning rate off the grid and, at equal time, its number of steps."""

    def __init__(self, job: Any, studies: list[Study], tuned: bool, equal: str, widths: Mapping[str, int]):
        self.job, self.equal, self.widths = job, equal, widths
        self.tuning = Tuning(job, studies, tuned)
        self.tuned = tuned
        self.steps: dict[str, int] = {}

    def prepare(self, study: Study) -> None:
        """Tune, then measure how long a step of each model takes."""
        self.tuning.prepare(study)
        if self.equal == "time":
            self.steps = self._calibrate(study)

    def settings(self, study: Study, arm: str) -> dict[str, Any]:
        """What is laid over the budget's settings."""
        chosen = self.tuning.settings(study, arm) if self.tuned else {}
        return chosen | ({"steps": self.steps[arm]} if arm in self.steps else {})

    def calibrated(self, study: Study) -> frozenset[str]:
        """Models whose steps were set by the clock."""
        return frozenset(self.steps)

    def described(self, study: Study) -> dict[str, Any] | None:
        """What the result says of the choices."""
        return self.tuning.described(study) if self.tuned else None

    def _calibrate(self, study: Study) -> dict[str, int]:
        """Steps that fill the setting `seconds`, from short interleaved runs; kept, so that a rerun repeats them."""
        from .files import write_text
        from .results import compact_json, read_json

        job, tasks, taken = self.job, {}, {}
        for arm in study.arms:
            settings = study.resolve(job.budget, arm, self.settings(study, arm), job._own(study))
            short = {name: value for name, value in settings.items() if name != "seconds"}
            short["steps"] = settings["calibration_steps"]
            tasks[arm] = (job.task(study, arm, FIRST_SEED, short, {}), settings["seconds"], short["steps"])
        path = Path(job.folder) / job.paper.slug / "seconds.json"
        kept = read_json(path) or {}
        keys = {arm: f"{arm}@{task['key'][:16]}" for arm, (task, *_) in tasks.items()}
        missing = [arm for arm in tasks if keys[arm] not in kept]
        for _ in range(CALIBRATION_ROUNDS):
            for arm in missing:
                try:
                    trial = run_trial({**tasks[arm][0], "checkpoint": None})
                except PaperworksError:
                    raise
                except Exception as error:
                    raise TrialFailure(f"{arm} failed while its speed was measured: {error}") from error
                taken.setdefault(arm, []).append(trial["seconds"] / tasks[arm][2])
        kept |= {keys[arm]: float(f"{sorted(times)[len(times) // 2]:.6g}") for arm, times in taken.items()}
        if missing and job.rank == 0:
            write_text(path, compact_json(kept))
        return {arm: max(1, round(seconds / max(kept[keys[arm]], 1e-9))) for arm, (_, seconds, _) in tasks.items()}


# The table


def summarise(
    trials: Sequence[Mapping[str, Any]], comparison: Comparison, models: Sequence[str], sizes: Sequence[int], equal: str
) -> dict[str, Any]:
    """One entry a model and size, the lowest mean error first; who is best, and by how much over each seed."""
    entries = []
    for model in models:
        for size in sizes:
            own = [t for t in trials if t["arm"] == model and t["point"].get("parameters", size) == size]
            if own:
                entries.append(_entry(own, comparison, model, size, equal))
    entries.sort(key=lambda entry: math.inf if entry["error"]["mean"] is None else entry["error"]["mean"])
    for cost in ("parameters", "seconds", "inference_ms"):
        for entry in entries:
            entry["front"][cost] = _undominated(entry, entries, cost)
    best = entries[0] if entries and entries[0]["error"]["mean"] is not None else None
    for entry in entries:
        entry["against_best"] = None if best is None or entry is best else _ratio(entry, best)
    return {"models": entries, "sentence": _sentence(entries, comparison.metric, equal)}


def _entry(trials, comparison: Comparison, model: str, size: int, equal: str) -> dict[str, Any]:
    rows = [(t, row) for t in trials for row in t["rows"]]
    point = f"parameters={size}" if trials[0]["point"] else None
    here = [(t["seed"], row["metrics"]) for t, row in rows if row["cell"] == point]
    names = list(dict.fromkeys(name for _, metrics in here for name in metrics))
    places: dict[str, list[float | None]] = {}
    for _, row in rows:
        if row["cell"] != point:
            cell = row["cell"] if point is None else row["cell"].removeprefix(f"{point}, ")
            places.setdefault(cell, []).append(row["metrics"].get(comparison.metric))
    parameters = trials[0]["parameters"]
    spec = comparison.models[model]
    return {
        "model": model,
        "about": spec.about,
        "size": size,
        "parameters": parameters,
        "unequal": abs(parameters - size) > EQUAL_WITHIN * max(parameters, size),
        "operations": trials[0]["operations"],
        "steps": trials[0]["settings"]["steps"],
        "lr": trials[0]["settings"]["lr"],
        "error": _spread([metrics[comparison.metric] for _, metrics in here], [seed for seed, _ in here]),
        "metrics": {
            name: _spread([metrics.get(name) for _, metrics in here])
            for name in names
            if name not in (comparison.metric, "inference_ms")
        },
        "seconds": _typical([t["seconds"] for t in trials]),
        "inference_ms": _typical([metrics["inference_ms"] for _, metrics in here]),
        "elsewhere": {place: _spread(values) for place, values in places.items()},
        "refused": dict(trials[0].get("notes") or {}),
        "transfers": spec.transfers,
        "front": {},
    }


def _spread(values: Sequence[float | None], seeds: Sequence[int] = ()) -> dict[str, Any]:
    """Mean over seeds and its 95 % interval; no mean where a seed diverged."""
    known = [value for value in values if value is not None]
    whole = len(known) == len(values) and bool(known)
    interval = t_interval(known) if whole else None
    return {
        "mean": math.fsum(known) / len(known) if whole else None,
        "interval": list(interval[1:]) if interval else None,
        "values": list(values),
        "diverged": len(values) - len(known),
        **({"seeds": list(seeds)} if seeds else {}),
    }


def _typical(values: Sequence[float]) -> dict[str, Any]:
    """The median of times: a busy machine lengthens some, and that is no property of the model."""
    return {"mean": statistics.median(values), "interval": None, "values": list(values), "diverged": 0}


def _undominated(entry: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], cost: str) -> bool:
    """Whether no other entry is at most as costly and has at most its error, one of the two less."""

    def at(each: Mapping[str, Any]) -> tuple[float, float] | None:
        paid = each[cost]["mean"] if isinstance(each[cost], dict) else each[cost]
        return None if each["error"]["mean"] is None or paid is None else (paid, each["error"]["mean"])

    own = at(entry)
    others = [place for each in entries if (place := at(each)) is not None]
    return own is not None and not any(a <= own[0] and b <= own[1] and (a, b) != own for a, b in others)


def _ratio(entry: Mapping[str, Any], best: Mapping[str, Any]) -> dict[str, Any] | None:
    """How many times the best model's error, paired by seed."""
    theirs = dict(zip(best["error"]["seeds"], best["error"]["values"], strict=True))
    pairs = [
        (value, theirs.get(seed)) for seed, value in zip(entry["error"]["seeds"], entry["error"]["values"], strict=True)
    ]
    logs = [math.log(a / b) for a, b in pairs if a is not None and b is not None and a > 0 and b > 0]
    if not logs or len(logs) < len(pairs):
        return None
    interval = t_interval(logs)
    return {
        "effect": math.exp(math.fsum(logs) / len(logs)),
        "interval": [math.exp(end) for end in interval[1:]] if interval else None,
    }


def _sentence(entries: Sequence[Mapping[str, Any]], metric: str, equal: str) -> str:
    """The answer in one sentence: who has the lowest error, and whether the next is really behind."""
    finished = [entry for entry in entries if entry["error"]["mean"] is not None]
    if not finished:
        return "No model finished."
    best, words = finished[0], metric.replace("_", " ").replace("l2", "L2")
    several = len({entry["size"] for entry in entries}) > 1

    def name(entry: Mapping[str, Any]) -> str:
        return f"{entry['model']} with {entry['parameters']:,} parameters" if several else entry["model"]

    text = f"{name(best)} has the lowest {words}, {number(best['error']['mean'])}"
    if best["error"]["interval"]:
        low, high = best["error"]["interval"]
        text += f" (95 % interval {number(low)} to {number(high)}, {len(best['error']['values'])} seeds)"
    at = "parameters" if equal == "parameters" else "training time"
    text += f", at equal {at}." if not several else ", of all sizes."
    tied = []
    for entry in finished[1:]:
        ratio = entry["against_best"]
        if ratio and (ratio["interval"] is None or ratio["interval"][0] <= 1):
            tied.append(name(entry))
    if len(best["error"]["values"]) < 2 and len(finished) > 1:
        return text + " One seed: no difference is certain."
    if tied:
        return text + f" Not told apart from it over these seeds: {', '.join(tied)}."
    if len(finished) > 1:
        ratio = finished[1]["against_best"]
        low, high = ratio["interval"]
        text += f" Next is {name(finished[1])}, {number(ratio['effect'])} times that ({number(low)} to {number(high)})."
    return text
