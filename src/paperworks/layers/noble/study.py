"""NOBLE against transformers without branches, at equal steps, time and parameters (arXiv 2603.06492).

Laptop: about 11 CPU-minutes, 4 of them for Tiny Shakespeare. `paperworks run noble`
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.lab import Beats, Study, Trial
from paperworks.measure import count_parameters, match_width
from paperworks.training import fit

from .convert import branch_shares
from .gpt import NobleGPT
from .language import MadeLanguage, Windows, alphabet, encode, read_text, token_file
from .model import NobleLinear, lr_multiplier_groups

STEPS_PUBLISHED = "1.34 to 1.37 times fewer steps to the baseline's best loss, 1.5B parameters (figure 1, caption)"
TIME_PUBLISHED = "up to 1.22 times faster by the clock (abstract)"
CURVE_PUBLISHED = "CosNet is the best of the nonlinearities tried, in words (abstract)"
DIFFERS = (
    "There: from 250 million parameters, with 4 to 24 % more for the branches. Here: about 100 thousand, with a third "
    "more, since the rank is a quarter of the width."
)
BRANCHES: dict[str, dict[str, Any]] = {
    "base": {},
    "wide": {},
    "noble": dict(nonlinearity="cosnet"),
    "gelu": dict(nonlinearity="gelu"),
    "linear": dict(nonlinearity="identity"),
    "flat": dict(nonlinearity="cosnet"),
}
PLAIN = ("base", "wide")


def adamw(net: nn.Module, t: Trial, betas: tuple[float, float]) -> Callable[[Iterable[Any]], torch.optim.Optimizer]:
    """AdamW with each branch's learning rates; the arm `flat` has one rate for all."""
    groups = lr_multiplier_groups(net, t.settings.lr, 0.01, scale=0.0 if t.method == "flat" else 1.0)
    return lambda _: torch.optim.AdamW(groups, betas=betas, fused=True)


def language_model(arm: str, vocabulary: int, s: Mapping[str, Any]) -> NobleGPT:
    """A GPT with or without branches; `wide` has as many parameters as `noble`."""

    def make(width: int, rank: int) -> NobleGPT:
        return NobleGPT(vocabulary, s["context"], width, s["depth"], s["heads"], rank, **BRANCHES[arm])

    if arm == "wide":
        with torch.device("meta"):
            target = count_parameters(make(s["width"], s["rank"]))
        step = s["heads"]
        return make(step * match_width(lambda n: make(step * n, 0), target, high=s["width"]), 0)
    return make(s["width"], 0 if arm in PLAIN else s["rank"])


def crossing(curve: list[tuple[float, float]], level: float, otherwise: float) -> float:
    """Where a falling curve first reaches `level`, on the line between two of its points."""
    if curve and curve[0][1] <= level:
        return curve[0][0]
    for (x, y), (after, below) in itertools.pairwise(curve):
        if below <= level:
            return x + (after - x) * (y - level) / (y - below)
    return otherwise


