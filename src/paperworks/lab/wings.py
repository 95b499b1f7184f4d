"""Wings, and what the models of one are compared by: its tasks, its models, how a model is trained and scored.

A wing has a `comparison.py` that defines one `Comparison`; `comparison.compare` runs it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError

from .discover import find_papers, import_part
from .study import Study, Trial

REFERENCE = "compare:"  # before a wing: how another process finds a comparison again
FILE = "file"  # the task of a user's own file
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
        f"no field '{reference}'{hint(reference, wings)} These can be compared: "
        f"{', '.join(wing.field for wing in wings.values() if wing.comparable) or 'none'}"
    )


def hint(name: str, known: Any) -> str:
    """The nearest known name, for a message about one that is not known."""
    near = get_close_matches(name, list(known), n=1, cutoff=0.4)
    return f"; did you mean '{near[0]}'?" if near else "."
