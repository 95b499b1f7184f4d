"""SineNet against one U-Net of as many parameters on decaying turbulence, and on pure advection (arXiv 2403.19507).

Laptop: about 6 CPU-minutes. `paperworks run sinenet`
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.lab import Beats, Study, Trial
from paperworks.operators.pde_data import simulate
from paperworks.operators.random_fields import turbulent_vorticity
from paperworks.operators.unet_mod import UNetMod
from paperworks.training import Batches, Fitted, fit

from .model import SineNet
from .training import rollout, scaled_l2, windows

SETTING = (
    "There: 35.5 million parameters, 128 x 128 fields of three data sets, 50 epochs on GPUs. Here: 0.55 million, "
    "32 x 32 vorticity of decaying turbulence, the laptop's steps."
)
# Growths that bring every arm to about 0.55 million parameters at 8 hidden channels (`match_growth`).
ARMS = {
    "one_wave": dict(waves=1, growth=2.0155),
    "two_waves": dict(waves=2, growth=1.8054),
    "four_waves": dict(waves=4, growth=1.6193),
    "deeper_unet": dict(waves=1, growth=1.6509, blocks=4),
    "unet_mod": dict(),
}

study = Study(
    "turbulence",
    question="Do several small U-Nets in sequence predict a flow better than one with as many parameters?",
    arms=tuple(ARMS),
    variants={"persistence": "one_wave"},
    settings=dict(
        blocks=1, levels=4, step=2, frames=9, viscosity=5e-3, scale=3.0, weight_decay=1e-5, lr=1e-3, warmup=0.25
    ),
    smoke=dict(
        size=16,
        simulated_size=16,
        levels=2,
        hidden=4,
        unet_hidden=2,
        n_train=2,
        n_val=1,
        n_test=1,
        frames=4,
        batch_size=2,
        steps=4,
    ),
    laptop=dict(
        size=32, simulated_size=64, hidden=8, unet_hidden=4, n_train=160, n_val=16, n_test=32, batch_size=8, steps=250
    ),
    paper=dict(
        size=128,
        simulated_size=256,
        hidden=64,
        unet_hidden=32,
        n_train=5_200,
        n_val=1_300,
        n_test=1_300,
        batch_size=32,
        steps=100_000,
    ),
    per_arm=ARMS,
    seeds=3,
    grid=dict(lr=[1e-3, 2e-3, 4e-3]),
    select=("val_l2", "lower"),
    tuning=dict(steps=80),
    equal_time={"one_wave_equal_time": ("one_wave", "four_waves")},
    equal=("parameters", "steps"),
    claims=[
        Beats(
            "one_step_l2",
            "four_waves",
            "one_wave",
            by=1,
            published="at 35.5 million parameters the error falls with the number of waves (abstract)",
            differs=SETTING,
        ),
        Beats(
            "rollout_l2",
            "four_waves",
            "one_wave",
            by=1,
            published="at 35.5 million parameters the error falls with the number of waves (abstract)",
            differs=SETTING,
        ),
        Beats(
            "one_step_l2",
            "four_waves",
            "unet_mod",
            by=1,
            published="SineNet beats U-Net-Mod (in words)",
            differs=SETTING,
        ),
        Beats(
            "one_step_l2",
            "four_waves",
            "two_waves",
            by=1,
            kind="mechanism",
            published="the error falls monotonically with the number of waves (abstract)",
            differs=SETTING,
        ),
        Beats(
            "one_step_l2", "four_waves", "one_wave_equal_time", by=1, kind="control", equal=("parameters", "seconds")
        ),
        Beats(
            "one_step_l2",
            "four_waves",
            "deeper_unet",
            by=1,
            kind="control",
            note="One U-Net with as many convolutions in sequence: depth without waves.",
        ),
    ],
)


def build(t: Trial) -> nn.Module:
    """The arm's network, one vorticity frame to the next."""
    s = t.settings
    if t.method == "unet_mod":
        return UNetMod(1, 1, s.unet_hidden, groups=math.gcd(8, s.unet_hidden))
    return SineNet(1, 1, s.hidden, s.waves, s.growth, s.levels, blocks=s.blocks)


def loss(net: Callable[[Tensor], Tensor], batch: tuple[Tensor, ...]) -> Tensor:
    """The paper's: relative L2 error of every sample and channel, averaged."""
    x, y = batch
    return scaled_l2(net(x), y).mean()


def trained(t: Trial, net: nn.Module, train: tuple[Tensor, Tensor], checkpoint: Any = None) -> Fitted:
    """Costs counted, and fitted with AdamW, warm-up and cosine, as in the authors' configurations."""
    s = t.settings
    batches = Batches(train, s.batch_size, t.seed)
    if not t.measured:  # once a trial
        t.count(net, step=lambda: loss(net, batches(0)), unit="batch")
    return fit(
        net.to(t.device),
        loss,
        lambda step: tuple(part.to(t.device) for part in batches(step)),
        steps=s.steps,
        lr=s.lr,
        optimizer="adamw",
        weight_decay=s.weight_decay,
        schedule="cosine",
        warmup=round(s.warmup * s.steps),
        log=t.log,
        checkpoint=checkpoint,
    )


