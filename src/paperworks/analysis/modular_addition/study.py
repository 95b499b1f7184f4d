"""Modular addition: the lottery, the mechanism, grokking (arXiv 2602.16849).

Laptop: about 6 CPU-minutes. `paperworks run modular_addition`
"""

from typing import Any

import torch

from paperworks.lab import Beats, Reaches, Study, Trial
from paperworks.training import Fitted, fit

from .fourier import (
    dominant_frequency,
    fourier_basis,
    fourier_decode,
    frequency_histogram,
    inverse_participation,
    phase_misalignment,
)
from .lottery import predict_winner
from .model import ModularAdditionMLP
from .task import ModularTask, Pairs

SCORES = ("ode", "alpha_beta_cos", "alpha", "misalignment")


def warm_up(step: int) -> float:
    """The authors' warm-up over ten steps, counted from 0: the first update has rate 0."""
    return min(step / 10, 1.0)


def train(t: Trial, model: ModularAdditionMLP, batch: Pairs, **options: Any) -> Fitted:
    """Full-batch training."""
    s = t.settings
    t.count(model, step=lambda: model.loss(batch), unit="full batch")
    fitted = fit(
        model,
        ModularAdditionMLP.loss,  # type: ignore[arg-type]
        lambda step: batch,
        steps=s.steps,
        lr=s.lr,
        schedule=warm_up,
        momentum=0.0,
        betas=(0.9, 0.98),
        log=t.log,
        checkpoint=t.checkpoint,
        **options,
    )
    model.eval()
    return fitted


@torch.no_grad()
def accuracy(model: ModularAdditionMLP, part: Pairs, activation: str | None = None) -> float:
    """Share of ordered pairs answered rightly."""
    right = (model(part.pairs, activation).argmax(-1) == part.labels) * part.weights
    return (right.sum() / part.weights.sum()).item()


lottery = Study(
    "lottery",
    question="Can a neuron's final frequency be told from its initial magnitudes and phases?",
    arms=("trained",),
    variants=dict.fromkeys((*SCORES, "chance"), "trained"),
    settings=dict(activation="square", lr=2.0, init_scale=0.1),
    smoke=dict(p=11, width=64, steps=300),
    laptop=dict(p=23, width=128, steps=3_000),
    paper=dict(p=23, width=512, steps=20_000),
    seeds=5,
    claims=[
        Reaches(
            "hit_rate",
            "ode",
            0.8,
            published="every neuron ends on the frequency that its initial magnitudes and phases favour (abstract)",
            differs="There: AdamW at lr 5e-5 on 512 neurons for most figures. Here: SGD, 128 neurons.",
        ),
        Beats(
            "hit_rate",
            "ode",
            ["alpha_beta_cos", "alpha", "misalignment"],
            by=0.1,
            kind="mechanism",
            note="The four-variable flow against each single score.",
        ),
        Beats("hit_rate", "misalignment", "chance", by=0.05, kind="mechanism"),
        Beats(
            "hit_rate",
            "misalignment",
            "alpha",
            by=0,
            kind="control",
            published="the smallest initial |D| wins (text of the authors' repository)",
            note="Is the smallest misalignment, by itself, a better prediction than the largest amplitude, by itself?",
        ),
    ],
)


@lottery.trial
def lottery_trial(t: Trial) -> None:
    """Predict at the start, train, compare with what each neuron's input row ends on."""
    s = t.settings
    model = ModularAdditionMLP(s.p, s.width, s.activation, init_scale=s.init_scale)
    predicted = {score: predict_winner(model, score) for score in SCORES}
    task = ModularTask(s.p)
    fine = not train(t, model, task.train, optimizer="sgd").diverged
    final = fourier_decode(model.w_in.detach().double())
    winner = dominant_frequency(final.alpha)
    for score, guess in predicted.items():
        t.row(score, hit_rate=(guess == winner).double().mean() if fine else None)
    t.row("chance", hit_rate=2 / (s.p - 1))
    t.row(acc=accuracy(model, task.train), power_ipr=inverse_participation(model.w_in.detach().double()).mean())


