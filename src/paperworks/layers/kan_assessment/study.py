"""Where a KAN is better than a perceptron of the same budget, and where not (arXiv 2407.11075, 2407.16674).

Laptop: about 6 CPU-minutes. `paperworks run kan_assessment`
"""

import torch
from torch import nn

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.measure import count_parameters
from paperworks.training import Batches, fit

from .model import build, kanbefair_count, match_budget, operations
from .tasks import Task, class_incremental, formula_task, table_task
from .training import Trained, loss, scores, train

FORMULAS_SAY = "KANs win only where formulas are to be fitted, in words (abstract)"
DIFFERS = (
    "There: other authors' runs, the best of many configurations by test score. Here: one configuration a family, as "
    "many learning rates for each, chosen on validation data."
)


def family(arm: str) -> str:
    """The network family of an arm."""
    return "mlp" if arm.startswith("mlp") else arm


def width(arm: str, task: Task, kan_width: int) -> int:
    """The hidden width that gives an arm the KAN's parameters, or its operations."""
    kan = build("kan", task.n_in, kan_width, task.n_out)
    if arm == "kan":
        return kan_width
    if arm == "mlp_flops":
        return match_budget("mlp", task.n_in, task.n_out, flops=operations(kan, task.n_in))
    if arm == "mlp_kanbefair":
        asked = kanbefair_count("kan", (task.n_in, kan_width, task.n_out))[1]
        return min(range(2, 400), key=lambda w: abs(kanbefair_count("mlp", layers(task, w))[1] - asked))
    return match_budget(family(arm), task.n_in, task.n_out, parameters=count_parameters(kan))


def layers(task: Task, hidden: int) -> tuple[int, ...]:
    """The widths of the perceptron with that many hidden units."""
    return task.n_in, (hidden + 1) // 2, hidden // 2, task.n_out


def fitted(t: Trial, task: Task, **options: float) -> Trained:
    """Count, train at every rate, show the curve of the one that validated best."""
    s, wide = t.settings, width(t.arm, task, t.settings.width)
    net = build(family(t.arm), task.n_in, wide, task.n_out)
    batch = tuple(part[: s.batch_size] for part in task.train)
    t.count(net, step=lambda: loss(net, batch), unit="batch", rates=len(s.lrs))
    best = train(task, family(t.arm), wide, t.seed, steps=s.steps, batch_size=s.batch_size, lrs=s.lrs, **options)
    for point in best.history:
        t.log(int(point["step"]), s.steps, val_loss=point["val_loss"], seconds=best.step_seconds * point["step"])
    return best


formulas = Study(
    "formulas",
    question="Do KANs fit formulas better than perceptrons of the same size, and is that because of their splines?",
    arms=("kan", "mlp", "mlp_flops", "mlp_kanbefair", "spline_mlp", "spline_first"),
    settings=dict(width=5, batch_size=128, lrs=[1e-2, 3e-2, 1e-1]),
    smoke=dict(steps=4, lrs=[1e-2]),
    laptop=dict(steps=1_000),
    paper=dict(steps=20_000, lrs=[3e-3, 1e-2, 3e-2, 1e-1]),
    sweep=dict(function=["ellipeinc", "lpmv1", "exp_sin", "bessel"]),
    seeds=5,
    equal=("parameters", "steps", "rates"),
    claims=[
        Beats("nrmse", "kan", "mlp", better="lower", by=1.41, per="cell", published=FORMULAS_SAY, differs=DIFFERS),
        Beats(
            "nrmse",
            "kan",
            "mlp_flops",
            better="lower",
            by=1.41,
            per="cell",
            equal=("operations", "steps", "rates"),
            published=FORMULAS_SAY,
            differs=DIFFERS,
            note="A perceptron of as many operations has many more weights.",
        ),
        Beats(
            "nrmse",
            "kan",
            "mlp_kanbefair",
            better="lower",
            by=1,
            per="cell",
            kind="control",
            equal=("steps", "rates"),
            note="As many operations by the formulas of 2407.16674, which charge a spline far more than it costs here.",
        ),
        Beats(
            "nrmse",
            "spline_mlp",
            "mlp",
            better="lower",
            by=1,
            per="cell",
            kind="mechanism",
            published="the gain comes from B-spline activations, a perceptron with them is as good (2407.16674)",
            differs=DIFFERS,
            note="Does a spline a unit already beat the perceptron?",
        ),
        NotWorse(
            "nrmse",
            "spline_mlp",
            "kan",
            better="lower",
            scale="ratio",
            margin=0.41,
            per="cell",
            kind="mechanism",
            note="And is it as good as the KAN, with splines a unit instead of an edge?",
        ),
        NotWorse(
            "nrmse",
            "spline_first",
            "kan",
            better="lower",
            scale="ratio",
            margin=0.41,
            per="cell",
            kind="control",
            note="The same with splines before the linear layers.",
        ),
        Beats(
            "step_seconds",
            "mlp",
            "kan",
            better="lower",
            scale="ratio",
            by=1.36,
            cell="function=ellipeinc",
            published="KANs take 1.36 to 100 times as long (abstract)",
            differs="At equal parameters, on one core.",
        ),
    ],
)


