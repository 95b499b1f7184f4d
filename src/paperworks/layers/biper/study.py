"""Periodic binarisation against signs with a straight-through estimator, at equal steps (arXiv 2404.01278).

Laptop: about 4 CPU-minutes. `paperworks run biper`
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Reaches, Study, Trial
from paperworks.nn.straight_through import binary_sign
from paperworks.training import Batches
from paperworks.training.digits import MNIST_FILES, Rows, digits, mnist

from .layers import BiPerConv2d, binary_activation
from .quantization import LIMIT, sign_error
from .training import fit_two_stage

WORDS = "up to 1 % more accurate than earlier binary networks on CIFAR-10 (abstract); tables were not at hand"
DIFFERS = (
    "There: ResNets on CIFAR-10 and ImageNet, 600 + 300 epochs, against published numbers of other methods, the best "
    "epoch by test accuracy. Here: four binary layers on digits, few epochs, the last one, every arm with its own rate."
)
FREQUENCY = {"biper": 20.0, "biper1": 20.0, "low_frequency": 2.0}
ONE_STAGE = ("biper1", "ste1")


class STEConv2d(nn.Module):
    """The baseline: the same layer with w in stage 1, sign(w) with a clipped straight-through gradient in stage 2."""

    def __init__(self, n_in: int, n_out: int, stage: int = 1):
        super().__init__()
        self.weight = nn.Parameter(nn.init.kaiming_normal_(torch.empty(n_out, n_in, 3, 3)))
        self.alpha = nn.Parameter(torch.rand(n_out, 1, 1))
        self.stage = stage

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, height, width) -> (batch, out, height, width)."""
        weight = self.weight if self.stage == 1 else binary_sign(self.weight, "clip")
        signs = binary_activation(x, (-3, -2, -1), self.training)
        return F.conv2d(signs, weight, padding=1) * self.alpha


class DigitsNet(nn.Module):
    """A real convolution, binary ones with a shortcut each, one average pool, a linear layer."""

    def __init__(self, conv: Callable[[int], nn.Module], width: int, depth: int):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.Hardtanh())
        self.convs = nn.ModuleList(conv(width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(depth))
        self.head = nn.Sequential(nn.BatchNorm1d(width), nn.Linear(width, 10))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1, height, width) -> (batch, 10)."""
        x = self.stem(x)
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.hardtanh(norm(conv(x)) + x)
            x = F.avg_pool2d(x, 2) if place == 1 else x
        return self.head(x.mean((-2, -1)))


def build(arm: str, width: int, depth: int) -> DigitsNet:
    """The arm's network."""
    if arm in FREQUENCY:
        return DigitsNet(lambda n: BiPerConv2d(n, n, 3, padding=1, freq=FREQUENCY[arm]), width, depth)
    return DigitsNet(lambda n: STEConv2d(n, n), width, depth)


def enter(net: DigitsNet, stage: int) -> None:
    """Every binary layer into a stage."""
    for conv in net.convs:
        conv.stage = stage  # type: ignore[assignment]


@torch.no_grad()
def layer_errors(net: DigitsNet) -> list[float]:
    """Relative quantisation error of every layer's real weights: sin(omega w), or w."""
    weights = [torch.sin(c.freq * c.weight) if isinstance(c, BiPerConv2d) else c.weight for c in net.convs]
    return [float(sign_error(weight)) for weight in weights]  # type: ignore[arg-type]


