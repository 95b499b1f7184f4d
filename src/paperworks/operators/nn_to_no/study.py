"""Networks trained on one grid and asked on others (arXiv 2506.10973, figure 5), in one dimension.

Laptop: about 5 CPU-minutes. `paperworks run nn_to_no`
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paperworks.lab import Beats, NotWorse, Reaches, Study, Trial
from paperworks.training import Batches, fit

from .convert import to_operator
from .model import ResidualOperator
from .refinement import relative_l2
from .spectral_convs import InterpolateInOut
from .task import Pairs, burgers_pairs, reaction_pairs

SETTING = (
    "There: 2D Navier-Stokes forcing to vorticity, networks of 65 million parameters, trained on 128 x 128, errors in "
    "a figure. Here: 1D Burgers, a small residual network, trained on 64 points."
)
READINGS = ("converted", "resized", "transfer", "in_out")

study = Study(
    "resolutions",
    question="Does a network trained on one grid keep its error on others, and does it have to be trained for that?",
    arms=("pixel", "pixel_multi", "integral_wide", "differential", "fno"),
    variants=dict.fromkeys(READINGS, "pixel"),
    settings=dict(base=64, resolutions=[32, 64, 128, 256, 512], n_val=64, n_test=100, batch_size=32, lr=4e-3),
    smoke=dict(n_train=64, n_val=16, n_test=16, width=8, n_blocks=2, steps=40, batch_size=16),
    laptop=dict(n_train=500, width=32, n_blocks=6, steps=600),
    paper=dict(n_train=2_000, width=64, n_blocks=6, steps=10_000),
    seeds=3,
    grid=dict(lr=[2e-3, 4e-3, 8e-3, 1.6e-2]),
    select=("val_error", "lower"),
    tuning=dict(steps=150),
    equal=("parameters", "steps"),
    equal_time={"pixel_multi_equal_time": ("pixel_multi", "pixel"), "fno_equal_time": ("fno", "pixel")},
    claims=[
        Beats(
            "error",
            "converted",
            "pixel",
            by=5,
            cell="N=128",
            published="converted networks keep their error at unseen resolutions, a pixel U-Net does not (in words)",
            differs=SETTING,
        ),
        Beats("error", "converted", "pixel", by=5, cell="N=512"),
        Reaches(
            "growth",
            "converted",
            1.5,
            better="lower",
            note="Largest error on 128, 256 and 512 points over that on the training grid of 64.",
        ),
        NotWorse(
            "error",
            "converted",
            "pixel",
            margin=0.05,
            cell="N=64",
            kind="control",
            note="On the training grid the conversion must change nothing.",
        ),
        Beats(
            "error",
            "converted",
            "pixel_multi",
            by=2,
            cell="N=512",
            kind="control",
            note="The pixel network trained on 32, 64 and 128 points in turn: does data replace the conversion?",
            published="multi-resolution training helps, in words",
            differs=SETTING,
        ),
        Beats(
            "error",
            "converted",
            "in_out",
            by=1,
            cell="N=256",
            kind="control",
            note="Resampling to the training grid and back loses nothing here: the functions hold no finer scales.",
        ),
        Beats(
            "error",
            "converted",
            "resized",
            by=2,
            cell="N=256",
            kind="mechanism",
            note="The same weights with kernels resized as the released code does.",
        ),
        Beats(
            "error",
            "integral_wide",
            "converted",
            by=1,
            cell="N=256",
            kind="mechanism",
            note="Nodes twice as far apart as the training grid's points, as many parameters.",
        ),
        Beats("error", "integral_wide", "converted", by=2, cell="N=32", kind="mechanism"),
        Reaches("growth", "differential", 1.5, better="lower", kind="mechanism"),
        Beats(
            "error",
            "converted",
            "pixel_multi_equal_time",
            by=2,
            cell="N=512",
            kind="control",
            equal=("parameters", "seconds"),
            note="The same in as many seconds of training, which the finer grids make fewer steps.",
        ),
        Beats(
            "error",
            "converted",
            "fno_equal_time",
            by=1,
            cell="N=512",
            kind="control",
            equal=("seconds",),
            note="A Fourier neural operator trained as long. It needs no conversion.",
        ),
    ],
)


def build(t: Trial) -> ResidualOperator:
    """The arm's network; a kernel has nine numbers a pair of channels in all but the last two."""
    s = t.settings
    kind = {"pixel": "pixel", "pixel_multi": "pixel", "integral_wide": "integral", "fno": "spectral"}
    return ResidualOperator(
        width=s.width,
        n_blocks=s.n_blocks,
        conv=kind.get(t.method, "differential"),
        spacing=2 / s.base,
        base_resolution=s.base,
    )


