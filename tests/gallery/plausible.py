"""Plausible results: rows drawn from a seeded generator, verdicts computed from them by the lab itself."""

import math
import random
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from paperworks.lab import Beats, NotWorse, Reaches, Scales, Study
from paperworks.lab.card import Card
from paperworks.lab.comparison import summarise
from paperworks.lab.verdict import Rows, judge

HOSTILE = "<script>window.broken=1</script>\"'&<img src=x onerror=window.broken=1>"


BODY = """\
## What it does

It learns a map from functions to functions.

```python
print("used like this")
```

## What we measured

{{ verdict("antiderivative", 0) | sentence }}

| a | b |
|---|---|
| 1 | 2 |

## Read before you believe it

The plain net's error is {{ verdict("antiderivative", 0).effect | times }} larger here, but a longer training
**narrows** the gap. The published figure is a mean over one run.
"""


def card(**changes: Any) -> Card:
    """A paper's card."""
    front: dict[str, Any] = dict(
        path=Path("card.md"),
        slug="deeponet",
        title="Learning nonlinear operators with branch and trunk networks",
        arxiv="1910.03193",
        year=2019,
        field="operators",
        idea="A net for the input function and a net for the place, joined by one inner product.",
        claim="The joined nets generalise several times better than one plain net of the same size.",
        tags=["operator learning", "surrogate"],
        license="Apache-2.0",
        official="lululxvi/deeponet",
        body=BODY,
    )
    return Card(**{**front, **changes})


def study_of(name: str = "antiderivative", **options: Any) -> Study:
    """A study with claims of every kind."""
    claims = [
        Beats(
            "test_mse",
            "deeponet",
            "fnn",
            better="lower",
            by=3,
            kind="headline",
            published="about 10 times lower (Figure 3)",
            differs="the paper trains 50,000 steps on 10,000 functions; here 2,000 steps on 1,000",
        ),
        NotWorse("accuracy", "deeponet", "fnn_time", margin=0.02, kind="headline", equal=("seconds",)),
        Beats(
            "accuracy", "deeponet", ["single_block"], by=0.05, kind="control", note="The same net without its trunk."
        ),
        Beats("test_mse", "deeponet", "untrained", better="lower", by=2, kind="control"),
        Reaches("accuracy", "deeponet", 0.9, kind="mechanism"),
        Reaches("gap", "deeponet", 0.2, kind="mechanism", better="lower"),
        Scales("interpolation", against="m", exponent=-2, variant="deeponet", tolerance=0.4, kind="mechanism"),
    ]
    settings: dict[str, Any] = dict(
        question="Does an inner product of two nets generalise better than one plain net of the same size?",
        arms=("deeponet", "fnn", "untrained"),
        variants={"single_block": "deeponet"},
        settings=dict(steps=2000, lr=1e-3, width=40),
        smoke=dict(steps=10),
        laptop=dict(steps=2000),
        paper=dict(steps=50_000),
        equal_time={"fnn_time": ("fnn", "deeponet")},
        equal=("parameters",),
        claims=claims,
    )
    return Study(name, **{**settings, **options})


