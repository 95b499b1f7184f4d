"""The main job: a paper's studies -> trials -> rows -> verdicts -> one result."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError, SettingError

from . import executors
from .discover import PACKAGE, Paper, find_paper
from .ledger import Ledger, code_hash, trial_key
from .results import SCHEMA
from .study import BUDGETS, SMOKE_SEEDS, Study
from .trials import run_trial
from .tuning import FIRST_SEED, Tuning
from .verdict import Rows, Verdict, judge

RUNS = "paperworks-runs"


@dataclass
class Report:
    """A finished run: verdicts, trials, and the whole result as one JSON object."""

    verdicts: list[Verdict]
    trials: list[dict[str, Any]]
    result: dict[str, Any]
    folder: Path

    @property
    def failures(self) -> list[dict[str, Any]]:
        """Trials that raised: a failure of ours, with its traceback."""
        return self.result["failures"]


@dataclass
class Event:
    """What a run tells while it goes: `kind` is plan, progress, finished or failed."""

    kind: str
    study: str = ""
    arm: str = ""
    seed: int = 0
    done: int = 0
    total: int = 0
    step: int = 0
    steps: int | None = None
    metrics: Mapping[str, Any] | None = None
    purpose: str = ""


def run(
    paper: str | Paper,
    budget: str = "laptop",
    *,
    seeds: int | None = None,
    first_seed: int = 0,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    studies: Sequence[str] | None = None,
    data: str | Path | None = None,
    device: str | None = None,
    tune: bool = False,
    fresh: bool = False,
    on: str | None = None,
    runs: str | Path = RUNS,
    watch: Callable[[Event], None] | None = None,
) -> Report:
    """Run a paper's studies and decide their claims.

    Args:
        paper: a slug, the folder of a paper outside the package, or a Paper.
        budget: `smoke` (seconds), `laptop` (minutes; gives the verdict) or `paper` (the published setting).
        seeds: how many, from `first_seed`; default: the study's.
        first_seed: above 0 the run repeats the studies on seeds that no recorded run has seen, with the choices that
            are stored: a confirmation.
        jobs: trials side by side, each in a process of its own.
        settings: over those of the budget, of every study that has them.
        studies: only these.
        data: root folder of real data sets; default: the environment variable PAPERWORKS_DATA.
        device: a torch device's name; default: `cuda` where there is one.
        tune: choose each arm's settings on the study's grid first, and calibrate equal-time arms anew.
        fresh: measure again what the ledger already holds.
        on: `ray` or `ray:ADDRESS` to run on a cluster.
        runs: folder of the ledger, checkpoints and reports.
        watch: is told what happens.

    Returns:
        The report; trials that raised are in `report.failures`, all others are kept.

    Raises:
        PaperworksError: an unknown paper, budget or setting, absent data, an unusable ledger; says what to do.
    """
    paper = find_paper(paper) if isinstance(paper, str) else paper
    if budget not in BUDGETS:
        raise SettingError(f"no budget '{budget}'; there are {', '.join(BUDGETS)}")
    if (seeds is not None and seeds < 1) or jobs < 1:
        raise SettingError("--seeds and --jobs take a whole number from 1")
    if first_seed < 0 or first_seed + (seeds or 1) > FIRST_SEED:
        raise SettingError(f"--first-seed takes 0 to {FIRST_SEED - 1}: seeds from {FIRST_SEED} up are for tuning")
    if first_seed and tune:
        raise SettingError("--first-seed repeats a run with the choices made for it: leave --tune out")
    chosen = _chosen(paper, studies)
    overrides = dict(settings or {})
    unknown = [name for name in overrides if not any(name in study.known_settings() for study in chosen)]
    if unknown:
        names = sorted({name for study in chosen for name in study.known_settings()})
        raise SettingError(f"{paper.slug} has no setting '{unknown[0]}'; there are {', '.join(names)}")
    job = _Job(
        paper=paper,
        budget=budget,
        overrides=overrides,
        data_root=_data_root(data),
        device=_device(device),
        folder=Path(runs),
        execute=_executor(jobs, on),
        watch=watch or (lambda event: None),
        first_seed=first_seed,
    )
    return job.run(chosen, seeds, tune, fresh, named=studies is not None, asked=data is not None)


def run_study(
    room: Any,
    study: Study,
    budget: str,
    *,
    code_file: Path,
    make_tuning: Callable[..., Any],
    command: str,
    seeds: int | None = None,
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    device: str | None = None,
    fresh: bool = False,
    on: str | None = None,
    runs: str | Path = RUNS,
    watch: Callable[[Event], None] | None = None,
) -> Report:
    """Run one study that was made for the occasion, of a room that another process finds by its `reference`.

    `code_file` is where the code begins that trials' keys follow, `make_tuning(job, studies, anew)` what chooses
    settings as `Tuning` does, `command` what repeats the run. All else as in `run`.
    """
    if (seeds is not None and seeds < 1) or jobs < 1:
        raise SettingError("--seeds and --jobs take a whole number from 1")
    job = _Job(
        paper=room,
        budget=budget,
        overrides=dict(settings or {}),
        data_root=_data_root(data) if data is not None else None,
        device=_device(device),
        folder=Path(runs),
        execute=_executor(jobs, on),
        watch=watch or (lambda event: None),
        code_file=code_file,
        make_tuning=make_tuning,
        command=command,
    )
    return job.run([study], seeds, False, fresh, named=True, asked=False)


def _chosen(paper: Paper, names: Sequence[str] | None) -> list[Study]:
    known = paper.studies
    for name in names or ():
        if name not in known:
            raise SettingError(f"{paper.slug} has no study '{name}'; there are {', '.join(known)}")
    return [study for name, study in known.items() if names is None or name in names]


def _data_root(data: str | Path | None) -> Path | None:
    where = data if data is not None else os.environ.get("PAPERWORKS_DATA") or None
    if where is None:
        return None
    root = Path(where).expanduser().resolve()
    if not root.is_dir():
        source = "--data" if data is not None else "PAPERWORKS_DATA"
        raise PaperworksError(f"{source} names {where}, which is no folder")
    return root


@cache
def _device(name: str | None) -> str:
    from paperworks.training.device import usable_device

    return usable_device(name)


def _executor(jobs: int, on: str | None) -> Callable[..., Iterable[tuple[int, dict[str, Any]]]]:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        if jobs > 1 or on:
            raise SettingError("under accelerate launch one trial spans all processes: leave --jobs and --on out")
        return executors.in_process
    if on is not None:
        kind, _, address = on.partition(":")
        if kind != "ray":
            raise SettingError(f"--on {on}: only ray, or ray:ADDRESS")
        return lambda *a: executors.ray_cluster(*a, address=address or None)
    if jobs > 1:
        return lambda *a: executors.processes(*a, jobs=jobs)
    return executors.in_process


@dataclass
class _Job:
    paper: Any  # or what has slug, folder, module and reference as one has
    budget: str
    overrides: dict[str, Any]
    data_root: Path | None
    device: str
    folder: Path
    execute: Callable[..., Iterable[tuple[int, dict[str, Any]]]]
    watch: Callable[[Event], None]
    code_file: Path | None = None
    make_tuning: Callable[..., Any] = Tuning
    command: str | None = None
    first_seed: int = 0

    def run(self, studies: list[Study], seeds: int | None, tune: bool, fresh: bool, named: bool, asked: bool) -> Report:

        began, started = time.perf_counter(), datetime.now(UTC)
        self.rank, self.ranks = _rank()
        self.code = code_hash(self.code_file or self.paper.folder / "study.py", PACKAGE)
        self.ledger = Ledger(self.folder / "ledger.sqlite")
        self.failures: list[dict[str, Any]] = []
        present, not_run = self._with_data(studies, named, asked)
        tuning = self.make_tuning(self, present, tune)
        tasks, calibrated = [], {}
        for study in present:
            tuning.prepare(study)
            calibrated[study.name] = tuning.calibrated(study)
            tasks += self.plan(study, self._seeds(study, seeds), tuning)
        found = self.measure(tasks, fresh)
        results, verdicts = [], []
        for study in present:
            trials = [t for task in tasks if task["study"] == study.name and (t := found.get(task["key"]))]
            results += trials
            rows = Rows(trials, study.variants)
            if trials:
                verdicts += [judge(claim, study, rows, calibrated[study.name]) for claim in study.claims]
        self.ledger.close()
        result = {
            "schema": SCHEMA,
            "paper": self.paper.slug,
            "budget": self.budget,
            **({"first_seed": self.first_seed} if self.first_seed else {}),
            "command": self._command(seeds, tune),
            "started": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "cpu_seconds": round(sum(trial["cpu_seconds"] for trial in results), 2),
            "wall_seconds": round(time.perf_counter() - began, 2),
            "environment": environment(_devices(results) or self.device),
            "studies": [
                {**self._described(study, tuning), "command": self._command(seeds, tune, study)} for study in present
            ],
            "verdicts": [verdict.to_dict() for verdict in verdicts],
            "trials": results,
            "failures": self.failures,
            "not_run": not_run,
        }
        name = f"{self.budget}-from-seed-{self.first_seed}" if self.first_seed else self.budget
        return Report(verdicts, results, result, self.folder / self.paper.slug / name)

    def _with_data(self, studies: list[Study], named: bool, asked: bool) -> tuple[list[Study], list[dict[str, str]]]:
        """The studies whose data is there, and why the others are not run; data asked for and absent is refused."""
        present, not_run = [], []
        for study in studies:
            name = study.resolve(self.budget, None, self.overrides).get("data")
            missing = self._missing(study, name)
            if not missing:
                present.append(study)
                continue
            where = self.data_root or "no data folder: give --data DIR or set PAPERWORKS_DATA"
            why = f"needs the data set '{name}': {missing} is not there (looked in {where})"
            if named or "data" in self.overrides:
                raise PaperworksError(f"study '{study.name}' {why}")
            not_run.append({"study": study.name, "why": why})
        if not present or (asked and self._all_embedded(present) and not_run):
            raise PaperworksError("; ".join(f"study '{item['study']}' {item['why']}" for item in not_run))
        return present, not_run

    def _all_embedded(self, studies: list[Study]) -> bool:
        return not any(study.resolve(self.budget, None, self.overrides).get("data") in study.files for study in studies)

    def _missing(self, study: Study, name: Any) -> str | None:
        for file in study.files.get(name, ()):
            if self.data_root is None or not (self.data_root / file).exists():
                return file
        return None

    def fingerprint(self, study: Study, settings: Mapping[str, Any]) -> str:
        """`embedded`, or a hash of the data files that the study reads."""
        files = study.files.get(settings.get("data"), ())  # type: ignore[arg-type]
        if not files or self.data_root is None:
            return "embedded"
        paths = tuple(self.data_root / file for file in files)
        return _fingerprint(paths, tuple((path.stat().st_size, path.stat().st_mtime_ns) for path in paths))

    def _seeds(self, study: Study, seeds: int | None) -> range:
        if study.deterministic:
            return range(1)
        count = seeds if seeds is not None else SMOKE_SEEDS if self.budget == "smoke" else study.seeds
        return range(self.first_seed, self.first_seed + count)

    def plan(self, study: Study, seeds: Iterable[int], tuning: Any) -> list[dict[str, Any]]:
        """Every trial of a study, seed by seed, so that an interrupted run holds whole comparisons."""
        return [
            self.task(
                study, arm, seed, study.resolve(self.budget, arm, tuning.settings(study, arm), self._own(study)), p
            )
            for seed in seeds
            for p in study.points(self.overrides)
            for arm in study.all_arms
        ]

    def _own(self, study: Study) -> dict[str, Any]:
        known = study.known_settings()
        return {name: value for name, value in self.overrides.items() if name in known}

    def task(
        self, study: Study, arm: str, seed: int, settings: Mapping[str, Any], point: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The description of one trial, with its key."""
        uses_data = bool(study.files.get(settings.get("data", ""), ()))
        task = {
            "slug": self.paper.slug,
            "paper": self.paper.reference,
            "study": study.name,
            "arm": arm,
            "seed": seed,
            "settings": {name: value for name, value in settings.items() if name not in point},
            "point": dict(point),
            "data": self.fingerprint(study, settings),
            "data_root": str(self.data_root) if self.data_root and uses_data else None,
            "device": self.device.split(":")[0],
        }
        task["key"] = trial_key(task, self.code)
        task["checkpoint"] = str((self.folder / "checkpoints" / f"{task['key'][:32]}.safetensors").absolute())
        return task

    def measure(self, tasks: list[dict[str, Any]], fresh: bool = False, purpose: str = "") -> dict[str, dict[str, Any]]:
        """The results of `tasks`, out of the ledger or by running them; failed ones are left out and noted."""
        keys = [task["key"] for task in tasks]
        if fresh and self.rank == 0:
            self.ledger.remove(keys)
            for task in tasks:
                Path(task["checkpoint"]).unlink(missing_ok=True)
        found = {} if fresh else self.ledger.get(keys)
        found = _from_first_rank(found, self.ranks)
        todo = [task for task in tasks if task["key"] not in found]
        done = len(tasks) - len(todo)
        self.watch(Event("plan", done=done, total=len(tasks), purpose=purpose))

        def progress(index: int, step: int, total: int | None, metrics: dict[str, Any]) -> None:
            task = todo[index]
            self.watch(
                Event("progress", task["study"], task["arm"], task["seed"], done, len(tasks), step, total, metrics)
            )

        for index, outcome in self.execute(todo, run_trial, progress):
            task = todo[index]
            place = (task["study"], task["arm"], task["seed"])
            if "mend" in outcome:
                raise PaperworksError(outcome["mend"])
            if "error" in outcome:
                self.failures.append(
                    {"study": place[0], "arm": place[1], "seed": place[2], "traceback": outcome["error"]}
                )
                self.watch(Event("failed", *place, done, len(tasks), purpose=purpose))
                continue
            result = outcome["result"]
            if self.rank == 0:
                self.ledger.add(task["key"], result)
                Path(task["checkpoint"]).unlink(missing_ok=True)
            found[task["key"]] = result
            done += 1
            self.watch(Event("finished", *place, done, len(tasks), purpose=purpose))
        return found

    def _described(self, study: Study, tuning: Any) -> dict[str, Any]:
        common = study.resolve(self.budget, None, self._own(study))
        arms = {
            arm: study.resolve(self.budget, arm, tuning.settings(study, arm), self._own(study))
            for arm in study.all_arms
        }
        name = common.get("data")
        real = name in study.files
        return {
            "name": study.name,
            "question": study.question,
            "arms": list(study.all_arms),
            "variants": study.variants,
            "settings": common,
            "arm_settings": {
                arm: {k: v for k, v in values.items() if k not in common or common[k] != v}
                for arm, values in arms.items()
            },
            "equal": list(study.equal),
            "equal_time": {arm: list(spec) for arm, spec in study.equal_time.items()},
            "calibrated": sorted(tuning.calibrated(study)),
            "tuning": tuning.described(study),
            "data": {"name": name, "fingerprint": self.fingerprint(study, common)} if real else "embedded",
            "budgets": study.budgets,
            "sweep": study.sweep,
            "deterministic": study.deterministic,
            **({"trade_off": list(study.trade_off)} if study.trade_off else {}),
        }

    def _command(self, seeds: int | None, tune: bool, study: Study | None = None) -> str:
        import shlex

        if self.command is not None:
            return self.command
        words = ["paperworks", "run", self.paper.slug if self.paper.module else "./" + self.paper.folder.name]
        words += ["--budget", self.budget]
        words += ["--study", study.name] if study else []
        words += ["--seeds", str(seeds)] if seeds is not None else []
        words += ["--first-seed", str(self.first_seed)] if self.first_seed else []
        for name, value in self.overrides.items():
            words += ["--set", f"{name}={value}"]
        words += ["--data", "DIR"] if self.data_root else []
        words += ["--tune"] if tune else []
        return shlex.join(words)


def _rank() -> tuple[int, int]:
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _from_first_rank(value: Any, ranks: int) -> Any:
    """Under accelerate launch: what rank 0 read, so that all ranks run the same trials."""
    if ranks == 1:
        return value
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=_device(None) == "cpu")
    return broadcast_object_list([value], from_process=0)[0]


@cache
def _fingerprint(files: tuple[Path, ...], stamps: tuple[tuple[int, int], ...]) -> str:
    """A hash of the files' names and content, computed once as long as their sizes and times stay as they are."""
    import hashlib

    digest = hashlib.sha256()
    for file in files:
        inner = sorted(path for path in file.rglob("*") if path.is_file()) if file.is_dir() else [file]
        for path in inner:
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            if len(inner) == 1:
                with path.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()[:16]


def _devices(trials: Sequence[Mapping[str, Any]]) -> str:
    """Where trials ran, which is the CPU for a study that asks for no device."""
    return " and ".join(sorted({trial["device"] for trial in trials if "device" in trial}))


def environment(device: str) -> dict[str, Any]:
    """Versions and machine, as a result records them."""
    import platform
    from importlib.metadata import version

    import paperworks

    return {
        "paperworks": paperworks.__version__,
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
        "device": device,
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