def error(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Mean relative L2 error."""
    return relative_l2(net(batch[0]), batch[1]).mean()


def batches_on(pairs: Pairs, sizes: list[int], batch_size: int, seed: int) -> Callable[[int], tuple[Tensor, ...]]:
    """Batches on one grid each, drawn anew for every step."""
    grids, rows = [pairs.on(n) for n in sizes], Batches(pairs.on(sizes[0]), batch_size, seed)

    def batch(step: int) -> tuple[Tensor, ...]:
        drawn = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        functions, values = grids[int(torch.randint(len(sizes), (1,), generator=drawn))]
        index = rows.indices(step)
        return functions[index], values[index]

    return batch


def train(t: Trial, net: nn.Module, pairs: Pairs, sizes: list[int], val: tuple[Tensor, ...]) -> bool:
    """Fit on these grids; whether it stayed finite."""
    s = t.settings
    batches = batches_on(pairs, sizes, s.batch_size, t.seed)
    t.count(net, step=lambda: error(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        error,
        batches,
        steps=s.steps,
        lr=s.lr,
        schedule="cosine",
        warmup=s.steps // 10,
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_error": error(net, val).item()},
        validate_every=max(1, s.steps // 10),
    )
    net.eval()
    return not fitted.diverged


@study.trial
def trial(t: Trial) -> None:
    """Train on one grid (or three), score on five; read the trained pixel network in four further ways."""
    s = t.settings
    data = burgers_pairs(s.n_train + s.n_val + s.n_test, 10_000 + t.seed, s.resolutions[-1])
    parts = [data.rows(0, s.n_train), data.rows(s.n_train, s.n_train + s.n_val), data.rows(s.n_train + s.n_val, 10**9)]
    torch.manual_seed(t.seed)
    net, val = build(t), parts[1].on(s.base)
    sizes = [s.base // 2, s.base, 2 * s.base] if t.method == "pixel_multi" else [s.base]
    finite = train(t, net, parts[0], sizes, val)
    readings: dict[str, nn.Module] = {t.arm: net}
    if t.method == "pixel":
        example = torch.zeros(1, 1, s.base)
        for name, recipe in (("converted", "integral"), ("resized", "interpolation"), ("transfer", "spectral")):
            readings[name] = to_operator(net, example, conv=recipe).module
        readings["in_out"] = InterpolateInOut(net, s.base)
    found: dict[str, list[float | None]] = {}
    with torch.no_grad():
        for name, reading in readings.items():
            found[name] = [float(error(reading, parts[2].on(n))) if finite else None for n in s.resolutions]
            for n, value in zip(s.resolutions, found[name], strict=True):
                t.row(name, cell=f"N={n}", error=value)
            there = dict(zip(s.resolutions, found[name], strict=True))
            finer = [there[n] for n in s.resolutions if n > s.base]
            t.row(name, growth=max(finer) / there[s.base] if finite else None)  # type: ignore[type-var, operator]
        t.row(val_error=float(error(net, val)) if finite else None)
    if t.seed == 0 and t.method == "pixel" and finite:
        pictures(t, readings, found, parts[2])


def pictures(t: Trial, readings: dict[str, nn.Module], found: dict[str, list[float | None]], test: Pairs) -> None:
    """Errors by grid, and one solution on four times the training grid."""
    s = t.settings
    t.picture(
        "One trained network, read in five ways",
        "lines",
        x=[float(torch.tensor(n).log2()) for n in s.resolutions],
        series=found,
        caption="log2 of the grid's points against relative L2 error; trained on 64 points",
    )
    u, truth = (f[:1] for f in test.on(4 * s.base))
    with torch.no_grad():
        series = {name: readings[name](u)[0, 0] for name in ("pixel", "converted", "resized")}
    x = torch.arange(4 * s.base) / (4 * s.base)
    t.picture(
        "Burgers at time 1 on four times the training grid",
        "lines",
        x=x,
        series={"truth": truth[0, 0], **series},
        caption="x against u; the same weights in all three",
    )


fine_scales = Study(
    "fine_scales",
    question="What if functions hold scales that the training grid cannot carry?",
    arms=("pixel", "integral_wide"),
    variants={"converted": "pixel", "in_out": "pixel"},
    settings=dict(base=64, resolutions=[64, 256, 512], fine=[34, 60], n_val=64, n_test=100, batch_size=32, lr=4e-3),
    smoke=dict(n_train=64, n_val=16, n_test=16, width=8, n_blocks=1, steps=30, batch_size=16),
    laptop=dict(n_train=300, width=16, n_blocks=2, steps=300),
    paper=dict(n_train=2_000, width=64, n_blocks=4, steps=10_000),
    seeds=3,
    grid=dict(lr=[2e-3, 4e-3, 8e-3, 1.6e-2]),
    select=("val_error", "lower"),
    tuning=dict(steps=150),
    equal=("parameters", "steps"),
    claims=[
        Beats(
            "error",
            "converted",
            "in_out",
            by=1.2,
            cell="fine, N=512",
            kind="control",
            note="The operator keeps fine scales; interpolation loses all of them.",
        ),
        Beats(
            "error",
            "integral_wide",
            "pixel",
            by=1,
            cell="fine, N=512",
            kind="control",
            note="This operator acts point by point, which is what a pixel kernel becomes on a fine grid.",
        ),
    ],
)


@fine_scales.trial
def fine_trial(t: Trial) -> None:
    """Train on smooth functions on 64 points; score on smooth ones and on ones with scales above that grid."""
    s = t.settings
    count = s.n_train + s.n_val + s.n_test
    smooth = reaction_pairs(count, 20_000 + t.seed, s.resolutions[-1])
    rough = reaction_pairs(s.n_test, 30_000 + 2 * t.seed, s.resolutions[-1], fine=tuple(s.fine))
    torch.manual_seed(t.seed)
    kind = "pixel" if t.method == "pixel" else "integral"
    net = ResidualOperator(width=s.width, n_blocks=s.n_blocks, conv=kind, spacing=2 / s.base, pointwise=True)
    val = smooth.rows(s.n_train, s.n_train + s.n_val).on(s.base)
    finite = train(t, net, smooth.rows(0, s.n_train), [s.base], val)
    readings: dict[str, nn.Module] = {t.arm: net}
    if t.method == "pixel":
        readings["converted"] = to_operator(net, torch.zeros(1, 1, s.base)).module
        readings["in_out"] = InterpolateInOut(net, s.base)
    with torch.no_grad():
        for name, reading in readings.items():
            for n in s.resolutions:
                for kind, pairs in (("smooth", smooth.rows(s.n_train + s.n_val, count)), ("fine", rough)):
                    if kind == "smooth" or n > s.base:
                        value = float(error(reading, pairs.on(n))) if finite else None
                        t.row(name, cell=f"{kind}, N={n}", error=value)
        t.row(val_error=float(error(net, val)) if finite else None)
