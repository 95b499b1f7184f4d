"""Lagrangian against Eulerian PINNs under fast transport (arXiv 2205.02902): convection, then Burgers.

Laptop: about 6 CPU-minutes. `paperworks run lpinn`
Reached before, with 800 to 2,500 steps: convection at c = 30 relative L2 error 0.02 against 0.93 for the plain PINN.
"""

import math

import torch
from torch import Tensor

from paperworks.lab import Beats, Reaches, Study, Trial
from paperworks.operators.pinn import EulerianPINN

from .model import LagrangianPINN, lpinn_released
from .reference import burgers_solution, convection_solution, label_form_solution
from .training import fit_pinn

PUBLISHED = "the Lagrangian net trains at speeds up to 50 and more where the Eulerian one fails (abstract; no table)"
DIFFERS = (
    "There: 10^6 Adam steps at 0.01 on a fixed grid of 25,600 points, then L-BFGS, losses as 2-norms. Here: fewer "
    "steps on points drawn anew each step, mean squares, X = xi + t D(xi, t); u0 = sin(x + phase), the phase by seed."
)
COMMON = dict(
    width=50, n_points=256, n_initial=64, initial_weight=100.0, lr=5e-3, lbfgs_steps=0, grid_x=256, n_labels=1024
)
SMOKE = dict(steps=25, n_points=64, n_initial=32, grid_x=64, n_labels=256)
PAPER = dict(steps=1_000_000, n_points=25_600, n_initial=256, lbfgs_steps=100)
LEARNING_RATES = [1e-3, 3e-3, 1e-2, 3e-2]
TRIVIAL = "At a constant speed the Lagrangian problem is trivial: X = xi + c t, w = w0(xi). Burgers is the real test."

convection = Study(
    "convection",
    question="Does following the characteristics keep a PINN trainable under fast convection, w_t + 30 w_x = 0?",
    arms=("lpinn", "pinn", "pinn_as_large", "pinn_moving", "lpinn_released"),
    settings=dict(COMMON, speed=30.0),
    smoke=SMOKE,
    laptop=dict(steps=800),
    paper=PAPER,
    per_arm={"pinn_as_large": dict(width=59)},
    seeds=3,
    grid=dict(lr=LEARNING_RATES),
    select=("error", "lower"),
    tuning=dict(steps=400),
    equal_time={"pinn_equal_time": ("pinn", "lpinn")},
    equal=("steps",),
    claims=[
        Beats("error", "lpinn", "pinn", by=10, published=PUBLISHED, differs=DIFFERS, note=TRIVIAL),
        Reaches("error", "lpinn", 0.05, better="lower"),
        Beats("error", "lpinn", "pinn_equal_time", by=10, equal=("seconds",)),
        Reaches("error", "pinn", 0.5, kind="mechanism", note="It fails, and not by a little: 1 is as bad as zero."),
        Beats("error", "lpinn", "pinn_as_large", by=10, kind="control", equal=("parameters", "steps"),
              note="The plain network with as many parameters as both of the Lagrangian's."),
        Beats("error", "lpinn", "pinn_moving", by=1, kind="control",
              note="The plain network told the speed: it sees x - c t. Is there more to gain than the moving frame?"),
        Beats("error", "lpinn", "lpinn_released", by=1, kind="mechanism",
              note="The networks as released: layers shared, and X a periodic output that cannot be xi at t = 0."),
    ],
)  # fmt: skip

slow = Study(
    "slow_convection",
    question="Is the baseline a working PINN where transport is slow, w_t + w_x = 0?",
    arms=("lpinn", "pinn"),
    settings=dict(COMMON, speed=1.0),
    smoke=SMOKE,
    laptop=dict(steps=1_500),
    paper=PAPER,
    seeds=3,
    grid=dict(lr=LEARNING_RATES),
    select=("error", "lower"),
    tuning=dict(steps=500),
    equal=("steps",),
    claims=[
        Reaches("error", "pinn", 0.05, better="lower", kind="control"),
        Reaches("error", "lpinn", 0.05, better="lower", kind="control"),
    ],
)

burgers = Study(
    "burgers",
    question="Does it hold where the speed is the solution itself, w_t + w w_x = nu w_xx around a fast mean?",
    arms=("lpinn", "lpinn_label", "pinn", "pinn_moving"),
    variants={"label_exact": "lpinn_label"},
    settings=dict(COMMON, mean=10.0, viscosity=0.05),
    smoke=SMOKE,
    laptop=dict(steps=2_000),
    paper=PAPER | dict(viscosity=0.01),
    seeds=5,
    grid=dict(lr=LEARNING_RATES),
    select=("error", "lower"),
    tuning=dict(steps=600),
    equal_time={"pinn_equal_time": ("pinn", "lpinn")},
    equal=("steps",),
    claims=[
        Beats("error", "lpinn", "pinn", by=5, published=PUBLISHED, differs=DIFFERS),
        Beats("error", "lpinn", "pinn_equal_time", by=5, equal=("seconds",)),
        Beats("error", "lpinn", "lpinn_label", by=1, kind="mechanism",
              note="Diffusion in x against diffusion along the labels, the authors' code's."),
        Beats("error", "lpinn", "label_exact", by=1, kind="mechanism", equal=(),
              note="Against the exact solution of the authors' form of the equation: what it can reach at best."),
        Beats("error", "lpinn", "pinn_moving", by=1, kind="control",
              note="The plain network in the frame of the mean speed: is following every characteristic worth more?"),
    ],
)  # fmt: skip