mechanism = Study(
    "mechanism",
    question="Do trained neurons hold one frequency each, aligned in and out, spread over all frequencies?",
    arms=("trained", "untrained"),
    variants={"rotated_basis": "trained", **dict.fromkeys(("square", "abs", "fourth", "identity", "cube"), "trained")},
    settings=dict(activation="relu", lr=1e-3, init_scale=0.1),
    smoke=dict(p=11, width=64, steps=300),
    laptop=dict(p=23, width=128, steps=3_000),
    paper=dict(p=23, width=512, steps=5_000, lr=5e-5),
    seeds=5,
    claims=[
        Reaches(
            "agreement",
            "trained",
            0.95,
            published="input and output weights share one frequency (section 3)",
            differs="There: lr 5e-5 and 512 neurons. Here: lr 1e-3 and 128.",
        ),
        Reaches(
            "median_misalignment",
            "trained",
            0.2,
            better="lower",
            published="phases align, psi = 2 phi (section 3)",
            differs="As above.",
        ),
        Reaches(
            "frequencies_used",
            "trained",
            1.0,
            published="every frequency is used by about equally many neurons (section 3)",
            differs="As above.",
        ),
        Reaches(
            "ghost_excess",
            "trained",
            0.0,
            kind="mechanism",
            note="Logits at 2x and 2y against the mean of the other wrong ones: the flawed indicator's ghosts.",
        ),
        Reaches(
            "acc",
            "square",
            0.95,
            kind="mechanism",
            note="Weights trained with ReLU, evaluated with x^2: the even part of the activation does the work.",
        ),
        Reaches("acc", "cube", 0.2, kind="mechanism", better="lower", note="The same with an odd function."),
        Beats("power_ipr", "trained", "untrained", by=0.2, kind="control", equal=()),
        Beats(
            "power_ipr",
            "trained",
            "rotated_basis",
            by=0.2,
            kind="control",
            equal=(),
            note="The same weights in a randomly rotated basis: is it the Fourier basis that they are simple in?",
        ),
    ],
)


@mechanism.trial
def mechanism_trial(t: Trial) -> None:
    """Train on all pairs, then read the weights."""
    s = t.settings
    model = ModularAdditionMLP(s.p, s.width, s.activation, init_scale=s.init_scale)
    task = ModularTask(s.p)
    fine = t.arm != "trained" or not train(t, model, task.train, optimizer="adamw").diverged
    w_in, w_out = model.w_in.detach().double(), model.w_out.detach().double()
    into, out = fourier_decode(w_in), fourier_decode(w_out.T)
    k = dominant_frequency(into.alpha)
    each = torch.arange(s.width)
    gap = phase_misalignment(into.phi[each, k], out.phi[each, k])
    power = (into.alpha[each, k] ** 2 / (into.alpha**2).sum(-1)).mean()
    t.row(
        acc=accuracy(model, task.train) if fine else None,
        agreement=(dominant_frequency(out.alpha) == k).double().mean(),
        median_misalignment=gap.abs().median(),
        power_share=power,
        frequencies_used=(frequency_histogram(k, s.p) > 0).double().mean(),
        power_ipr=inverse_participation(w_in).mean(),
        ghost_excess=ghost_excess(model),
    )
    if t.arm != "trained":
        return
    turned, _ = torch.linalg.qr(torch.randn(s.p - 1, s.p - 1, dtype=torch.float64))
    basis = fourier_basis(s.p)
    rotation = basis.T @ torch.block_diag(torch.ones(1, 1, dtype=torch.float64), turned) @ basis
    t.row("rotated_basis", power_ipr=inverse_participation(w_in @ rotation).mean())
    for name in ("square", "abs", "fourth", "identity", "cube"):
        t.row(name, acc=accuracy(model, task.train, name))
    if t.seed == 0:
        order = torch.argsort(k)
        t.picture(
            "Amplitude of every frequency in every neuron",
            "heatmap",
            values=into.alpha[order].T,
            x="neuron, sorted by its frequency",
            y="frequency",
            caption="input weights after training",
        )
        t.picture(
            "Input and output phases",
            "scatter",
            x=torch.remainder(2 * into.phi[each, k], 2 * torch.pi),
            y=torch.remainder(out.phi[each, k], 2 * torch.pi),
            x_label="2 phi",
            y_label="psi",
            caption="one point a neuron; aligned ones lie on the diagonal",
        )


@torch.no_grad()
def ghost_excess(model: ModularAdditionMLP) -> float:
    """Mean logit at 2x and 2y minus the mean of the other wrong logits, over x != y."""
    p = model.p
    x, y = torch.cartesian_prod(torch.arange(p), torch.arange(p)).unbind(-1)
    x, y = x[x != y], y[x != y]
    logits, rows = model(torch.stack([x, y], -1)), torch.arange(len(x))
    ghosts = (logits[rows, (2 * x) % p] + logits[rows, (2 * y) % p]) / 2
    rest = logits.sum(-1) - 2 * ghosts - logits[rows, (x + y) % p]
    return (ghosts - rest / (p - 3)).mean().item()


