"""A wing's models side by side on one task, at equal parameters or equal training time.

A wing has a `comparison.py` that defines one `Comparison`: its tasks, its models, and how a model is trained and
scored. `compare` runs it as any study is run: trials through the same executors, ledger, progress and tuning.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError, SettingError

from .discover import find_papers, import_part
from .files import write_text
from .results import compact_json, read_json
from .running import RUNS, Event, Report, run_study
from .study import BUDGETS, Study, Trial
from .trials import TrialFailure, run_trial
from .tuning import FIRST_SEED, Tuning
from .verdict import EQUAL_WITHIN, number, t_interval

EQUAL = ("parameters", "time")
REFERENCE = "compare:"  # before a wing: how another process finds a comparison again
FILE = "file"  # the task of a user's own file
CALIBRATION_ROUNDS = 3
INFERENCE_ROUNDS = 15
COMMON: dict[str, Any] = {
    "parameters": 50_000,  # of every model
    "seconds": 20.0,  # of training, at equal time
    "lr": 3e-3,  # where none was tuned
    "batch_size": 16,
    "schedule": "cosine",
    "weight_decay": 0.0,
    "clip": 0.0,
    "calibration_steps": 8,
    "data": "",
}


class Unsuitable(Exception):
    """Raised by a model's `build`: it cannot take this shape of data. The message says what it takes."""


@dataclass(frozen=True)
class Splits:
    """A task's data for one seed.

    Attributes:
        train: rows to train on: a tuple of tensors with rows on axis 0, the last of them the target.
        validation, test: rows that the comparison's `score` understands.
        shape: what a model's `build` is told, as keyword arguments.
        elsewhere: further test rows, name -> rows, for models that claim to transfer to them (other resolutions).
        extra: the wing's own, for `wrap` and `pictures`.
    """

    train: tuple[Any, ...]
    validation: Any
    test: Any
    shape: Mapping[str, Any]
    elsewhere: Mapping[str, Any] = field(default_factory=dict)
    extra: Any = None