@formulas.trial
def formula_trial(t: Trial) -> None:
    """800 points to learn from, 200 to choose the rate, 1,000 to report."""
    task = formula_task(t.settings.function, 500 + t.seed)
    best = fitted(t, task)
    t.row(**scores(best.net, task.test), val_loss=best.val_loss, lr=best.lr, step_seconds=best.step_seconds)
    if t.seed == 0 and t.settings.function == "bessel" and t.arm in ("kan", "mlp"):
        line = torch.linspace(-1, 1, 201)[:, None]
        exact = formula_curve(task, line)
        with torch.no_grad():
            guess = best.net(line)[:, 0]
        t.picture(
            f"A Bessel function, by {t.arm}",
            "lines",
            x=line[:, 0],
            series={"test points": exact, t.arm: guess},
            caption="input on [-1, 1]; standardised value",
        )


def formula_curve(task: Task, line: torch.Tensor) -> torch.Tensor:
    """The nearest test point's value along a line."""
    x, y = task.test
    return y[(line - x.T).abs().argmin(1), 0]


tables = Study(
    "tables",
    question="And on tables to classify?",
    arms=("kan", "mlp", "mlp_flops"),
    settings=dict(width=8, batch_size=64, lrs=[1e-3, 3e-3, 1e-2, 3e-2]),
    smoke=dict(steps=4, lrs=[1e-2]),
    laptop=dict(steps=300),
    paper=dict(steps=5_000),
    sweep=dict(table=["digits", "breast_cancer", "wine"]),
    seeds=5,
    equal=("parameters", "steps", "rates"),
    claims=[
        NotWorse("acc", "mlp", "kan", margin=0.01, per="cell", published=FORMULAS_SAY, differs=DIFFERS),
        NotWorse(
            "acc",
            "mlp_flops",
            "kan",
            margin=0.01,
            per="cell",
            equal=("operations", "steps", "rates"),
            published=FORMULAS_SAY,
            differs=DIFFERS,
        ),
        Beats("acc", "mlp", "kan", by=0, per="cell", kind="control", note="Strictly better, not only as good."),
    ],
)


@tables.trial
def table_trial(t: Trial) -> None:
    """Inputs standardised, the KAN's first grid on [-3, 3]."""
    task = table_task(t.settings.table, t.seed)
    best = fitted(t, task, low=-3.0, high=3.0)
    t.row(**scores(best.net, task.test), val_loss=best.val_loss, lr=best.lr)


GROUPS = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]

continual = Study(
    "continual",
    question="And when classes come one group after another, without rehearsal?",
    arms=("kan", "mlp"),
    variants={"kan_together": "kan", "mlp_together": "mlp"},
    settings=dict(width=8, batch_size=64, lrs=[1e-3, 3e-3, 1e-2, 3e-2]),
    smoke=dict(steps=4, lrs=[1e-2]),
    laptop=dict(steps=100),
    paper=dict(steps=2_000),
    seeds=5,
    equal=("parameters", "rates"),
    claims=[
        NotWorse(
            "acc",
            "mlp",
            "kan",
            margin=0.01,
            published="KANs forget more when classes come one after another (section 4.4 of 2407.16674)",
            differs=DIFFERS,
        ),
        Beats("acc", "kan_together", "kan", by=0.1, kind="control", note="All classes at once: what is forgotten."),
        Beats("acc", "mlp_together", "mlp", by=0.1, kind="control"),
    ],
)


@continual.trial
def continual_trial(t: Trial) -> None:
    """Digits 0 to 8 in three groups; the rate is chosen by validation accuracy over all nine, after the last group."""
    s, task = t.settings, table_task("digits", t.seed)
    keep = [part[1] < 9 for part in (task.train, task.val, task.test)]
    parts = [(x[k], y[k]) for (x, y), k in zip((task.train, task.val, task.test), keep, strict=True)]
    task = Task(parts[0], parts[1], parts[2], 9)
    wide = width(t.arm, task, s.width)
    orders = {t.arm: class_incremental(task, GROUPS), f"{t.arm}_together": [task.train] * len(GROUPS)}
    t.count(build(t.arm, task.n_in, wide, 9), unit="batch", rates=len(s.lrs))
    for variant, stages in orders.items():
        found = []
        for lr in s.lrs:
            net = taught(t, task, wide, stages, lr)
            found.append((scores(net, task.val)["acc"], lr, scores(net, task.test)["acc"]))
        best = max(found)
        t.row(variant, acc=best[2], val_acc=best[0], lr=best[1])
        t.log(s.steps * len(GROUPS), s.steps * len(GROUPS), val_acc=best[0])


def taught(t: Trial, task: Task, wide: int, stages: list, lr: float) -> nn.Module:
    """One network through all stages."""
    torch.manual_seed(t.seed)
    net = build(t.arm, task.n_in, wide, 9, -3.0, 3.0)
    for stage in stages:
        fit(net, loss, Batches(stage, t.settings.batch_size, t.seed), steps=t.settings.steps, lr=lr)
    return net.eval()