grokking = Study(
    "grokking",
    question="Does weight decay make the network generalise to pairs it has never seen, in either order?",
    arms=("wd2", "wd0", "wd0_float32"),
    settings=dict(activation="relu", lr=1e-3, init_scale=0.1, train_fraction=0.75, level=0.6),
    smoke=dict(p=11, width=32, steps=200),
    laptop=dict(p=23, width=128, steps=4_000),
    paper=dict(p=23, width=512, steps=50_000, lr=1e-4),
    seeds=5,
    equal=("parameters", "steps"),
    claims=[
        Reaches(
            "plateau_gap",
            "wd2",
            1.0,
            better="lower",
            published="test accuracy stays near .7 after memorisation: swapped pairs (text of the repository)",
            differs="There: 512 neurons, lr 1e-4. Here: 128 neurons, lr 1e-3.",
            note="Test pairs answered rightly when training pairs first are, minus those trained in swapped order.",
        ),
        Reaches(
            "delay",
            "wd2",
            2.0,
            published="memorisation ends at step 1744, generalisation at 9431 (stored results, p = 23)",
            differs="As above.",
            note="Steps to the level on unseen pairs over steps to .99 on training pairs; the run's end if never.",
        ),
        Beats(
            "unseen_acc",
            "wd2",
            "wd0",
            by=0,
            kind="control",
            note="Is weight decay needed? In float64, so that rounding noise at tiny losses does not train the net.",
        ),
        Beats(
            "steps_to_level",
            "wd2",
            "wd0",
            by=1,
            better="lower",
            kind="control",
            note="A run that never gets there counts as its whole length.",
        ),
        Beats(
            "unseen_acc",
            "wd0_float32",
            "wd0",
            by=0,
            kind="mechanism",
            note="Does rounding noise in float32 pass for generalisation?",
        ),
    ],
)


@grokking.trial
def grokking_trial(t: Trial) -> None:
    """Train on three quarters of the ordered pairs; score test pairs whose swap was trained apart from unseen ones."""
    s = t.settings
    task = ModularTask(s.p, train_fraction=s.train_fraction, seed=t.seed)
    model = ModularAdditionMLP(s.p, s.width, s.activation, init_scale=s.init_scale)
    model = model if t.arm == "wd0_float32" else model.double()
    swap, unseen = (Pairs(*(part[mask] for part in task.test)) for mask in (task.swap_seen, ~task.swap_seen))

    def scores() -> dict[str, float]:
        parts = {"train_acc": task.train, "test_acc": task.test, "swap_acc": swap, "unseen_acc": unseen}
        found = {name: accuracy(model, part) for name, part in parts.items()}
        found["norm"] = float(sum(w.detach().square().sum() for w in model.parameters()) ** 0.5)
        return found

    every = max(1, s.steps // 200)
    fitted = train(
        t,
        model,
        task.train,
        optimizer="adamw",
        weight_decay=2.0 if t.arm == "wd2" else 0.0,
        validate=scores,
        validate_every=every,
    )

    def first(name: str, level: float) -> dict[str, float]:
        return next((entry for entry in fitted.history if entry[name] >= level), {**final, "step": s.steps})

    final = scores()
    memorised, reached = first("train_acc", 0.999), first("unseen_acc", s.level)["step"]
    plateau = round(memorised["test_acc"] * len(task.test.labels))
    fine = not fitted.diverged
    t.row(
        unseen_acc=final["unseen_acc"] if fine else None,
        test_acc=final["test_acc"],
        train_acc=final["train_acc"],
        norm=final["norm"],
        plateau_gap=float(abs(plateau - int(task.swap_seen.sum()))),
        steps_to_level=float(reached),
        delay=reached / max(1, first("train_acc", 0.99)["step"]),
    )
    if t.seed == 0:
        steps = [entry["step"] for entry in fitted.history]
        series = {
            name: [entry[key] for entry in fitted.history]
            for name, key in (
                ("training pairs", "train_acc"),
                ("swap was trained", "swap_acc"),
                ("truly unseen", "unseen_acc"),
            )
        }
        t.picture(
            f"Accuracy while training, {t.arm}", "lines", x=steps, series=series, x_label="step", caption="split 0"
        )
