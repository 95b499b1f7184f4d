"""Own data: a paper's method fitted to the user's files and applied to more of them.

A paper's `recipe.py` defines one `recipe = Recipe(...)`; `fit_files` and `predict_files` do the rest: progress,
checkpoint, resume, and a folder with `model.safetensors`, `config.json`, `recipe.json` and a model card.
"""

import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from paperworks.errors import ModelFolderError, PaperworksError, SettingError
from paperworks.nn.pretrained import CONFIG, WEIGHTS, read_config

from .batches import Batches
from .checkpoint import Checkpoint
from .device import usable_device
from .fit import Fitted, fit

RECIPE, UNFINISHED = "recipe.json", "unfinished.json"
COMMON: dict[str, Any] = {
    "steps": 1000,
    "epochs": 0,  # more than 0: this many passes over the data instead of `steps`
    "batch_size": 32,
    "lr": 1e-3,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "schedule": "cosine",
    "warmup": 0,
    "clip": 0.0,  # 0: gradients are not clipped
    "seed": 0,
    "mixed_precision": "no",
}


@dataclass(frozen=True)
class Part:
    """Rows of a user's data: tensors, or a lazy dataset that `Batches` can index, and how many rows."""

    rows: Any
    count: int


@dataclass(frozen=True)
class UserData:
    """A user's files as read: parts to train on, to validate on and, when scoring or predicting, `everything`.

    `description` is plain JSON and is stored in `recipe.json`: classes, normalisation, sensors, locations. `build`
    and `predict` get everything they need to know from it. `extra` is the reader's own and is not stored.
    """

    description: Mapping[str, Any]
    train: Part | None = None
    validation: Part | None = None
    everything: Part | None = None
    extra: Any = None


@dataclass(frozen=True)
class Recipe:
    """How a paper's method meets a user's files.

    Attributes:
        slug: the paper.
        settings: defaults over `COMMON`; their types are those that `--set` accepts.
        read: `(path, settings, saved) -> UserData`; `saved` is None when fitting (split into train and validation,
            compute normalisation) and the stored description when scoring or predicting (fill `everything`).
        build: `(description, settings) -> model`.
        model: the class whose `from_pretrained` loads the folder; or a function `description -> class`.
        loss: `(model, batch) -> scalar`.
        score: `(model, part, description) -> metrics`.
        predict: `(model, data, out) -> count`; writes predictions to `out`.
        writes: the ending of the file that `predict` writes where the user names none.
        task: the hub's name of the task, for the model card.
        pictures: `(model, part, description) -> pictures` of the fitted model's validation rows, each a dict with
            `title`, `kind` (lines, bars, heatmap, scatter, images or network), `caption` and content, as
            `Trial.picture` keeps.
        method: a paper's own loss or optimizer: `(model, settings) -> (loss, optimizer)`, made anew for every fit, in
            place of `loss` and the setting `optimizer`; the settings hold the resolved `steps`.
        fit: `settings -> function`, where the paper's way of training is not `fit` itself: a function that takes what
            `fit` takes and gives a `Fitted`.
    """

    slug: str
    settings: Mapping[str, Any]
    read: Callable[[Path, Mapping[str, Any], Mapping[str, Any] | None], UserData]
    build: Callable[[Mapping[str, Any], Mapping[str, Any]], nn.Module]
    model: Any
    loss: Callable[[Any, Any], torch.Tensor]
    score: Callable[[nn.Module, Part, Mapping[str, Any]], dict[str, float]]
    predict: Callable[[nn.Module, UserData, Path], int]
    task: str | None = None
    pictures: Callable[[Any, Part, Mapping[str, Any]], list[dict[str, Any]]] | None = None
    method: Callable[[Any, Mapping[str, Any]], tuple[Callable[[Any, Any], torch.Tensor], Any]] | None = None
    fit: Callable[[Mapping[str, Any]], Callable[..., Fitted]] | None = None
    writes: str = ".csv"

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", {**COMMON, **self.settings})


