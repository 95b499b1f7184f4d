"""Recorded results: what `run --record` and the parity scripts wrote into a paper's `results/` folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paperworks.errors import PaperworksError

from .discover import Paper
from .files import write_text
from .ledger import trial_problem

SCHEMA = 1
CONFIRMATION = "confirmation.json"


class Recorded:
    """A paper's recorded results, looked up as its card does."""

    def __init__(
        self,
        result: Mapping[str, Any] | None,
        parity: Mapping[str, Any] | None = None,
        fits: Mapping[str, Any] | None = None,
        confirmation: Mapping[str, Any] | None = None,
    ):
        self.result, self.parity, self.fits, self.confirmation = result, parity, fits or {}, confirmation

    def verdict(self, study: str, which: int | str = 0) -> dict[str, Any] | None:
        """A study's verdict, by its place among the study's claims or by the claim's wording."""
        return _verdict(self.result, study, which)

    def confirmed(self, study: str, which: int | str = 0) -> dict[str, Any] | None:
        """The same verdict out of the run on fresh seeds, where one is recorded."""
        return _verdict(self.confirmation, study, which)

    def trials(self, study: str) -> list[dict[str, Any]]:
        """A study's recorded trials."""
        return [trial for trial in (self.result or {}).get("trials", []) if trial["study"] == study]

    def study(self, name: str) -> dict[str, Any] | None:
        """A study's recorded settings, tuning and data."""
        return next((s for s in (self.result or {}).get("studies", []) if s["name"] == name), None)

    def mean(self, study: str, variant: str, metric: str, cell: str | None = None) -> float | None:
        """Mean over seeds (and over cells, unless one is named) of a variant's metric."""
        values = [
            row["metrics"][metric]
            for trial in self.trials(study)
            for row in trial["rows"]
            if row["variant"] == variant and metric in row["metrics"] and (cell is None or row["cell"] == cell)
        ]
        numbers = [value for value in values if value is not None]
        return sum(numbers) / len(numbers) if numbers and len(numbers) == len(values) else None

    def cost(self, study: str, arm: str, name: str) -> float | None:
        """Mean over trials of what an arm paid: parameters, operations, seconds, saved_bytes or a count of its own."""
        values = [
            trial[name] if trial.get(name) is not None else (trial.get("counts") or {}).get(name)
            for trial in self.trials(study)
            if trial["arm"] == arm
        ]
        numbers = [value for value in values if value is not None]
        return sum(numbers) / len(numbers) if numbers else None

    def fitted(self, name: str, part: str, metric: str) -> float | None:
        """A metric of a recorded fit to files, on its part `train`, `validation` or `test`."""
        return self.fits.get(name, {}).get("metrics", {}).get(part, {}).get(metric)