@torch.no_grad()
def one_step(net: nn.Module, pairs: tuple[Tensor, Tensor], t: Trial) -> float:
    """Relative L2 error over all pairs."""
    parts = zip(*(part.split(64) for part in pairs), strict=True)
    return float(torch.cat([scaled_l2(net(x.to(t.device)), y.to(t.device)) for x, y in parts]).mean())


@lru_cache(maxsize=4)  # arms of one seed learn from the same flows
def turbulence(n: int, seed: int, size: int, simulated_size: int, viscosity: float, frames: int) -> Tensor:
    """Vorticity (n, frames, 1, size, size), a frame every half time unit."""
    made = simulate(
        "decaying_turbulence", n, seed=seed, size=size, simulated_size=simulated_size, nu=viscosity, frames=frames
    )
    return made.fields


@study.trial
def trial(t: Trial) -> None:
    """Train to predict the vorticity one time unit ahead; score one step and a rollout on new flows."""
    s = t.settings
    train, val, test = (
        turbulence(n, 3 * t.seed + part, s.size, s.simulated_size, s.viscosity, s.frames) / s.scale
        for part, n in enumerate((s.n_train, s.n_val, s.n_test))
    )
    torch.manual_seed(t.seed)
    net = build(t)
    known, unseen = windows(val, step=s.step), windows(test, step=s.step)
    fitted = trained(t, net, windows(train, step=s.step), t.checkpoint)
    net.eval()
    truth = test[:, s.step :: s.step]
    with torch.no_grad():
        rolled = torch.cat([rollout(net, part.to(t.device), truth.shape[1]).cpu() for part in test[:, :1].split(64)])
        errors = scaled_l2(rolled, truth).mean((0, 2))
    gone = fitted.diverged
    t.row(
        one_step_l2=None if gone else one_step(net, unseen, t),
        rollout_l2=None if gone else errors.mean(),
        last_l2=None if gone else errors[-1],
        val_l2=None if gone else one_step(net, known, t),
    )
    if t.arm == "one_wave":  # what predicting no change at all scores
        t.row(
            "persistence",
            one_step_l2=scaled_l2(*unseen).mean(),
            rollout_l2=scaled_l2(test[:, :1].expand_as(truth), truth).mean(),
        )
    if t.arm in ("one_wave", "four_waves") and t.seed == 0:
        times = [s.step * 0.5 * (i + 1) for i in range(len(errors))]
        t.picture(
            f"Rollout error of {t.arm}",
            "lines",
            x=times,
            caption="time against relative L2 error on new flows",
            series={t.arm: errors},
        )
        for title, field in (("input", test[0, 0, 0]), ("truth", truth[0, 0, 0]), (t.arm, rolled[0, 0, 0])):
            t.picture(f"Vorticity one time unit ahead, {title}", "heatmap", values=field)
        t.picture(f"Error of {t.arm}", "heatmap", values=rolled[0, 0, 0] - truth[0, 0, 0])


advection = Study(
    "advection",
    question="Is displacement what a single U-Net finds hard, as the argument says?",
    arms=("one_wave", "four_waves"),
    settings=dict(blocks=1, levels=4, weight_decay=1e-5, lr=2e-3, warmup=0.25),
    smoke=dict(size=16, levels=2, hidden=4, n_train=4, n_test=4, batch_size=2, steps=4, shifts=[1, 8]),
    laptop=dict(size=32, hidden=8, n_train=512, n_test=64, batch_size=8, steps=80, shifts=[1, 8]),
    paper=dict(size=128, hidden=64, n_train=4_096, n_test=512, batch_size=32, steps=10_000, shifts=[0, 1, 2, 4, 8, 12]),
    per_arm={arm: ARMS[arm] for arm in ("one_wave", "four_waves")},
    seeds=3,
    grid=dict(lr=[1e-3, 2e-3, 4e-3]),
    select=("val_l2", "lower"),
    tuning=dict(steps=40),
    equal=("parameters", "steps"),
    claims=[
        Beats(
            "one_step_l2",
            "four_waves",
            "one_wave",
            by=1,
            cell="shift=8",
            kind="mechanism",
            published="waves shorten the displacement that a skip has to bridge (section 3, in words)",
            differs="There: an argument. Here: exact shifts of random fields, with nothing else to learn.",
        ),
        Beats(
            "growth_l2",
            "four_waves",
            "one_wave",
            by=1,
            kind="control",
            name="the advantage grows with the displacement",
            note="growth_l2 is the error at the largest shift over that at the smallest.",
        ),
    ],
)


@advection.trial
def advection_trial(t: Trial) -> None:
    """Train one network a displacement: the target is the input, shifted by so many points along x."""
    s, errors, val = t.settings, {}, []
    fields = [
        turbulent_vorticity(n, s.size, seed=3 * t.seed + part).float()[:, None] / 3
        for part, n in enumerate((s.n_train, s.n_test, s.n_test))
    ]
    for shift in s.shifts:
        train, known, unseen = ((field, field.roll(shift, -1)) for field in fields)
        torch.manual_seed(t.seed)
        net = build(t)
        fitted = trained(t, net, train)
        net.eval()
        errors[shift] = None if fitted.diverged else one_step(net, unseen, t)
        val.append(math.inf if fitted.diverged else one_step(net, known, t))
        t.row(cell=f"shift={shift}", one_step_l2=errors[shift])
    first, last = errors[s.shifts[0]], errors[s.shifts[-1]]
    t.row(growth_l2=last / first if first and last else None, val_l2=sum(val) / len(val))