def fit_files(
    recipe: Recipe,
    source: Path | str,
    out: Path | str,
    *,
    settings: Mapping[str, Any] | None = None,
    test: Path | str | None = None,
    device: str | None = None,
    fresh: bool = False,
    log: Callable[..., None] | None = None,
) -> dict[str, Any]:
    """Fit a paper's method to files; an interrupted fit goes on when called again.

    Returns:
        `model` (the folder), `metrics` by part, `steps`, `seconds`, `settings`; `curves` (name -> points (step, value))
        and the recipe's `pictures`, of the part named by `pictured`.

    Raises:
        PaperworksError: unreadable data, a folder that cannot be written or already holds a model, divergence.
    """
    source, out = Path(source), Path(out)
    chosen = {**recipe.settings, **(settings or {})}
    unknown = sorted(chosen.keys() - recipe.settings.keys())
    if unknown:
        raise SettingError(
            f"{recipe.slug} has no setting '{unknown[0]}'; there are {', '.join(sorted(recipe.settings))}"
        )
    _check_common(chosen)
    device = usable_device(device)
    main = int(os.environ.get("RANK", "0")) == 0
    data = recipe.read(source, chosen, None)
    assert data.train is not None
    tested = recipe.read(Path(test), chosen, data.description) if test is not None else None
    plan = {"slug": recipe.slug, "source": str(source.resolve()), "settings": chosen, "data": data.description}
    if main:
        _prepare(out, plan, fresh)
    torch.manual_seed(chosen["seed"])
    try:
        model = recipe.build(data.description, chosen).to(device)
    except (ValueError, RuntimeError, ArithmeticError) as error:
        if isinstance(error, PaperworksError):
            raise
        told = str(error).splitlines()[0]
        raise SettingError(f"no {recipe.slug} can be built with these settings on {device}: {told}") from error
    batches = Batches(data.train.rows, min(chosen["batch_size"], data.train.count), chosen["seed"])
    steps = chosen["steps"] if chosen["epochs"] <= 0 else max(1, round(chosen["epochs"] * batches.steps_per_epoch))

    def validate() -> dict[str, float]:
        return recipe.score(model, data.validation, data.description) if data.validation else {}

    loss_of, optimizer = recipe.loss, chosen["optimizer"]
    if recipe.method is not None:
        loss_of, optimizer = recipe.method(model, {**chosen, "steps": steps})

    def loss(net: nn.Module, batch: Any) -> torch.Tensor:
        return loss_of(net, tuple(tensor.to(device) for tensor in batch))

    train = recipe.fit(chosen) if recipe.fit else fit
    fitted = train(
        model,
        loss,
        batches,
        steps=steps,
        lr=chosen["lr"],
        optimizer=optimizer,
        weight_decay=chosen["weight_decay"],
        schedule=chosen["schedule"],
        warmup=chosen["warmup"],
        clip=chosen["clip"] or None,
        log=log,
        checkpoint=Checkpoint(out / "checkpoint.safetensors"),
        validate=validate if data.validation else None,
        validate_every=max(1, steps // 10),
        mixed_precision=None if chosen["mixed_precision"] == "no" else chosen["mixed_precision"],
    )
    if fitted.diverged:
        raise PaperworksError(
            f"training diverged at step {fitted.steps}: try a lower rate, --set lr={chosen['lr'] / 10:g}"
        )
    model.eval()
    parts = {"train": data.train, "validation": data.validation, "test": tested and tested.everything}
    metrics = {name: recipe.score(model, part, data.description) for name, part in parts.items() if part}
    report = {
        "model": str(out),
        "metrics": metrics,
        "rows": {name: part.count for name, part in parts.items() if part},
        "steps": fitted.steps,
        "seconds": round(fitted.seconds, 3),
        "settings": chosen,
        "predictions": f"predictions{recipe.writes}",
        "curves": _curves(fitted.logged),
        "pictures": [],
        "pictured": None,
    }
    if main:
        _write(recipe, model, out, plan, report)  # first: no picture is worth a fitted model
        report["pictured"] = next((name for name in ("test", "validation", "train") if parts[name]), None)
        if recipe.pictures is not None and report["pictured"]:
            with torch.no_grad():
                report["pictures"] = recipe.pictures(model, parts[report["pictured"]], data.description)  # type: ignore[arg-type]
    return report


def _curves(logged: list[dict[str, float]]) -> dict[str, list[list[float | None]]]:
    """What was logged while fitting, metric by metric, as points (step, value)."""
    curves: dict[str, list[list[float | None]]] = {}
    for entry in logged:
        for name, value in entry.items():
            if name not in ("step", "seconds"):
                curves.setdefault(name, []).append([entry["step"], value if math.isfinite(value) else None])
    return curves


def _check_common(settings: Mapping[str, Any]) -> None:
    for name in ("steps", "batch_size"):
        if settings[name] < 1:
            raise SettingError(f"setting {name}={settings[name]}: a whole number from 1")
    if not settings["lr"] > 0:
        raise SettingError(f"setting lr={settings['lr']}: a number above 0")
    if settings["weight_decay"] < 0 or settings["warmup"] < 0 or settings["clip"] < 0:
        raise SettingError("settings weight_decay, warmup and clip: numbers from 0")
    if not -(2**63) <= settings["seed"] < 2**63:
        raise SettingError(f"setting seed={settings['seed']}: a whole number of at most 64 bits")
    if not 0 <= settings.get("validation", 0) < 1:
        raise SettingError(f"setting validation={settings['validation']}: a share from 0 and below 1")
    choices = {
        "optimizer": ("adam", "adamw", "sgd"),
        "schedule": ("constant", "cosine", "linear"),
        "mixed_precision": ("no", "bf16", "fp16"),
    }
    for name, allowed in choices.items():
        if settings[name] not in allowed:
            raise SettingError(f"setting {name}={settings[name]}: one of {', '.join(allowed)}")


def _prepare(out: Path, plan: Mapping[str, Any], fresh: bool) -> None:
    """Make the folder; keep an interrupted fit of the same plan, refuse to mix two fits or to overwrite a model."""
    unfinished, checkpoint = out / UNFINISHED, out / "checkpoint.safetensors"
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        if fresh:
            checkpoint.unlink(missing_ok=True)
        elif (out / WEIGHTS).exists() and not unfinished.exists():
            raise PaperworksError(f"{out} already holds a fitted model; give another --out, or --fresh to replace it")
        elif unfinished.exists():
            try:
                earlier = read_config(unfinished)
            except ModelFolderError:
                earlier = None
            if earlier != json.loads(json.dumps(plan)):
                raise PaperworksError(
                    f"{out} holds an interrupted fit of other data or settings; repeat its command to go on, "
                    "give another --out, or --fresh to start over"
                )
        else:
            checkpoint.unlink(missing_ok=True)
        unfinished.write_text(json.dumps(plan, indent=1), encoding="utf-8")


class _writing:
    """Turns a full disk or a folder that cannot be written into a message."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError | SafetensorError) and not isinstance(error, PaperworksError):
            number = getattr(error, "errno", None) or int((re.findall(r"os error (\d+)", str(error)) or [0])[0])
            full = number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            advice = "make room and repeat the command" if full else "give another --out"
            raise PaperworksError(
                f"{self.folder} cannot be written: {getattr(error, 'strerror', None) or error}; {advice}"
            ) from error


def _write(recipe: Recipe, model: nn.Module, out: Path, plan: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """The finished folder, whole or not at all; the checkpoint goes last, so that a full disk loses nothing."""
    from paperworks import __version__

    stored = {
        "slug": recipe.slug,
        "paperworks": __version__,
        "source": plan["source"],
        "settings": plan["settings"],
        "data": plan["data"],
        "metrics": report["metrics"],
        "rows": report["rows"],
        "steps": report["steps"],
    }
    with _writing(out):
        with tempfile.TemporaryDirectory(dir=out, prefix=".") as beside:
            card = _model_card(recipe, stored)
            model.save_pretrained(beside)  # type: ignore[operator]
            (Path(beside) / RECIPE).write_text(json.dumps(stored, indent=1), encoding="utf-8")
            (Path(beside) / "README.md").write_text(card, encoding="utf-8")
            for path in Path(beside).iterdir():
                os.replace(path, out / path.name)
        (out / UNFINISHED).unlink(missing_ok=True)
        (out / "checkpoint.safetensors").unlink(missing_ok=True)


def _model_card(recipe: Recipe, stored: Mapping[str, Any]) -> str:
    """A model card that the Hugging Face hub understands, its figures taken from the fit."""
    from huggingface_hub import EvalResult, ModelCardData

    name = Path(stored["source"]).name
    results = [
        EvalResult(
            task_type=recipe.task or "other",
            dataset_type=part,
            dataset_name=f"{name} ({part})",
            metric_type=metric,
            metric_value=value,
        )
        for part, metrics in stored["metrics"].items()
        for metric, value in metrics.items()
    ]
    front = ModelCardData(
        library_name="paperworks",
        license="other",
        license_name="see-training-data",
        pipeline_tag=recipe.task,
        tags=["paperworks", recipe.slug],
        model_name=recipe.slug,
        eval_results=results or None,
    )
    table = "\n".join(
        f"| {part} | {stored['rows'][part]} | " + ", ".join(f"{n} {v:.4g}" for n, v in metrics.items()) + " |"
        for part, metrics in stored["metrics"].items()
    )
    return f"""---
{front.to_yaml()}
---

# {recipe.slug} fitted to {name}

Fitted with paperworks {stored["paperworks"]} in {stored["steps"]} steps.

| part | rows | metrics |
|---|---|---|
{table}

```
paperworks predict THIS_FOLDER FILES --out predictions{recipe.writes}
```

Settings: `{json.dumps(stored["settings"])}`
"""


def read_recipe(folder: Path | str) -> dict[str, Any]:
    """The `recipe.json` of a fitted folder.

    Raises:
        ModelFolderError: no such folder or file, or it is not what `fit` writes.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFolderError(f"{folder} is no folder; give the folder that fit wrote")
    stored = read_config(folder / RECIPE)
    for name, kind in {"slug": str, "settings": dict, "data": dict}.items():
        if not isinstance(stored.get(name), kind):
            raise ModelFolderError(f"{folder / RECIPE}: '{name}' must be a {kind.__name__}; fit the model again")
    return stored


def predict_files(
    recipe: Recipe, folder: Path | str, source: Path | str, out: Path | str | None = None, *, device: str | None = None
) -> dict[str, Any]:
    """Apply a fitted folder to files and write predictions to `out`; returns `path` and `count`.

    Without `out` they go to a file `predictions`, here, of the recipe's kind.

    Raises:
        PaperworksError: a damaged folder, data laid out otherwise than what the model was fitted on, a full disk.
    """
    folder, source = Path(folder), Path(source)
    out = Path(f"predictions{recipe.writes}" if out is None else out)
    stored = read_recipe(folder)
    read_config(folder / CONFIG)
    with _believing(folder / RECIPE):
        model_class = recipe.model if isinstance(recipe.model, type) else recipe.model(stored["data"])
    device = usable_device(device)
    model = model_class.from_pretrained(folder, map_location=device)
    with _believing(folder / RECIPE):
        data = recipe.read(source, {**recipe.settings, **stored["settings"]}, stored["data"])
        count = _predicted(recipe, model, data, out)
    return {"path": str(out), "count": count}


@contextmanager
def _believing(path: Path) -> Iterator[None]:
    """What follows relies on a stored description; one that was tampered with may fail in any way."""
    try:
        yield
    except (PaperworksError, OSError, MemoryError):
        raise
    except KeyError as error:
        raise ModelFolderError(f"{path} lacks {error} in 'data'; fit the model again") from error
    except Exception as error:
        told = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelFolderError(f"{path} does not fit this model and this data ({told}); fit the model again") from error


def _predicted(recipe: Recipe, model: nn.Module, data: UserData, out: Path) -> int:
    """Write predictions whole or not at all: earlier ones outlive a failure."""
    with _writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".") as beside:
            try:
                with torch.inference_mode():
                    count = recipe.predict(model, data, Path(beside) / out.name)
            except PaperworksError as error:
                error.args = tuple(str(part).replace(f"{Path(beside)}{os.sep}", "") for part in error.args)
                raise
            for path in Path(beside).iterdir():
                os.replace(path, out.parent / path.name)
    return count