def _verdict(result: Mapping[str, Any] | None, study: str, which: int | str) -> dict[str, Any] | None:
    found = [v for v in (result or {}).get("verdicts", []) if v["study"] == study]
    if isinstance(which, int):
        return found[which] if which < len(found) else None
    return next((v for v in found if v["claim"] == which), None)


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in `path`; None where there is no such file.

    Raises:
        PaperworksError: the file is no JSON object.
    """
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise PaperworksError(f"{path} is not JSON ({error}); remove it and measure again") from error
    except OSError as error:
        raise PaperworksError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(value, dict):
        raise PaperworksError(f"{path} holds a {type(value).__name__}, expected a JSON object; remove it")
    return value


def recorded(paper: Paper, budget: str = "laptop") -> Recorded:
    """What is recorded of a paper at a budget; empty where nothing is.

    Raises:
        PaperworksError: a results file is damaged.
    """
    folder = paper.folder / "results"
    return Recorded(
        _result(folder / f"{budget}.json"),
        read_json(folder / "parity.json"),
        read_json(folder / "fits.json"),
        _result(folder / CONFIRMATION) if budget == "laptop" else None,
    )


def _result(path: Path) -> dict[str, Any] | None:
    result = read_json(path)
    if result is None:
        return None
    for name in ("verdicts", "trials", "studies"):
        if not isinstance(result.get(name), list):
            raise PaperworksError(f"{path} lacks the list '{name}'; record it again")
    _check(path, result)
    return result


def _check(path: Path, result: Mapping[str, Any]) -> None:
    """Refuse a result that no run wrote: what the pages read of it must be there and of its type."""
    number, text = int | float | None, str | None
    verdict = {"study": str, "claim": str, "kind": str, "status": str, "sentence": text, "effect": number}
    parts = [("verdict", item, verdict | {"interval": list | None}) for item in result["verdicts"]]
    parts += [("study", item, {"name": str, "settings": dict}) for item in result["studies"]]
    parts += [("result", result, {"budget": str, "environment": dict})]
    problems = [f"a trial is damaged, {problem}" for trial in result["trials"] if (problem := trial_problem(trial))]
    for what, item, kinds in parts:
        given = item if isinstance(item, dict) else {}
        problems += [
            f"'{name}' of a {what} is wrong" for name, kind in kinds.items() if not isinstance(given.get(name), kind)
        ]
    if problems:
        raise PaperworksError(f"{path}: {problems[0]}; record it again")


def record_fit(paper: Paper, name: str, source: Path, report: Mapping[str, Any]) -> Path:
    """Keep what `fit` measured on real files, under a name that the card can cite.

    Raises:
        PaperworksError: the folder cannot be written, or what is there is damaged.
    """
    path = paper.folder / "results" / "fits.json"
    shown = ("model", "curves", "pictures", "pictured", "predictions")  # the page has them; a card cites scores
    entry = {"source": source.name, **{key: value for key, value in report.items() if key not in shown}}
    write_text(path, json.dumps({**(read_json(path) or {}), name: entry}, indent=1) + "\n")
    return path


def record(paper: Paper, result: Mapping[str, Any]) -> Path:
    """Write a run's result into the paper's folder; studies that this run left out keep what they had.

    A run on fresh seeds is kept beside the first one, and takes nothing of its place.

    Raises:
        PaperworksError: the folder cannot be written (an installed package, say).
    """
    fresh = result.get("first_seed", 0) > 0
    path = paper.folder / "results" / (CONFIRMATION if fresh else f"{result['budget']}.json")
    merged = dict(result)
    earlier = read_json(path)
    if earlier:
        measured = {study["name"] for study in result["studies"]}
        known = list(paper.studies)
        for name, key in (("studies", "name"), ("verdicts", "study"), ("trials", "study")):
            kept = [item for item in earlier.get(name, []) if item[key] not in measured and item[key] in known]
            merged[name] = sorted([*kept, *result[name]], key=lambda item, key=key: known.index(item[key]))
        names = {study["name"] for study in merged["studies"]}
        merged["cpu_seconds"] = round(sum(trial["cpu_seconds"] for trial in merged["trials"]), 2)
        merged["command"] = "; ".join(dict.fromkeys(study.get("command", "") for study in merged["studies"]))
        merged["not_run"] = [item for item in result.get("not_run", []) if item["study"] not in names]
    write_text(path, compact_json(merged))
    return path


def compact_json(value: Any) -> str:
    """JSON with one trial, verdict or study a line: small, and its changes can be read."""
    lines = []
    for name, item in value.items():
        if isinstance(item, list) and item:
            inner = ",\n".join("  " + json.dumps(_short(entry), ensure_ascii=False) for entry in item)
            lines.append(f" {json.dumps(name)}: [\n{inner}\n ]")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(_short(item), ensure_ascii=False)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _short(value: Any) -> Any:
    """Curves at six significant digits; rows, verdicts and counts stay as measured."""
    if isinstance(value, dict) and "curves" in value:
        curves = {
            name: [[x, None if y is None else float(f"{y:.6g}")] for x, y in curve]
            for name, curve in value["curves"].items()
        }
        return {**value, "curves": curves}
    return value
