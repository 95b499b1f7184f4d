"""MgNO against a Fourier neural operator and a U-Net on Darcy flow, trained in H1 and in L2 (arXiv 2310.19809).

Laptop: about 7 CPU-minutes. `paperworks run mgno`
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.operators.fno import FNO
from paperworks.operators.pde_data import simulate
from paperworks.operators.unet import UNet
from paperworks.training import Batches, fit
from paperworks.training.arrays import read_arrays

from .losses import difference_h1, relative_l2
from .model import MgNO

DARCY_16 = tuple(f"pde/darcy_{part}.npz" for part in ("train_16", "test_16", "test_32"))
TRAINED, FINER = "trained grid", "finer grid"
SETTING = (
    "There: grids of 211 and 256 points, 1,000 or more functions, 500 epochs, the H1 norm by Fourier transform. "
    "Here: 32 points, 320 functions, 8 epochs, the H1 norm by differences, since the solution is not periodic."
)

COMMON: dict[str, Any] = dict(
    settings=dict(data="simulated", hidden=16, layers=3, levels=4, modes=8, projection=64, padding=0.1875, lr=3e-3,
                  clip=1.0),
    smoke=dict(size=16, n_train=32, n_val=16, n_test=16, steps=5, batch_size=8, hidden=8, layers=2, levels=3, modes=4),
    laptop=dict(size=32, n_train=320, n_val=64, n_test=100, steps=320, batch_size=8),
    paper=dict(size=211, n_train=1000, n_val=100, n_test=100, steps=62_500, batch_size=8, hidden=24, layers=5, levels=6,
               modes=12, projection=128, padding=9 / 211),
    grid=dict(lr=[1.5e-3, 4e-3, 1e-2, 2.5e-2]),
    tuning=dict(steps=160),
    equal=("steps",),
    files={"darcy_16": DARCY_16},
)  # fmt: skip

h1 = Study(
    "h1",
    question="Trained in H1, does MgNO have smaller gradient errors than a spectral and a convolutional net?",
    arms=("mgno", "fno", "unet", "one_level", "neumann"),
    per_arm={"one_level": dict(hidden=17)},  # as many operations as mgno
    seeds=5,
    select=("val_h1_error", "lower"),
    equal_time={"fno_equal_time": ("fno", "mgno")},
    claims=[
        Beats("h1_error", "mgno", "fno", by=1 / 0.95, cell=TRAINED, differs=SETTING,
              published="a smaller error with fewer parameters, in words (abstract)"),
        Beats("h1_error", "mgno", "unet", by=1, cell=TRAINED, differs=SETTING, equal=("parameters", "steps"),
              published="more accurate than convolutional nets, in words (abstract)"),
        Beats("h1_error", "mgno", "fno_equal_time", by=1 / 0.95, cell=TRAINED, equal=("seconds",)),
        Beats("parameters", "mgno", "fno", by=2, cell=TRAINED, published="fewer parameters, in words (abstract)"),
        NotWorse("l2_error", "mgno", "fno", margin=0.25, cell=TRAINED, kind="control",
                 note="What is won in the gradient is not lost in the values."),
        Beats("h1_error", "mgno", "one_level", by=1.5, cell=TRAINED, kind="mechanism", equal=("operations", "steps"),
              note="The same iteration on the finest grid only: what the coarser levels are worth."),
        Beats("h1_error", "mgno", "neumann", by=1, cell=TRAINED, kind="mechanism", equal=("parameters", "steps"),
              note="The same net padded for another boundary condition than the problem's."),
        Beats("h1_error", "mgno", "fno", by=1, cell=FINER, kind="control",
                 note="The trained nets on a grid of half the spacing: kernels are pixels, modes are not."),
    ],
    **COMMON,
)  # fmt: skip

l2 = Study(
    "l2",
    question="Trained in L2, is anything left of it?",
    arms=("mgno", "fno", "unet"),
    seeds=3,
    select=("val_l2_error", "lower"),
    claims=[
        Beats("l2_error", "mgno", "fno", by=1, cell=TRAINED, kind="control",
              note="The advantage should not need the loss."),
        Beats("h1_error", "mgno", "fno", by=1, cell=TRAINED, kind="control"),
        Beats("l2_error", "mgno", "unet", by=1, cell=TRAINED, kind="control", equal=("parameters", "steps")),
    ],
    **COMMON,
)  # fmt: skip


def load(t: Trial) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], dict[str, tuple[Tensor, Tensor]]]:
    """Coefficients and pressures, (n, 1, size, size): to train, to validate, to test on two grids."""
    s = t.settings
    if s.data == "darcy_16":
        assert t.data_root is not None
        parts = [read_arrays(t.data_root / file) for file in DARCY_16]
        fields = [tuple(torch.from_numpy(part[name]).float()[:, None] for name in "xy") for part in parts]
        order = torch.randperm(len(fields[0][0]), generator=torch.Generator().manual_seed(t.seed))
        train, val = (tuple(field[rows] for field in fields[0]) for rows in (order[s.n_val :], order[: s.n_val]))
        return normalised(train, val, {TRAINED: fields[1], FINER: fields[2]})

    def drawn(n: int, seed: int, size: int) -> tuple[Tensor, Tensor]:
        data = simulate("darcy", n, seed=seed, size=size, n_modes=s.size)
        assert data.inputs is not None
        return data.inputs, data.fields[:, 0]

    a, u = drawn(s.n_train + s.n_val, 10_000 + t.seed, s.size)
    sizes = {TRAINED: s.size, FINER: 2 * s.size - 1}  # boundary nodes are part of the grid
    tests = {name: drawn(s.n_test, 20_000 + t.seed, size) for name, size in sizes.items()}
    return normalised((a[: s.n_train], u[: s.n_train]), (a[s.n_train :], u[s.n_train :]), tests)


def normalised(train: Any, val: Any, tests: Any) -> Any:
    """By the training set: coefficients to mean 0 and deviation 1, pressures to deviation 1 (their zero is a wall)."""
    mean, std, scale = train[0].mean(), train[0].std(), train[1].std()

    def scaled(part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return (part[0] - mean) / std, part[1] / scale

    return scaled(train), scaled(val), {name: scaled(part) for name, part in tests.items()}


def build(t: Trial) -> nn.Module:
    """The arm's network."""
    s = t.settings
    if t.method == "fno":
        return FNO(1, 1, s.hidden, (s.modes, s.modes), 4, s.projection, padding=s.padding)
    if t.method == "unet":
        return UNet(1, 1, s.hidden, depth=2)
    smoothing = ((2, 0),) if t.method == "one_level" else ((1, 0),) * (s.levels - 1) + ((2, 0),)
    return MgNO(1, 1, s.hidden, s.layers, smoothing, boundary="neumann" if t.method == "neumann" else "dirichlet")