def train_language_model(t: Trial, vocabulary: int, parts: tuple[Windows, Windows, Windows]) -> NobleGPT:
    """Train on windows from anywhere in the text; report losses, and the steps to reach the level."""
    s, (train, val, test) = t.settings, parts
    torch.manual_seed(t.seed)
    net = language_model(t.method, vocabulary, s)
    last = len(train.tokens) - s.context

    def batch(step: int) -> tuple[Tensor, Tensor]:
        drawn = torch.Generator().manual_seed(1_000_003 * t.seed + step)
        return train.at(torch.randint(last, (s.batch_size,), generator=drawn).numpy())

    @torch.no_grad()
    def loss_on(part: Windows, most: int) -> float:
        """Mean over windows spread over the part."""
        count = min(most, len(part))
        rows = [i * len(part) // count for i in range(count)]
        losses = [net.loss(*part[rows[i : i + 64]]) * len(rows[i : i + 64]) for i in range(0, count, 64)]
        return float(torch.stack(losses).sum()) / count

    t.count(net, step=lambda: net.loss(*batch(0)), unit="batch")
    floor = 0.1  # of the rate, at the end
    length = max(1, s.steps - s.warmup)
    fitted = fit(
        net,
        lambda net, batch: net.loss(*batch),
        batch,
        steps=s.steps,
        optimizer=adamw(net, t, (0.9, 0.95)),
        schedule=lambda step: floor + (1 - floor) * (1 + math.cos(math.pi * max(0, step - s.warmup) / length)) / 2,
        warmup=s.warmup,
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_loss": loss_on(val, 128)},
        validate_every=max(1, s.steps // 30),
    )
    net.eval()
    fine = not fitted.diverged
    curve = [(point["step"], point["val_loss"]) for point in fitted.history]
    t.row(
        test_loss=loss_on(test, 512) if fine else None,
        val_loss=loss_on(val, 128) if fine else None,
        steps_to_level=crossing(curve, s.level, 2.0 * s.steps),
    )
    return net


def branch_sizes(t: Trial, net: NobleGPT, x: Tensor) -> None:
    """How large what each branch adds has become beside what its main layer gives."""
    found = branch_shares(net, x)
    t.picture(
        "What the branches add after training, as a share of their main layers' outputs",
        "bars",
        labels=[name.removeprefix("blocks.").replace("attention.", "") for name in found],
        values=list(found.values()),
        caption="block and projection; root mean square of the branch over that of the main layer, about 0.02 at first",
    )


language = Study(
    "language",
    question="Does a small GPT learn a made language in fewer steps, and in less time, with NOBLE's branches?",
    arms=("noble", "base", "wide", "gelu"),
    settings=dict(depth=2, heads=4, batch_size=16, lr=3e-3, words=100),
    smoke=dict(width=16, rank=4, context=16, steps=6, warmup=2, level=3.0, text=20_000),
    laptop=dict(width=64, rank=16, context=32, steps=900, warmup=20, level=0.56, text=400_000),
    paper=dict(width=768, depth=12, heads=12, rank=64, context=256, steps=20_000, warmup=500, level=0.35,
               text=20_000_000, batch_size=64, words=5_000),
    seeds=4,
    grid=dict(lr=[7e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2]),
    select=("val_loss", "lower"),
    tuning=dict(steps=300),
    equal_time={"base_equal_time": ("base", "noble")},
    equal=("steps",),
    claims=[
        Beats("steps_to_level", "noble", "base", better="lower", by=1.05, published=STEPS_PUBLISHED, differs=DIFFERS,
              note="Steps to a validation loss that the plain network reaches near its end."),
        Beats("test_loss", "noble", "base", by=1, published=STEPS_PUBLISHED, differs=DIFFERS, note="At equal steps."),
        Beats("test_loss", "noble", "base_equal_time", by=1, equal=("seconds",), published=TIME_PUBLISHED,
              differs=DIFFERS, note="The plain network trained as long as NOBLE trains."),
        Beats("test_loss", "noble", "wide", by=1, kind="control", equal=("parameters", "steps"),
              note="The parameters of the branches spent on width."),
        Beats("test_loss", "noble", "gelu", by=1, kind="mechanism", published=CURVE_PUBLISHED, differs=DIFFERS,
              note="GELU in the branch instead of CosNet."),
    ],
)  # fmt: skip


@language.trial
def language_trial(t: Trial) -> None:
    """Texts of a made language: words that follow words."""
    s = t.settings
    made = MadeLanguage(s.words)
    seeds = [10 * t.seed + part for part in range(3)]
    sizes = [s.text, s.text // 5, s.text // 5]
    parts = tuple(Windows(made.text(size, seed), s.context) for size, seed in zip(sizes, seeds, strict=True))
    net = train_language_model(t, len(made.characters), parts)  # type: ignore[arg-type]
    if t.arm == "noble" and t.seed == 0:
        branch_sizes(t, net, parts[1][[0, 1, 2, 3]][0])


TEXTS = {"shakespeare": ("text/tinyshakespeare.txt",), "openwebtext": ("openwebtext/train.bin", "openwebtext/val.bin")}

text = Study(
    "text",
    question="And a text that people wrote: Tiny Shakespeare, character by character?",
    arms=("noble", "base", "wide"),
    settings=dict(data="shakespeare", depth=2, heads=4, batch_size=16, lr=3e-3),
    smoke=dict(width=16, rank=4, context=16, steps=6, warmup=2, level=3.5),
    laptop=dict(width=64, rank=16, context=64, steps=900, warmup=20, level=2.09),
    paper=dict(data="openwebtext", width=768, depth=12, heads=12, rank=64, context=1024, batch_size=32, steps=200_000,
               warmup=2_000, level=3.0),
    seeds=3,
    grid=dict(lr=[7e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2]),
    select=("val_loss", "lower"),
    tuning=dict(steps=250),
    files=TEXTS,
    equal=("steps",),
    claims=[
        Beats("steps_to_level", "noble", "base", better="lower", by=1.05, published=STEPS_PUBLISHED, differs=DIFFERS),
        Beats("test_loss", "noble", "base", by=1, published=STEPS_PUBLISHED, differs=DIFFERS, note="At equal steps."),
        Beats("test_loss", "noble", "wide", by=1, kind="control", equal=("parameters", "steps")),
    ],
)  # fmt: skip


@text.trial
def text_trial(t: Trial) -> None:
    """The first 80 % of Tiny Shakespeare to learn from, a tenth each to choose by and to report; or token files."""
    assert t.data_root is not None
    first, *more = (Path(t.data_root) / name for name in TEXTS[t.settings.data])
    if more:
        train, held = token_file(first), token_file(more[0])
        vocabulary = int(max(train.max(), held.max())) + 1
        half = len(held) // 2
        rows = train, held[:half], held[half:]
    else:
        written = read_text(first)
        characters = alphabet(written, first)
        tokens, vocabulary = encode(written, characters, first), len(characters)
        ends = len(tokens) * 8 // 10, len(tokens) * 9 // 10
        rows = tokens[: ends[0]], tokens[ends[0] : ends[1]], tokens[ends[1] :]
    train_language_model(t, vocabulary, tuple(Windows(part, t.settings.context) for part in rows))  # type: ignore[arg-type]


class Waves:
    """A sum of cosines on R^6 as a target, standardised: frequencies scale * N(0, I), amplitudes N(0, 1)."""

    def __init__(self, scale: float, seed: int, count: int = 24):
        drawn = torch.Generator().manual_seed(50_000 + seed)
        self.frequencies = scale * torch.randn(6, count, generator=drawn)
        self.phases = 2 * math.pi * torch.rand(count, generator=drawn)
        self.amplitudes = torch.randn(count, generator=drawn)
        self.mean, self.std = 0.0, 1.0
        values = self(torch.randn(4000, 6, generator=drawn))
        self.mean, self.std = values.mean(), values.std()

    def __call__(self, x: Tensor) -> Tensor:
        """(n, 6) -> (n, 1)."""
        y = torch.cos(x @ self.frequencies + self.phases) @ self.amplitudes
        return ((y - self.mean) / self.std)[:, None]

    def points(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        """Normal points and their values."""
        x = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
        return x, self(x)


def regressor(arm: str, width: int, rank: int) -> nn.Sequential:
    """Three hidden layers of GELU; the two maps between them may carry branches. `wide`: as many parameters."""
    if arm == "wide":
        with torch.device("meta"):
            target = count_parameters(regressor("noble", width, rank))
        width = match_width(lambda n: regressor("base", n, rank), target, high=4 * width)

    def inner() -> nn.Module:
        if arm not in PLAIN:
            return NobleLinear(width, width, rank=rank, **BRANCHES[arm])
        layer = nn.Linear(width, width)
        nn.init.normal_(layer.weight, std=0.5 / math.sqrt(width))
        nn.init.zeros_(layer.bias)
        return layer

    return nn.Sequential(
        nn.Linear(6, width), nn.GELU(), inner(), nn.GELU(), inner(), nn.GELU(), nn.Linear(width, 1)
    )  # fmt: skip


waves = Study(
    "waves",
    question="Why it is said to work: do the branches take up what is sharp in a target, here a sum of cosines?",
    arms=("noble", "base", "wide", "gelu", "linear", "flat"),
    settings=dict(width=64, rank=16, batch_size=128, lr=2e-3),
    smoke=dict(width=16, rank=4, steps=4),
    laptop=dict(steps=800),
    paper=dict(steps=20_000, width=256, rank=32),
    sweep=dict(scale=[0.3, 0.8]),
    seeds=5,
    grid=dict(lr=[5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2]),
    select=("val_mse", "lower"),
    tuning=dict(steps=400),
    equal=("steps",),
    claims=[
        Beats("test_mse", "noble", "base", by=1, kind="mechanism", per="cell",
              published="the branch captures sharp components, in words (abstract)",
              differs="A regression in place of a language model."),
        Beats("test_mse", "noble", "wide", by=1, kind="control", per="cell", equal=("parameters", "steps"),
              note="As many parameters, spent on width."),
        Beats("test_mse", "noble", "gelu", by=1, kind="mechanism", per="cell", published=CURVE_PUBLISHED,
              differs="A regression in place of a language model.", note="GELU in the branch instead of CosNet."),
        Beats("test_mse", "noble", "linear", by=1, kind="control", per="cell",
              note="A linear branch: its rank, start and learning rates without a nonlinearity."),
        Beats("test_mse", "noble", "flat", by=1, kind="mechanism", per="cell", note="One learning rate for all."),
    ],
)  # fmt: skip


@waves.trial
def waves_trial(t: Trial) -> None:
    """Fresh points every step; relative mean squared error on points of its own."""
    s, target = t.settings, Waves(t.settings.scale, t.seed)
    torch.manual_seed(t.seed)
    net = regressor(t.method, s.width, s.rank)
    val, test = (target.points(4000, 70_000 + 10 * t.seed + part) for part in (0, 1))

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (net(batch[0]) - batch[1]).square().mean()

    def batch(step: int) -> tuple[Tensor, Tensor]:
        return target.points(s.batch_size, 1_000_003 * (t.seed + 1) + step)

    t.count(net, step=lambda: loss(net, batch(0)), unit="batch")
    fitted = fit(
        net, loss, batch, steps=s.steps, optimizer=adamw(net, t, (0.9, 0.999)), schedule="cosine",
        log=t.log, checkpoint=t.checkpoint, validate=lambda: {"val_mse": float(loss(net, val) / val[1].var())},
        validate_every=max(1, s.steps // 20),
    )  # fmt: skip
    net.eval()
    with torch.no_grad():
        fine = not fitted.diverged
        errors = [float(loss(net, part) / part[1].var()) if fine else None for part in (test, val)]
        t.row(test_mse=errors[0], val_mse=errors[1])
        if t.seed == 0 and t.arm in ("noble", "base") and s.scale > 0.5:
            way = torch.linspace(-2, 2, 121)
            x = way[:, None] * torch.tensor([[1.0, -1.0, 1.0, -1.0, 1.0, -1.0]]) / math.sqrt(6)
            series = {"target": target(x)[:, 0], "network": net(x)[:, 0]}
            name = "NOBLE" if t.arm == "noble" else "Without branches"
            t.picture(f"{name}: the target along a line through the origin", "lines", x=way, series=series,
                      caption="distance from the origin; standardised value")  # fmt: skip