def build(t: Trial, **equation: float | str) -> LagrangianPINN | EulerianPINN:
    """The arm's network."""
    s = t.settings
    if t.method in ("lpinn", "lpinn_label"):
        diffusion = "label" if t.method == "lpinn_label" else "eulerian"
        return LagrangianPINN(width=s.width, diffusion=diffusion, **equation)  # type: ignore[arg-type]
    if t.method == "lpinn_released":
        return lpinn_released(**equation)
    frame = (s.mean if "mean" in s else s.speed) if t.method == "pinn_moving" else 0.0
    return EulerianPINN(width=s.width, frame_speed=frame, **equation)  # type: ignore[arg-type]


def phase_of(seed: int) -> float:
    """The initial wave's phase: every seed is a problem of its own, so that tuning never sees those measured."""
    return float(2 * math.pi * torch.rand((), generator=torch.Generator().manual_seed(77_000 + seed)))


def solve(t: Trial, net: LagrangianPINN | EulerianPINN, mean: float, phase: float, truth: Tensor, x: Tensor) -> None:
    """Train on the equation and the initial condition, score against the solution on the grid."""
    s = t.settings

    def initial(x: Tensor) -> Tensor:
        return mean + torch.sin(x + phase)

    x0 = x[: s.n_initial]
    points = torch.rand(s.n_points, 2)
    t.count(net, step=lambda: net.loss(points, x0, initial(x0)), unit="step")
    fitted = fit_pinn(
        net,
        initial,
        steps=s.steps,
        lr=s.lr,
        n_points=s.n_points,
        n_initial=s.n_initial,
        lbfgs_steps=s.lbfgs_steps,
        initial_weight=s.initial_weight,
        seed=t.seed,
        log=t.log,
        checkpoint=t.checkpoint,
    )
    times = torch.linspace(0, net.t_max, len(truth))
    asked = {"n_labels": s.n_labels} if isinstance(net, LagrangianPINN) else {}
    found = net.predict(x, times, **asked)
    if fitted.diverged:
        t.row(error=None, end_error=None)
    else:
        error, scale = found - truth, truth - mean
        t.row(error=error.norm() / scale.norm(), end_error=error[-1].norm() / scale[-1].norm())
    if t.seed == 0 and t.arm in ("lpinn", "pinn", "lpinn_label"):
        show(t, x, times, truth, found)
    if t.seed == 0 and isinstance(net, LagrangianPINN):
        speed = mean or s.speed
        labels = torch.arange(6) * (net.period / 6)
        paths = net.characteristics(labels, times) - speed * times[:, None]
        t.picture(
            f"Characteristics of {t.arm}, seen from the mean speed",
            "lines",
            x=times,
            caption="t against X - c t, one line a label xi",
            series={f"xi = {xi:.2f}": path for xi, path in zip(labels.tolist(), paths.T, strict=True)},
        )


def show(t: Trial, x: Tensor, times: Tensor, truth: Tensor, found: Tensor) -> None:
    """The field and the last moment, beside the solution."""
    t.picture(
        f"{t.arm} at t = {float(times[-1]):g}",
        "lines",
        x=x,
        caption="x against w at the end",
        series={"solution": truth[-1], t.arm: found[-1]},
    )
    rows, columns = max(1, len(times) // 50), max(1, len(x) // 64)
    t.picture(
        f"Error of {t.arm}",
        "heatmap",
        caption="w minus the solution; x across the period, t downwards from 0",
        x_label=f"x, in steps of the period over {len(x) // columns}",
        y_label=f"t, in steps of {rows / (len(times) - 1):g}",
        values=(found - truth)[::rows, ::columns],
    )


@convection.trial
@slow.trial
def convection_trial(t: Trial) -> None:
    """w_t + c w_x = 0 from sin(x + phase)."""
    s, phase = t.settings, phase_of(t.seed)
    x = torch.arange(s.grid_x) * (2 * math.pi / s.grid_x)
    truth = convection_solution(x, torch.linspace(0, 1, 101), speed=s.speed, phase=phase)
    solve(t, build(t, equation="convection", speed=s.speed), 0.0, phase, truth, x)


@burgers.trial
def burgers_trial(t: Trial) -> None:
    """w_t + w w_x = nu w_xx from mean + sin(x + phase); networks learn w - mean."""
    s, phase = t.settings, phase_of(t.seed)
    x = torch.arange(s.grid_x) * (2 * math.pi / s.grid_x)
    truth = burgers_solution(s.grid_x, 101, mean=s.mean, viscosity=s.viscosity, phase=phase).float()
    net = build(t, equation="burgers", viscosity=s.viscosity, offset=s.mean)
    solve(t, net, s.mean, phase, truth, x)
    if t.method == "lpinn_label":
        times = torch.linspace(0, 1, 101)
        exact = label_form_solution(x, times, mean=s.mean, viscosity=s.viscosity, phase=phase)
        t.row(
            "label_exact",
            error=(exact - truth).norm() / (truth - s.mean).norm(),
            end_error=(exact - truth)[-1].norm() / (truth - s.mean)[-1].norm(),
        )