def trial(study: str, arm: str, seed: int, rng: random.Random) -> dict[str, Any]:
    """One trial of one arm."""
    good = {"deeponet": 1e-4, "fnn": 8e-4, "fnn_time": 5e-4, "untrained": 0.3}.get(arm, 10 ** rng.uniform(-4, -1))
    error = good * math.exp(rng.gauss(0, 0.25))
    accuracy = min(0.999, 0.93 + rng.gauss(0, 0.012) - 0.02 * (arm != "deeponet") - 0.5 * (arm == "untrained"))
    metrics = {"test_mse": error, "accuracy": accuracy, "gap": 0.1 + rng.random() * 0.05}
    rows = [{"variant": arm, "cell": None, "metrics": metrics}]
    if arm == "deeponet":
        weaker = {"accuracy": accuracy - 0.01 + rng.gauss(0, 0.01)}
        rows.append({"variant": "single_block", "cell": None, "metrics": weaker})
        rows += [
            {
                "variant": arm,
                "cell": f"m={m}",
                "metrics": {"m": m, "interpolation": m**-2 * math.exp(rng.gauss(0, 0.1))},
            }
            for m in (10, 20, 40, 80)
        ]
    parameters = {"deeponet": 7401, "fnn": 7498, "fnn_time": 7498}.get(arm, 8200)
    steps = range(0, 2001, 50)
    return {
        "study": study,
        "arm": arm,
        "seed": seed,
        "point": {},
        "parameters": parameters,
        "operations": 1.2e8 * (1 + 0.4 * (arm == "fnn")),
        "saved_bytes": 2.5e6,
        "counter": "torch flop counter",
        "counts": {"steps": 2000 if arm != "fnn_time" else 3100},
        "unit": "batch",
        "seconds": 3.2 * (1 + 0.03 * rng.random()) * (0.65 if arm == "fnn" else 1),
        "wall_seconds": 4.0,
        "cpu_seconds": 4.0,
        "costs": {},
        "settings": {"steps": 2000},
        "rows": rows,
        "curves": {"loss": [[s, error * (1 + 40 * math.exp(-s / 300)) * math.exp(rng.gauss(0, 0.1))] for s in steps]},
        "pictures": pictures(rng) if arm == "deeponet" else [],
    }


def pictures(rng: random.Random) -> list[dict[str, Any]]:
    """One picture of every kind."""
    grid = [[math.sin(i / 3) * math.cos(j / 4) for j in range(24)] for i in range(16)]
    xs = [i / 20 for i in range(21)]
    return [
        {"title": "Prediction", "kind": "lines", "caption": "One held-out function.", "x": xs,
         "series": {"truth": [math.sin(6 * x) for x in xs], "deeponet": [math.sin(6 * x + 0.05) for x in xs]}},
        {"title": "Error by length scale", "kind": "bars", "caption": "", "labels": ["0.1", "0.2", "0.5"],
         "values": [0.3, 0.12, None]},
        {"title": "Basis", "kind": "heatmap", "caption": "Rows are basis functions.", "values": grid, "x": "place",
         "y": "function"},
        {"title": "Truth and prediction", "kind": "scatter", "caption": "",
         "x": [rng.gauss(0, 1) for _ in range(60)], "y": [rng.gauss(0, 1) for _ in range(60)]},
        {"title": "Inputs", "kind": "images", "caption": "", "images": [grid, grid, grid, grid, grid],
         "labels": ["a", "b", "c", "d", "e"]},
        {"title": "Maps in colour", "kind": "images", "caption": "", "images": [grid, grid, grid], "columns": 2,
         "labels": ["truth", "prediction", "error"], "ranges": [[-1, 1], [-1, 1], [0, 0.5]],
         "colours": ["signed", "field", "error"]},
    ]  # fmt: skip