def compare(t: Trial, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Train with one relative error as the loss, score in both, on the grid trained on and on a finer one."""
    s = t.settings
    train, val, tests = load(t)
    torch.manual_seed(t.seed)
    net = build(t)
    batches = Batches(train, s.batch_size, t.seed)

    def objective(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return loss(net(batch[0]), batch[1]).mean()

    def errors(part: tuple[Tensor, Tensor]) -> dict[str, Any]:
        guess = torch.cat([net(a) for a in part[0].split(32)])
        gradient = difference_h1(guess, part[1], value_weight=0)
        return {"h1_error": gradient.mean().item(), "l2_error": relative_l2(guess, part[1]).mean().item()}

    def validate() -> dict[str, float]:
        return {f"val_{name}": value for name, value in errors(val).items()}

    cost = t.count(net, step=lambda: objective(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        objective,
        batches,
        steps=s.steps,
        lr=s.lr,
        optimizer="adamw",
        weight_decay=1e-4,
        schedule="cosine",
        clip=s.clip,
        warmup=s.steps // 5,
        log=t.log,
        checkpoint=t.checkpoint,
        validate=validate,
        validate_every=max(1, s.steps // 8),
    )
    net.eval()
    failed: dict[str, Any] = {"h1_error": None, "l2_error": None}
    with torch.no_grad():
        for cell, test in tests.items():
            t.row(cell=cell, parameters=cost["parameters"], **(failed if fitted.diverged else errors(test)))
        for name, part in (("val", val), ("train", train)):
            found = failed if fitted.diverged else errors(part)
            named: dict[str, Any] = {f"{name}_{metric}": value for metric, value in found.items()}
            t.row(**named)
        if t.seed == 0 and not fitted.diverged:
            a, u = (field[:1] for field in tests[TRAINED])
            guess = net(a)
            maps = dict(coefficient=a, pressure=u, prediction=guess, error=(guess - u).abs())
            t.picture(
                f"An unseen coefficient, its pressure, and what {t.arm} makes of it",
                "images",
                images=[field[0, 0] for field in maps.values()],
                labels=list(maps),
                caption="each panel on its own grey scale",
            )


@h1.trial
def h1_trial(t: Trial) -> None:
    """The H1 norm by differences as the loss."""
    compare(t, difference_h1)


@l2.trial
def l2_trial(t: Trial) -> None:
    """The L2 norm as the loss."""
    compare(t, relative_l2)