def loss(net: Any, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(net(batch[0]), batch[1])


@torch.no_grad()
def accuracy(net: nn.Module, rows: Rows) -> float:
    """Share of right answers."""
    right = [(net(x).argmax(1) == y).sum() for x, y in zip(rows.x.split(2000), rows.y.split(2000), strict=True)]
    return float(torch.stack(right).sum()) / len(rows.y)


def lost_to_signs(net: DigitsNet, rows: Rows) -> float:
    """Accuracy that goes when real weights become signs, without training on.

    Both with the statistics of these rows in the batch norms, which take up the change of scale.
    """
    twin = copy.deepcopy(net).train()
    before = accuracy(twin, rows)
    enter(twin, 2)
    return before - accuracy(twin, rows)


def measure(t: Trial) -> None:
    """Train with SGD and a cosine a stage; report the last step."""
    s = t.settings
    if s.data == "mnist":
        assert t.data_root is not None
        split = mnist(t.data_root, t.seed, s.n_train)
    else:
        split = digits(t.seed, image=True)
    train, val, test = (Rows(2 * part.x - 1, part.y) for part in split)
    torch.manual_seed(t.seed)
    net = build(t.method, s.width, s.depth)
    batches = Batches(tuple(train), s.batch_size, t.seed)
    enter(net, 2)
    t.count(net, step=lambda: loss(net, batches(0)), unit="batch")

    def look() -> dict[str, float]:
        layers = {f"layer_{place}": error for place, error in enumerate(layer_errors(net), 1)}
        metrics = {"val_acc": accuracy(net, val), "quantization_error": sum(layers.values()) / len(layers), **layers}
        if net.convs[0].stage == 1 and t.method != "real":
            metrics["lost_to_signs"] = lost_to_signs(net, val)
        return metrics

    share = 0.0 if t.method in ONE_STAGE else 1.0 if t.method == "real" else 0.5
    fitted = fit_two_stage(
        net,
        loss,
        batches,
        steps=s.steps,
        stage1=share,
        lr=s.lr,
        lr2=s.lr if share == 0 else s.second * s.lr,
        weight_decay=s.weight_decay,
        set_stage=enter,  # type: ignore[arg-type]
        log=t.log,
        checkpoint=t.checkpoint,
        validate=look,
        validate_every=max(1, s.steps // 20),
    )
    enter(net, 1 if t.method == "real" else 2)
    net.eval()
    fine, history = not fitted.diverged, fitted.history
    lost = [point["lost_to_signs"] for point in history if "lost_to_signs" in point]
    metrics: dict[str, Any] = {"lost_to_signs": lost[-1]} if lost else {}
    t.row(
        acc=accuracy(net, test) if fine else None,
        val_acc=accuracy(net, val) if fine else None,
        quantization_error=sum(layer_errors(net)) / s.depth,
        **metrics,
    )
    if t.seed == 0:
        t.picture(
            f"Quantisation error while training: {t.arm}",
            "lines",
            x=[point["step"] for point in history],
            series={f"layer {n}": [point[f"layer_{n}"] for point in history] for n in range(1, s.depth + 1)},
            caption="step; relative error of replacing a layer's real weights by their signs with the best scale",
        )


study = Study(
    "digits",
    question="At equal steps and tuned rates, do periodic weights beat signs with a straight-through estimator?",
    arms=("biper", "ste2", "ste1", "biper1", "low_frequency", "real"),
    settings=dict(data="digits", width=16, depth=4, batch_size=64, lr=0.25, second=0.4, weight_decay=1e-4),
    smoke=dict(steps=4, width=4, batch_size=32),
    laptop=dict(steps=320),
    paper=dict(data="mnist", n_train=55_000, steps=20_000, width=64),
    files={"mnist": MNIST_FILES},
    seeds=8,
    grid=dict(lr=[0.03, 0.06, 0.12, 0.25, 0.5, 1.0]),
    select=("val_acc", "higher"),
    tuning=dict(steps=160),
    equal=("parameters", "steps"),
    claims=[
        Beats("acc", "biper", "ste2", by=0, published=WORDS, differs=DIFFERS, note="STE in the same two stages."),
        Beats("acc", "biper", "ste1", by=0, published=WORDS, differs=DIFFERS, note="STE from the start."),
        Beats(
            "quantization_error",
            "biper",
            "ste2",
            by=1,
            kind="mechanism",
            note="Relative error of replacing the real weights behind the signs by these signs.",
        ),
        Reaches("quantization_error", "biper", LIMIT, better="lower", kind="mechanism",
                note="The limit 1 - 8/pi^2 of weights spread evenly over the period: does training go below it?"),
        Beats("lost_to_signs", "biper", "ste2", by=0, better="lower", scale="difference", kind="mechanism",
              note="Validation accuracy lost when weights become signs at the end of stage 1."),
        Beats("acc", "biper", "biper1", by=0, kind="control", note="Square wave from the start: what stage 1 adds."),
        Beats(
            "acc",
            "biper",
            "low_frequency",
            by=0,
            kind="control",
            note="Omega 2 instead of 20: weights seldom leave the first half wave, where the sine is nearly straight.",
        ),
        NotWorse("acc", "biper", "real", margin=0.02, kind="control", note="Real weights, binary activations."),
    ],
)  # fmt: skip


@study.trial
def trial(t: Trial) -> None:
    """scikit-learn's digits, or MNIST, in [-1, 1]."""
    measure(t)
