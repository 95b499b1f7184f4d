"""Attention as an integral: uneven grids against plain softmax, and finer grids in two dimensions (arXiv 2406.06486).

Laptop: about 5 CPU-minutes. `paperworks run continuum_attention`
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from paperworks.lab import Beats, NotWorse, Reaches, Study, Trial
from paperworks.operators.fno import FNO
from paperworks.operators.pde_data import simulate
from paperworks.operators.quadrature_attention import trapezoid_weights
from paperworks.training import Batches, fit

from .line_data import LINE_TASKS, half_dense_grid, random_grid, skewed_grid, uniform_grid, varied_grid
from .losses import relative_l2
from .patch_operators import FourierAttentionNeuralOperator, ViTNeuralOperator
from .transformer_operator import TransformerNeuralOperator

WORDS = "in words: errors stay nearly constant when a trained operator is asked on other grids (abstract)"

uneven = Study(
    "uneven_grids",
    question="Trained on one uniform grid, is a transformer as good on uneven ones if its attention knows the gaps?",
    arms=("quadrature", "plain", "plain_varied"),
    variants={"interpolated": "plain"},
    settings=dict(task="poisson", initial=False, lr=2e-3, warmup=0.1, n_grids=4),
    smoke=dict(n_points=32, d_model=16, heads=2, layers=1, ff=32, n_train=512, steps=40, batch_size=16, n_test=32),
    laptop=dict(n_points=64, d_model=32, heads=4, layers=3, ff=64, n_train=12_800, steps=800, batch_size=16,
                n_test=256),
    paper=dict(task="lorenz63", initial=True, n_points=200, d_model=128, heads=8, layers=6, ff=128, n_train=10_000,
               steps=15_700, batch_size=64, n_test=2_000),
    seeds=3,
    grid=dict(lr=[1e-3, 3e-3, 1e-2]),
    select=("val_l2", "lower"),
    tuning=dict(steps=150, n_test=128),
    equal=("parameters", "steps"),
    claims=[
        Beats("uneven_error_ratio", "quadrature", "plain", by=1, per="cell", published=WORDS,
              differs="There: time steps of other length. Here: gaps that differ within a grid, as no uniform grid "
                      "tells the two apart."),
        Reaches("error_ratio", "quadrature", 1.5, better="lower", per="cell", published=WORDS,
                differs="There: half to twice the step. Here: half to four times the points, evenly and unevenly."),
        NotWorse("error", "quadrature", "plain", margin=0.1, cell="training grid", kind="control",
                 note="On the grid of the training, weights neither help nor harm."),
        Beats("uneven_error", "quadrature", "interpolated", by=1, per="cell", kind="control",
              note="Plain softmax on the training grid, the input brought there and the output back by cubic splines: "
                   "what a user can do without any of this."),
        Beats("uneven_error", "quadrature", "plain_varied", by=1, per="cell", kind="control", equal=("steps",),
              note="Plain softmax trained on a new uneven grid at each step."),
    ],
)  # fmt: skip


def grids(n: int, n_grids: int, generator: torch.Generator) -> dict[str, tuple[bool, list[Tensor]]]:
    """Cell -> whether uneven, and its grids on [0, 1]."""
    return {
        "training grid": (False, [uniform_grid(n)]),
        "uniform, half the points": (False, [uniform_grid(n // 2)]),
        "uniform, twice": (False, [uniform_grid(2 * n)]),
        "uniform, four times": (False, [uniform_grid(4 * n)]),
        "skewed": (True, [skewed_grid(n)]),
        "skewed, twice": (True, [skewed_grid(2 * n)]),
        "half dense": (True, [half_dense_grid(n)]),
        "random": (True, [random_grid(n, generator) for _ in range(n_grids)]),
        "random, four times": (True, [random_grid(4 * n, generator) for _ in range(n_grids)]),
    }


class Sampler:
    """Functions of a task at points of [0, 1], each component with the mean and deviation of the training functions."""

    def __init__(self, t: Trial):
        self.task, self.initial = LINE_TASKS[t.settings.task], t.settings.initial
        drawn = torch.Generator().manual_seed(10_000 + t.seed)
        self.train = self.task.draw(t.settings.n_train, drawn)
        self.val, self.test = (self.task.draw(t.settings.n_test, drawn) for _ in range(2))
        pairs = self.task.evaluate(self.train[:1_000], self.task.length * uniform_grid(t.settings.n_points))
        self.means, self.deviations = zip(*((p.mean((0, 1)), p.std((0, 1))) for p in pairs), strict=True)

    def __call__(self, functions: Tensor, grid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u, v, points (points, 1)."""
        points = self.task.length * grid
        pairs = self.task.evaluate(functions, points)
        u, v = ((p - m) / d for p, m, d in zip(pairs, self.means, self.deviations, strict=True))
        return u, v, points[:, None].float()

    def answer(self, net: nn.Module, u: Tensor, v: Tensor, points: Tensor) -> Tensor:
        """The net's v, from u and, if the task gives it, the first value of v."""
        return net(u, points, None, v[:, 0] if self.initial else None)

    def loss(self, net: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Relative L2, the integral by the trapezoidal rule."""
        u, v, points = batch
        return relative_l2(self.answer(net, u, v, points), v, trapezoid_weights(points[:, 0])).mean()

    def interpolated(self, net: nn.Module, batch: tuple[Tensor, Tensor, Tensor], n: int) -> Tensor:
        """The error of bringing u to the training grid and the answer back by cubic splines."""
        u, v, points = batch
        there, here = (self.task.length * uniform_grid(n)).numpy(), points[:, 0].numpy()
        brought = torch.from_numpy(CubicSpline(here, u.numpy(), axis=1)(there).astype(np.float32))
        answer = self.answer(net, brought, v, torch.from_numpy(there)[:, None].float())
        back = torch.from_numpy(CubicSpline(there, answer.numpy(), axis=1)(here).astype(np.float32))
        return relative_l2(back, v, trapezoid_weights(points[:, 0])).mean()


def one_cycle(steps: int, warmup: float) -> Callable[[int], float]:
    """Up and down again by cosines, from 1/25 of the rate and to nearly nothing."""
    top = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < top:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / top))
        return 0.5 * (1 + math.cos(math.pi * (step - top) / max(1, steps - top)))

    return factor


@uneven.trial
def uneven_trial(t: Trial) -> None:
    """Train on one uniform grid (plain_varied: on a new uneven one at each step); score on grids of nine kinds."""
    s, sampler = t.settings, Sampler(t)
    u, v, _ = sampler(sampler.train[:2], uniform_grid(4))
    torch.manual_seed(t.seed)
    net = TransformerNeuralOperator(
        u.shape[-1], v.shape[-1], 1, s.d_model, s.heads, s.layers, s.ff, initial_condition=s.initial,
        quadrature="trapezoid" if t.method == "quadrature" else "none",
    )  # fmt: skip

    def batches(step: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = (step * s.batch_size + torch.arange(s.batch_size)) % s.n_train
        if t.method != "plain_varied":
            return sampler(sampler.train[rows], uniform_grid(s.n_points))
        return sampler(sampler.train[rows], varied_grid(s.n_points, torch.Generator().manual_seed(step)))

    val = sampler(sampler.val, uniform_grid(s.n_points))
    t.count(net, step=lambda: sampler.loss(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        sampler.loss,
        batches,
        steps=s.steps,
        lr=s.lr,
        schedule=one_cycle(s.steps, s.warmup),
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_l2": sampler.loss(net, val).item()},
        validate_every=max(1, s.steps // 10),
    )
    net.eval()
    cells = grids(s.n_points, s.n_grids, torch.Generator().manual_seed(20_000 + t.seed))
    errors: dict[str, tuple[bool, float, float]] = {}
    with torch.no_grad():
        for cell, (is_uneven, places) in cells.items():
            parts = [
                sampler(functions, grid)
                for functions, grid in zip(sampler.test.chunk(len(places)), places, strict=True)
            ]
            error = sum(sampler.loss(net, part).item() for part in parts) / len(parts)
            bridged = sum(sampler.interpolated(net, part, s.n_points).item() for part in parts) / len(parts)
            errors[cell] = is_uneven, error, bridged
    base = errors["training grid"][1]
    for cell, (is_uneven, error, bridged) in errors.items():
        for variant, value in ((t.arm, error), ("interpolated", bridged)):
            if variant == "interpolated" and t.method != "plain":
                continue
            found = {"error": value}
            if cell != "training grid":
                found["error_ratio"] = value / base
            if is_uneven:
                found |= {"uneven_error": value, "uneven_error_ratio": value / base}
            t.row(variant, cell, **{name: None if fitted.diverged else x for name, x in found.items()})
    t.row(val_l2=None if fitted.diverged else sampler.loss(net, val).item())
    if t.seed == 0:
        show_line(t, net, sampler, cells["half dense"][1][0])


def show_line(t: Trial, net: nn.Module, sampler: Sampler, grid: Tensor) -> None:
    """One unseen function on the half dense grid, and where its error is."""
    u, v, points = sampler(sampler.test[:1], grid)
    with torch.no_grad():
        guess = sampler.answer(net, u, v, points)
    t.picture(
        f"Half dense grid: {t.arm}",
        "lines",
        x=points[:, 0],
        caption="an unseen function; three quarters of the points lie in the left half",
        series={"exact": v[0, :, 0], t.arm: guess[0, :, 0]},
    )


finer = Study(
    "finer_grids",
    question="Do operators with functions on patches as tokens keep their error on grids they were not trained on?",
    arms=("fano", "vitno", "fno"),
    variants={"fano_interpolated": "fano", "vitno_interpolated": "vitno", "fno_interpolated": "fno"},
    settings=dict(kind="lognormal", n_modes=8, size=32, lr=2e-3, patches=4, modes=2),
    smoke=dict(n_train=16, n_test=4, steps=4, batch_size=4),
    laptop=dict(n_train=256, n_test=64, steps=200, batch_size=8),
    paper=dict(kind="piecewise", n_modes=416, n_train=3_600, n_test=200, size=416, steps=144_000, batch_size=2,
               patches=13, modes=9),
    per_arm={
        "fano": dict(d_model=16, heads=4, layers=3, ff=64),
        "vitno": dict(d_model=32, heads=4, layers=3, ff=152, smoothing=8),
        "fno": dict(width=15, n_modes_fno=4, layers=3, projection=32, padding=0.125),
    },
    seeds=3,
    grid=dict(lr=[1e-3, 3e-3, 1e-2]),
    select=("val_l2", "lower"),
    tuning=dict(steps=50, n_test=32),
    equal_time={"fno_equal_time": ("fno", "fano")},
    equal=("parameters", "steps"),
    claims=[
        Reaches("error_ratio", "fano", 1.2, better="lower", cell="twice", published=WORDS,
                differs="There: 416 x 416 pixels and Kolmogorov flow too. Here: 32 x 32, log-normal Darcy flow."),
        Reaches("error_ratio", "vitno", 1.2, better="lower", cell="twice", published=WORDS),
        NotWorse("error", "fano", "fno", margin=0.1, cell="training grid",
                 published="in words: competitive with FNO at fewer parameters (abstract)",
                 differs="There: fewer parameters. Here: equally many, and equally many steps."),
        NotWorse("error", "vitno", "fno", margin=0.1, cell="training grid",
                 published="in words: competitive with FNO at fewer parameters (abstract)"),
        NotWorse("error", "fano", "fno_equal_time", margin=0.1, cell="training grid", equal=("parameters", "seconds"),
                 note="FNO trained as long as the Fourier attention operator takes."),
        NotWorse("error_ratio", "fano", "fno", margin=0.05, cell="twice", kind="control",
                 note="FNO is asked on the same grids."),
        NotWorse("error", "fano", "fano_interpolated", margin=0.05, cell="twice", kind="control",
                 note="The same net on the training grid, input and output interpolated."),
    ],
)  # fmt: skip


def build_field_operator(t: Trial) -> nn.Module:
    """The arm's network."""
    s = t.settings
    if t.method == "fno":
        return FNO(1, 1, s.width, (s.n_modes_fno,) * 2, s.layers, s.projection, padding=s.padding)
    sizes = dict(d_model=s.d_model, heads=s.heads, layers=s.layers, ff=s.ff)
    if t.method == "fano":
        return FourierAttentionNeuralOperator(1, 1, s.patches, (s.modes,) * 2, **sizes)
    return ViTNeuralOperator(1, 1, s.patches, (s.modes,) * 2, s.smoothing, **sizes)


def resized(field: Tensor, size: int) -> Tensor:
    """Cubic interpolation between grids that both hold the edges."""
    return F.interpolate(field, (size, size), mode="bicubic", align_corners=True)


def field_error(guess: Tensor, truth: Tensor) -> Tensor:
    """Relative L2, mean over samples."""
    return relative_l2(guess.flatten(2).mT, truth.flatten(2).mT).mean()


@finer.trial
def finer_trial(t: Trial) -> None:
    """Train on one grid; score the same coefficients on half, the same and twice the points."""
    s = t.settings

    def pairs(n: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
        data = simulate("darcy", n, seed=seed, size=size, kind=s.kind, n_modes=s.n_modes)
        assert data.inputs is not None
        return data.inputs, data.fields[:, 0]

    a, v = pairs(s.n_train, 3 * t.seed, s.size)
    val = pairs(s.n_test, 3 * t.seed + 1, s.size)
    tests = {
        cell: pairs(s.n_test, 3 * t.seed + 2, size)
        for cell, size in (("half", s.size // 2), ("training grid", s.size), ("twice", 2 * s.size))
    }
    torch.manual_seed(t.seed)
    net = build_field_operator(t)

    def answer(net: nn.Module, given: Tensor) -> Tensor:
        return v.mean() + v.std() * net((given - a.mean()) / a.std())

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return field_error(answer(net, batch[0]), batch[1])

    batches = Batches((a, v), s.batch_size, t.seed)
    t.count(net, step=lambda: loss(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        loss,
        batches,
        steps=s.steps,
        lr=s.lr,
        schedule=one_cycle(s.steps, 0.1),
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_l2": loss(net, val).item()},
        validate_every=max(1, s.steps // 5),
    )
    net.eval()
    with torch.no_grad():
        answers = {cell: answer(net, test[0]) for cell, test in tests.items()}
        bridged = {c: resized(answer(net, resized(x, s.size)), x.shape[-1]) for c, (x, _) in tests.items()}
    base = field_error(answers["training grid"], tests["training grid"][1])
    for variant, found in ((t.arm, answers), (f"{t.arm}_interpolated", bridged)):
        if variant not in (*finer.all_arms, *finer.variants):
            continue
        for cell, guess in found.items():
            error = field_error(guess, tests[cell][1])
            metrics = {"error": error} | ({} if cell == "training grid" else {"error_ratio": error / base})
            t.row(variant, cell, **{name: None if fitted.diverged else x for name, x in metrics.items()})
    with torch.no_grad():
        t.row(val_l2=None if fitted.diverged else loss(net, val))
    if t.seed == 0:
        show_field(t, *(tensor[0, 0] for tensor in (*tests["twice"], answers["twice"])))


def show_field(t: Trial, given: Tensor, truth: Tensor, guess: Tensor) -> None:
    """The error map of one unseen sample on a grid twice as fine as that of the training."""
    panels = (given, truth, guess, 5 * (guess - truth).abs())
    t.picture(
        f"Twice as fine as trained on: {t.arm}",
        "images",
        caption="an unseen coefficient; pressures on one scale",
        labels=["coefficient", "pressure", "prediction", "5 times the error"],
        images=[x / truth.abs().max() if i else x / x.max() for i, x in enumerate(panels)],
    )