@dataclass(frozen=True)
class Task:
    """Something that every model of a wing can be asked.

    Attributes:
        about: one sentence: what is given, what is asked for, how much data.
        load: `(settings, seed, file) -> Splits`; `file` is the user's data file, or None for a simulated task.
        shape: `(settings, file) -> ` what `build` is told, without loading the data.
        settings: common to the budgets, which override them.
    """

    about: str
    load: Callable[[Mapping[str, Any], int, Path | None], Splits]
    shape: Callable[[Mapping[str, Any], Path | None], Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    smoke: Mapping[str, Any] = field(default_factory=dict)
    laptop: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A model as it enters a comparison.

    Attributes:
        build: `(*, width, **shape) -> nn.Module`, its size growing with `width` (a whole number from 1); raises
            `Unsuitable` for shapes that it cannot take.
        about: one sentence for the table.
        transfers: whether it claims to work on the task's `elsewhere` without training there; a ValueError refuses,
            and its message is shown.
        widest: the largest width that is tried.
    """

    build: Callable[..., Any]
    about: str = ""
    transfers: bool = False
    widest: int = 1024


@dataclass(frozen=True)
class Comparison:
    """What a wing's `comparison.py` defines.

    Attributes:
        tasks: name -> task.
        models: name -> model, in the order of the table.
        loss: `(model, batch) -> scalar` of rows of `Splits.train`.
        score: `(model, rows) -> metrics`; lower is better in all.
        metric: the metric that models are tuned and ranked by.
        infer: `(model, rows) -> (call, samples)`: a call of the model on some test rows, and how many, to be timed.
        file: the task of a user's own file; None where the wing cannot.
        file_kinds: what such a file is, for messages.
        wrap: `(model, splits) -> module` around a built model (normalisation), without parameters of its own.
        pictures: `(model, splits) -> pictures` of the first seed's model.
        settings, smoke, laptop, paper: of all tasks, over the lab's own; a task's override them.
        rates: learning rates that every model is tuned over.
        tuning: settings while tuning (a shorter run).
        seeds: how many are run where none are asked for.
    """

    tasks: Mapping[str, Task]
    models: Mapping[str, Model]
    loss: Callable[[Any, Any], Any]
    score: Callable[[Any, Any], dict[str, float]]
    metric: str
    infer: Callable[[Any, Any], tuple[Callable[[], Any], int]]
    file: Task | None = None
    file_kinds: str = "a data file"
    wrap: Callable[[Any, Splits], Any] = lambda model, splits: model
    pictures: Callable[[Any, Splits], list[dict[str, Any]]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    smoke: Mapping[str, Any] = field(default_factory=dict)
    laptop: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, Any] = field(default_factory=dict)
    rates: Sequence[float] = (1e-3, 3e-3, 1e-2)
    tuning: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 3

    def study(
        self, task: str, models: Sequence[str], sizes: Sequence[int] = (), file: Path | None = None, tuned: bool = False
    ) -> Study:
        """The study of one task; several `sizes` are swept."""
        asked = self.tasks[task] if file is None and task != FILE else self.file
        assert asked is not None
        made = Study(
            task,
            arms=tuple(models),
            claims=(),
            question=asked.about,
            settings={**COMMON, **self.settings, **asked.settings, **({"data": file.name} if file else {})},
            smoke={**self.smoke, **asked.smoke},
            laptop={**self.laptop, **asked.laptop},
            paper={**self.paper, **asked.paper},
            seeds=self.seeds,
            grid={"lr": list(self.rates)} if tuned else None,
            select=("validation_" + self.metric, "lower"),
            tuning=self.tuning,
            sweep={"parameters": list(sizes)} if len(sizes) > 1 else None,
            files={file.name: (file.name,)} if file else None,
        )
        made.trial(lambda t: _trial(self, asked, t))
        return made

    def size(self, model: str, shape: Mapping[str, Any], parameters: int) -> tuple[int, int]:
        """The width whose number of parameters is nearest to what is asked for, and that number.

        Raises:
            Unsuitable: the model cannot take this shape.
        """
        import torch

        from paperworks.measure import count_parameters, match_width

        spec = self.models[model]
        width = match_width(lambda w: spec.build(**shape, width=w), parameters, high=spec.widest)
        with torch.device("meta"):
            return width, count_parameters(spec.build(**shape, width=width))


def _trial(comparison: Comparison, task: Task, t: Trial) -> None:
    """One model, one seed: build it at its size, train it, score it where it was trained and where it claims to go."""
    import torch

    from paperworks.training import Batches, fit

    s = t.settings
    splits = task.load(s, t.seed, t.data_root / s.data if s.data and t.data_root else None)
    spec = comparison.models[t.method]
    width, _ = comparison.size(t.method, splits.shape, s.parameters)
    torch.manual_seed(t.seed)
    model = comparison.wrap(spec.build(**splits.shape, width=width), splits).to(t.device)
    batches = Batches(splits.train, s.batch_size, t.seed)

    def loss(net: Any, batch: Any) -> Any:
        return comparison.loss(net, tuple(tensor.to(t.device) for tensor in batch))

    t.count(model, step=lambda: loss(model, batches(0)), unit="batch")

    def validate() -> dict[str, float]:
        return {f"validation_{comparison.metric}": comparison.score(model, splits.validation)[comparison.metric]}

    fitted = fit(
        model,
        loss,
        batches,
        steps=s.steps,
        lr=s.lr,
        weight_decay=s.weight_decay,
        schedule=s.schedule,
        clip=s.clip or None,
        log=t.log,
        checkpoint=t.checkpoint,
        validate=validate,
        validate_every=max(1, s.steps // 10),
    )

    def finished(scores: Mapping[str, float]) -> dict[str, Any]:
        return {name: None if fitted.diverged else value for name, value in scores.items()}

    model.eval()
    with torch.no_grad():
        here = comparison.score(model, splits.test)
        took = _milliseconds(*comparison.infer(model, splits.test), t.device)
        t.row(**finished({**here, **validate()}), inference_ms=took)
        for place, rows in splits.elsewhere.items() if spec.transfers else ():
            try:
                there = comparison.score(model, rows)
            except ValueError as refusal:  # how a model refuses a shape
                t.note(place, str(refusal))
                continue
            t.row(cell=place, **finished(there))
        if comparison.pictures and t.seed == 0 and not fitted.diverged:
            for picture in comparison.pictures(model, splits):
                t.picture(**picture)


def _milliseconds(call: Callable[[], Any], samples: int, device: str) -> float:
    """Median time of a call, a sample; on a CPU that of this thread, which other programs do not lengthen."""
    import torch

    def clock() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.thread_time()

    call()
    taken = []
    for _ in range(INFERENCE_ROUNDS):
        began = clock()
        call()
        taken.append(clock() - began)
    return 1e3 * sorted(taken)[len(taken) // 2] / samples


@dataclass(frozen=True)
class Wing:
    """A field and its folder; what its comparison is run as."""

    field: str
    folder: Path
    module: str | None = None  # importable name; None: a folder outside any package

    @property
    def slug(self) -> str:
        """Its name among runs."""
        return f"compare-{self.field}"

    @property
    def reference(self) -> str:
        """What another process needs to find it again."""
        return REFERENCE + (self.field if self.module else str(self.folder))

    @cached_property
    def comparison(self) -> Comparison:
        """What the wing's `comparison.py` defines.

        Raises:
            PaperworksError: there is no such file, it does not import, or it defines no Comparison.
        """
        path = self.folder / "comparison.py"
        if not path.is_file():
            raise PaperworksError(
                f"the wing '{self.field}' has no comparison: {path} does not exist. These have one: "
                f"{', '.join(wing.field for wing in find_wings().values() if wing.comparable) or 'none'}"
            )
        module = import_part(self.folder, self.module, "comparison")
        found = [value for value in vars(module).values() if isinstance(value, Comparison)]
        if len(found) != 1:
            raise PaperworksError(f"{path} must define one Comparison, it defines {len(found)}")
        return found[0]

    @property
    def comparable(self) -> bool:
        """Whether it has a comparison."""
        return (self.folder / "comparison.py").is_file()

    @property
    def studies(self) -> dict[str, Study]:
        """The study of every task with all models: where a trial finds its body."""
        names = [*self.comparison.tasks, *([FILE] if self.comparison.file else [])]
        return {name: self.comparison.study(name, list(self.comparison.models)) for name in names}


def find_wings() -> dict[str, Wing]:
    """Every field that has a paper, field -> its folder."""
    wings = {}
    for paper in find_papers().values():
        module = paper.module.rpartition(".")[0] if paper.module else None
        wings.setdefault(paper.card.field, Wing(paper.card.field, paper.folder.parent, module or None))
    return wings


def find_wing(reference: str) -> Wing:
    """The wing of this name, or the one in this folder.

    Raises:
        PaperworksError: there is none; suggests the nearest.
    """
    wings = find_wings()
    if reference in wings:
        return wings[reference]
    folder = Path(reference).expanduser()
    if folder.is_dir() and (folder / "comparison.py").is_file():
        return Wing(folder.resolve().name, folder.resolve())
    raise PaperworksError(
        f"no field '{reference}'{_hint(reference, wings)} These can be compared: "
        f"{', '.join(wing.field for wing in wings.values() if wing.comparable) or 'none'}"
    )


def _hint(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else "."


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
            raise SettingError(f"no setting '{setting}'{_hint(setting, known)} There are: {', '.join(sorted(known))}")
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
        f"'{wing.field}' has no task '{task}'{_hint(str(task), comparison.tasks)} "
        f"There are: {', '.join(comparison.tasks)}{kinds}"
    )


def _models(wing: Wing, names: Sequence[str] | None) -> list[str]:
    known = wing.comparison.models
    for name in names or ():
        if name not in known:
            raise PaperworksError(
                f"'{wing.field}' has no model '{name}'{_hint(name, known)} There are: {', '.join(known)}"
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
