"""DeepONet against a fully connected net on the antiderivative operator (arXiv 1910.03193, section 4.1.1).

Laptop: about 5 CPU-minutes. `paperworks run deeponet`
"""

import numpy as np
import torch
from torch import nn

from paperworks.lab import Beats, Scales, Study, Trial
from paperworks.operators.ode_data import gaussian_field, ode_triples
from paperworks.training import Batches, fit

from .model import FNN, DeepONet

SETTING = (
    "There: 50,000 full-batch iterations on 10,000 triples, the best of a grid of baselines, the 0.1 % largest errors "
    "left out. Here: the laptop's steps in minibatches, equal parameters, the plain mean over all test triples."
)

study = Study(
    "antiderivative",
    question="Does a branch-trunk product learn an operator better than one net on the concatenated input?",
    arms=("deeponet", "fnn", "fnn_wide", "stacked", "no_bias"),
    settings=dict(n_sensors=100, width=40, length_scale=0.2, lr=1e-3, n_test=10_000),
    smoke=dict(n_train=2_000, batch_size=250, steps=60, n_test=2_000),
    laptop=dict(n_train=10_000, batch_size=1_000, steps=2_000),
    paper=dict(n_train=10_000, batch_size=10_000, steps=50_000, n_test=100_000),
    per_arm={"fnn": dict(hidden=[49, 49]), "fnn_wide": dict(hidden=[256, 256])},
    seeds=5,
    grid=dict(lr=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2]),
    select=("val_mse", "lower"),
    tuning=dict(steps=1_000),
    equal_time={"fnn_equal_time": ("fnn", "deeponet")},
    equal=("parameters", "steps"),
    claims=[
        Beats(
            "test_mse",
            "deeponet",
            "fnn",
            by=3,
            cell="l=0.2",
            published="9.3e-7 test MSE (README of lululxvi/deeponet)",
            differs=SETTING,
        ),
        Beats(
            "gap_mse",
            "deeponet",
            "fnn",
            by=5,
            cell="l=0.2",
            published="a much smaller generalisation gap, in words (section 4.1.1)",
            differs=SETTING,
        ),
        Beats("test_mse", "deeponet", "fnn_equal_time", by=3, cell="l=0.2", equal=("parameters", "seconds")),
        Beats(
            "test_mse",
            "deeponet",
            "fnn_wide",
            by=1,
            cell="l=0.2",
            kind="control",
            equal=("steps",),
            note="The baseline has twelve times the parameters.",
        ),
        Beats(
            "test_mse",
            "deeponet",
            "fnn",
            by=1,
            cell="l=0.1",
            kind="control",
            note="Test functions half as smooth as those trained on: the advantage should survive a shift.",
        ),
        Beats("gap_mse", "deeponet", "stacked", by=1, cell="l=0.2", kind="mechanism", equal=("steps",)),
        Beats(
            "test_mse",
            "deeponet",
            "stacked",
            by=1,
            cell="l=0.2",
            kind="mechanism",
            equal=("steps",),
            published="unstacked has the smaller test error although its training error is larger (section 4.1.1)",
            differs=SETTING,
        ),
        Beats(
            "test_mse",
            "deeponet",
            "no_bias",
            by=1,
            cell="l=0.2",
            kind="mechanism",
            published="bias helps (section 4.1.1)",
            differs=SETTING,
        ),
    ],
)


def build(t: Trial) -> nn.Module:
    """The arm's network."""
    m, width = t.settings.n_sensors, t.settings.width
    if t.method.startswith("fnn"):
        return FNN(m, 1, t.settings.hidden)
    return DeepONet((m, width, width), (1, width, width), stacked=t.method == "stacked", bias=t.method != "no_bias")


def squared_error(net: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Mean squared error over triples."""
    u, y, target = batch
    return (net(u, y) - target).square().mean()


@study.trial
def trial(t: Trial) -> None:
    """Train on triples with one random location a function; score on new functions, smooth as before and rougher."""
    s = t.settings
    drawn = torch.Generator().manual_seed(10_000 + t.seed)

    def triples(n: int, length_scale: float) -> tuple[torch.Tensor, ...]:
        return ode_triples(n, n_sensors=s.n_sensors, length_scale=length_scale, generator=drawn)

    train, val = triples(s.n_train, s.length_scale), triples(s.n_test, s.length_scale)
    tests = {length: triples(s.n_test, length) for length in (s.length_scale, s.length_scale / 2)}
    torch.manual_seed(t.seed)
    net = build(t)
    batches = Batches(train, s.batch_size, t.seed)
    t.count(net, step=lambda: squared_error(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        squared_error,
        batches,
        steps=s.steps,
        lr=s.lr,
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_mse": squared_error(net, val).item()},
        validate_every=max(1, s.steps // 20),
    )
    net.eval()
    with torch.no_grad():
        train_mse = squared_error(net, train).item()
        for length, test in tests.items():
            test_mse = None if fitted.diverged else squared_error(net, test).item()
            gap = None if test_mse is None else max(test_mse - train_mse, 1e-12)
            t.row(cell=f"l={length:g}", test_mse=test_mse, gap_mse=gap, train_mse=train_mse)
        t.row(val_mse=None if fitted.diverged else squared_error(net, val).item())
    if t.arm in ("deeponet", "fnn") and t.seed == 0:
        example(t, net)


def example(t: Trial, net: nn.Module) -> None:
    """One unseen input, its exact antiderivative and the net's."""
    x = torch.linspace(0, 1, 101)[:, None]
    u = torch.sin(2 * torch.pi * torch.linspace(0, 1, t.settings.n_sensors))
    truth = (1 - torch.cos(2 * torch.pi * x[:, 0])) / (2 * torch.pi)
    with torch.no_grad():
        guess = net(u.expand(len(x), -1), x)[:, 0]
    t.picture(
        f"The antiderivative of sin(2 pi x), by {t.arm}",
        "lines",
        x=x[:, 0],
        caption="y against G(u)(y)",
        series={"exact": truth, t.arm: guess},
    )


sensors = Study(
    "sensors",
    question="How fast does the error of seeing u only at m sensors fall?",
    arms=("interpolation",),
    settings=dict(length_scale=0.2),
    smoke=dict(n_functions=20),
    laptop=dict(n_functions=1_000),
    paper=dict(n_functions=10_000),
    sweep=dict(m=[11, 21, 41, 81]),
    seeds=5,
    claims=[
        Scales(
            "error",
            against="m",
            exponent=-2,
            variant="interpolation",
            tolerance=0.2,
            kind="mechanism",
            published="the error of the sensors' interpolant falls like m^-2 (theorem of section 2)",
            differs="There: a bound. Here: the largest error of the piecewise linear interpolant, mean over functions.",
        )
    ],
)


@sensors.trial
def sensor_trial(t: Trial) -> None:
    """Interpolate random functions linearly between m sensors."""
    space = gaussian_field(t.settings.length_scale)
    features = space.random(t.settings.n_functions, torch.Generator().manual_seed(t.seed))
    u = features @ space.basis
    x = np.linspace(0, 1, t.settings.m)
    at = space.evaluate(features, x)
    place = np.clip(np.searchsorted(x, space.x, side="right") - 1, 0, len(x) - 2)
    share = (space.x - x[place]) / (x[1] - x[0])
    guess = at[:, place] * (1 - share) + at[:, place + 1] * share
    t.row(error=float(np.abs(guess - u).max(1).mean()))