def result(
    seeds: int = 5, study: Study | None = None, paper: str = "deeponet", lose: bool = False, budget: str = "laptop"
) -> dict[str, Any]:
    """A whole result; `lose` lets one seed of the method diverge."""
    study = study or study_of()
    rng = random.Random(7)
    trials = [trial(study.name, arm, seed, rng) for seed in range(seeds) for arm in study.all_arms]
    if lose:
        for row in trials[0]["rows"]:
            row["metrics"] = dict.fromkeys(row["metrics"])
        trials[0]["curves"]["loss"][5][1] = None
    calibrated = frozenset(study.equal_time)
    verdicts = [judge(claim, study, Rows(trials, study.variants), calibrated).to_dict() for claim in study.claims]
    points = [{"point": {"lr": lr}, "score": score} for lr, score in ((3e-4, 0.02), (1e-3, 0.01), (3e-3, None))]
    return {
        "schema": 1,
        "paper": paper,
        "budget": budget,
        "command": f"paperworks run {paper} --budget {budget} --seeds {seeds}",
        "started": "2026-11-23T22:00:00Z",
        "cpu_seconds": 312.0,
        "wall_seconds": 170.0,
        "environment": {"paperworks": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.3.0",
                        "device": "cpu", "platform": "Linux x86_64", "cores": 2},
        "studies": [
            {
                "name": study.name,
                "question": study.question,
                "arms": list(study.all_arms),
                "variants": dict(study.variants),
                "settings": {"steps": 2000, "lr": 1e-3, "width": 40},
                "arm_settings": {"fnn_time": {"steps": 3100}},
                "equal": list(study.equal),
                "equal_time": {arm: list(spec) for arm, spec in study.equal_time.items()},
                "calibrated": sorted(calibrated),
                "tuning": {
                    "grid": {"lr": [3e-4, 1e-3, 3e-3]},
                    "select": ["val_error", "lower"],
                    "seeds": [1000, 1001],
                    "choices": {"deeponet": {"lr": 1e-3}, "fnn": {"lr": 3e-4}},
                    "scores": {"deeponet": points, "fnn": points},
                    "edges": ["fnn: lr=0.0003 is the smallest of the grid"],
                },
                "data": "embedded",
                "budgets": {"smoke": {"steps": 10}, "laptop": {"steps": 2000}, "paper": {"steps": 50_000}},
            }
        ],
        "verdicts": verdicts,
        "trials": trials,
        "failures": [],
        "not_run": [{"study": "darcy", "why": "needs the data set 'darcy': pde/darcy_train_16.npz is not there"}],
    }  # fmt: skip


def compared(seeds: int = 3, models: int = 5, diverge: bool = False, name: str = "model") -> dict[str, Any]:
    """A comparison's result: models of falling error and rising cost, two of which go to another resolution."""
    rng = random.Random(5)
    names = [f"{name}{place}" for place in range(models)]
    trials = []
    for seed in range(seeds):
        for place, arm in enumerate(names):
            error = 0.3 / (place + 1) * math.exp(rng.gauss(0, 0.1))
            lost = diverge and seed == 0 and place == 1
            metrics = {"relative_l2": None if lost else error, "rollout_l2": 2 * error, "inference_ms": 0.1 * 2**place}
            rows = [{"variant": arm, "cell": None, "metrics": metrics}]
            if place < 2:
                rows.append({"variant": arm, "cell": "64 × 64", "metrics": {"relative_l2": 1.5 * error}})
            curve = [[step, error * (1 + 100 / step)] for step in range(10, 201, 10)]
            trials.append(
                {"paper": "compare-operators", "study": "darcy", "arm": arm, "seed": seed, "point": {}, "rows": rows,
                 "parameters": 100_000 + 2_000 * place, "operations": 10**8, "saved_bytes": 10**6, "unit": "batch",
                 "counter": "torch FlopCounterMode", "counts": {"steps": 200.0}, "seconds": 1.0 + place, "costs": {},
                 "cpu_seconds": 2.0, "wall_seconds": 2.0, "curves": {"loss": curve},
                 "settings": {"steps": 200, "lr": 2e-3}, "pictures": pictures(rng)[-1:] if seed == 0 else []}
            )  # fmt: skip
    models_of = {arm: SimpleNamespace(about=f"what {arm} is", transfers=place < 2) for place, arm in enumerate(names)}
    declared = SimpleNamespace(metric="relative_l2", models=models_of)
    study = {"name": "darcy", "question": "Darcy flow.", "arms": names, "variants": {}, "settings": {"steps": 200},
             "arm_settings": {}, "equal": [], "equal_time": {}, "calibrated": [], "tuning": None, "data": "embedded",
             "budgets": {}, "sweep": {}, "deterministic": False}  # fmt: skip
    head = {"field": "operators", "task": "darcy", "about": "Darcy flow.", "equal": "parameters", "seconds": None,
            "metric": "relative_l2", "sizes": [100_000], "tuned": False}  # fmt: skip
    left_out = [{"model": "cube", "why": "takes fields in three dimensions"}]
    return {
        "schema": 1,
        "paper": "compare-operators",
        "budget": "laptop",
        "command": "paperworks compare operators --task darcy",
        "started": "2026-01-01T00:00:00Z",
        "cpu_seconds": 30.0,
        "wall_seconds": 31.0,
        "environment": {"torch": "2.13.0"},
        "studies": [study],
        "verdicts": [],
        "trials": trials,
        "failures": [],
        "not_run": [],
        "comparison": {**head, **summarise(trials, declared, names, [100_000], "parameters"), "left_out": left_out},  # type: ignore[arg-type]
    }


def fit_report() -> dict[str, Any]:
    """What a fit reports."""
    return {
        "model": "model",
        "metrics": {"train": {"relative_l2": 0.0123}, "validation": {"relative_l2": 0.0345, "rollout_l2": 0.0567}},
        "rows": {"train": 90, "validation": 10},
        "steps": 100,
        "seconds": 3.25,
        "settings": {"lr": 1e-3, "optimizer": "adam", "widths": [8, 16]},
        "curves": {"loss": [[step, 1 / step] for step in range(1, 101)], "relative_l2": [[50, 0.1], [100, 0.0345]]},
        "pictures": pictures(random.Random(3)),
        "pictured": "validation",
    }


def many_arms(count: int = 40) -> dict[str, Any]:
    """A result with many arms of long names."""
    arms = tuple(f"a_method_with_a_rather_long_name_and_number_{place:02d}" for place in range(count))
    claims = [Beats("accuracy", arms[0], list(arms[1:]), by=0.0, kind="headline", equal=())]
    return result(3, study_of("wide", arms=arms, variants={}, equal_time={}, equal=(), claims=claims))


def hostile() -> dict[str, Any]:
    """A result whose every name and text is an attempt to inject a script."""

    def turned(value: Any) -> Any:
        if isinstance(value, str) and value not in KEPT:
            return value + HOSTILE
        if isinstance(value, dict):
            return {name if name in PLAIN else name + HOSTILE: turned(item) for name, item in value.items()}
        return [turned(item) for item in value] if isinstance(value, list) else value

    whole = turned(result(2))
    whole["studies"][0]["name"] = whole["trials"][0]["study"]
    whole["failures"] = [{"study": HOSTILE, "arm": HOSTILE, "seed": 0, "traceback": HOSTILE}]
    return whole


KEPT = {"headline", "control", "mechanism", "supported", "not supported", "inconclusive", "higher", "lower"}
KEPT |= {"ratio", "difference", "value", "exponent", "lines", "bars", "heatmap", "scatter", "images", "network"}
WORDS = """
schema paper budget command started cpu_seconds wall_seconds environment studies verdicts trials
failures not_run study why name question arms variants settings arm_settings equal
equal_time calibrated tuning data budgets grid select seeds choices scores edges
point score rows variant cell metrics curves pictures title kind caption
x y series labels values images claim status effect interval threshold
scale better metric method baseline paired fair costs sentence published differs
note parts arm seed parameters operations saved_bytes counter counts unit seconds
smoke laptop paper
"""
PLAIN = frozenset(re.findall(r"\w+", WORDS))  # the schema's own names


def papers() -> list[Card]:
    """Cards of several fields; the last one without a result."""
    more = [
        ("crossvit", "Two sizes of patches, joined by cross-attention", "vision", 2021, "2103.14899"),
        ("noprop", "Training without full back-propagation", "learning", 2025, "2503.24322"),
        ("modular_addition", "What a small network learns of modular addition", "analysis", 2024, "2402.09469"),
    ]
    cards = [card()]
    for slug, title, wing, year, arxiv in more:
        idea = f"{title}: the idea in one plain sentence that says what is done and to what."
        known = dict(slug=slug, title=title, arxiv=arxiv, year=year, field=wing, idea=idea, tags=[slug], official=None)
        cards.append(card(**known, claim=f"It does what {slug} promises.", body="## What it does\n\nMuch.\n"))
    return cards


def results() -> dict[str, Any]:
    """Results of three of the `papers`."""
    return {
        "deeponet": result(),
        "crossvit": result(1, paper="crossvit"),
        "noprop": result(4, paper="noprop", lose=True),
    }
