"""Hypernetworks with magnitude-invariant parametrisation against the default ones (arXiv 2304.07645).

Laptop: about 6 CPU-minutes. `paperworks run mip`
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Reaches, Study, Trial
from paperworks.nn.mlp import MLP
from paperworks.training import Batches, fit
from paperworks.training.digits import MNIST_FILES, Split, digits, mnist

from .model import HyperModel, hypernetize, proportionality

WORDS = "stable training and faster convergence in all settings, in words (abstract); its figures give no table"
DIFFERS = (
    "There: Bayesian networks, registration and scale-space networks. Here: one network for every trade-off between "
    "classifying and reconstructing digits."
)
FAILED = 0.8  # of the loss of the best constant answer
AUTHORS = dict(bias_rows="official")
PLAIN = dict(encoding="none", residual=False)
FORMS: dict[str, dict[str, Any]] = {
    "mip": AUTHORS,
    "default": {**AUTHORS, **PLAIN},
    "input_only": {**AUTHORS, "residual": False},
    "residual_only": {**AUTHORS, "encoding": "none"},
    "layer_norm": {**AUTHORS, **PLAIN, "layer_norm": True},
    "centred": {**AUTHORS, **PLAIN},
    "mip_zero_rows": {},
    "default_zero_rows": PLAIN,
}


class TradeOff(nn.Module):
    """A primary network, with or without a hypernetwork, and the loss that a trade-off gamma asks of it."""

    def __init__(self, arm: str, n_inputs: int, hidden: list[int], depth: int, width: int):
        super().__init__()
        sizes = (n_inputs, *[width] * (depth - 1), 10 + n_inputs)
        primary = MLP(sizes, "relu", "he_normal")
        self.centred = arm == "centred"
        self.model = primary if arm == "no_hypernetwork" else hypernetize(primary, 1, hidden=hidden, **FORMS[arm])

    def forward(self, x: Tensor, gamma: Tensor) -> Tensor:
        if not isinstance(self.model, HyperModel):
            return self.model(x)
        return self.model(x, gamma=(gamma - 0.5) * 12**0.5 if self.centred else gamma)

    def loss(self, x: Tensor, y: Tensor, gamma: Tensor) -> Tensor:
        """gamma * cross-entropy + 5 (1 - gamma) * mean squared error of the reconstructed pixels."""
        out = self(x, gamma)
        return gamma[0] * F.cross_entropy(out[:, :10], y) + 5 * (1 - gamma[0]) * F.mse_loss(out[:, 10:], x)

    @torch.no_grad()
    def mean_loss(self, x: Tensor, y: Tensor, n: int = 6) -> float:
        """Over gamma from 0 to 1, both ends included."""
        return float(torch.stack([self.loss(x, y, gamma) for gamma in torch.linspace(0, 1, n)[:, None]]).mean())


def plateau(x: Tensor, y: Tensor) -> float:
    """The loss, mean over gamma, of the best answer that looks at neither input nor gamma."""
    share = torch.bincount(y, minlength=10) / len(y)
    return float(0.5 * -(share * share.clamp_min(1e-9).log()).sum() + 2.5 * x.var(0, correction=0).mean())


def measure(t: Trial, split: Split) -> None:
    """Train at every learning rate; keep the one that validates best; count those that did not learn."""
    s, (train, val, test) = t.settings, [(part.x.flatten(1), part.y) for part in split]
    stuck = FAILED * plateau(*train)
    results, curves = [], {}
    for number, lr in enumerate(s.lrs):
        torch.manual_seed(t.seed)
        net = TradeOff(t.method, train[0].shape[1], list(s.hidden), s.depth, s.width)
        batches = Batches(train, s.batch_size, t.seed)
        drawn = torch.rand(s.steps, 1, generator=torch.Generator().manual_seed(99_000 + t.seed))
        if number == 0:
            x, y = batches(0)
            t.count(net, step=lambda net=net, x=x, y=y: net.loss(x, y, torch.full((1,), 0.5)), unit="batch")
        fitted = fit(
            net,
            lambda net, batch: net.loss(*batch),
            lambda step, batches=batches, drawn=drawn: (*batches(step), drawn[step]),
            steps=s.steps,
            lr=lr,
            optimizer=s.optimizer,
            validate=lambda net=net: {"val_loss": net.mean_loss(*val)},
            validate_every=max(1, s.steps // 20),
        )
        end = fitted.history[-1]["val_loss"] if fitted.history and not fitted.diverged else float("inf")
        tested = net.mean_loss(*test) if end < float("inf") else float("inf")
        results.append((end, tested, end > stuck, lr))
        curves[lr] = [(point["step"], point["val_loss"]) for point in fitted.history]
        t.log((number + 1) * s.steps, len(s.lrs) * s.steps, seconds=fitted.seconds)
        if number == 0 and isinstance(net.model, HyperModel):
            t.measured["predicted_weights"] = sum(net.model.hyper.sizes)
    best = min(results)
    reached = [step for step, value in curves[best[3]] if value <= s.level]
    t.row(
        test_loss=best[1] if best[1] < float("inf") else None,
        failures=sum(failed for _, _, failed, _ in results) / len(results),
        steps_to_level=reached[0] if reached else 2 * s.steps,
        best_lr=best[3],
    )
    for step, value in curves[best[3]]:
        t.log(step, s.steps, val_loss=value)


deep = Study(
    "deep",
    question="Does MIP make the hypernetwork of a five-layer network train better, with momentum?",
    arms=(*FORMS, "no_hypernetwork"),
    settings=dict(depth=5, width=32, hidden=[16, 32, 64], optimizer="sgd", lrs=[3e-3, 1e-2, 1e-1], level=0.3),
    smoke=dict(steps=4, batch_size=64, lrs=[1e-2], hidden=[8, 16]),
    laptop=dict(steps=500, batch_size=64),
    paper=dict(steps=20_000, batch_size=128, hidden=[16, 64, 128], lrs=[1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    seeds=5,
    equal=("steps",),
    claims=[
        Beats(
            "test_loss",
            "mip",
            "default",
            by=1,
            published=WORDS,
            differs=DIFFERS,
            note="Each at the learning rate that validates best; both have as many rates.",
        ),
        Beats(
            "failures",
            "mip",
            "default",
            better="lower",
            scale="difference",
            by=0,
            published=WORDS,
            differs=DIFFERS,
            note="Share of learning rates at which the loss stays above 0.8 of that of the best constant answer.",
        ),
        Beats("steps_to_level", "mip", "default", better="lower", by=1, published=WORDS, differs=DIFFERS),
        Beats("test_loss", "mip", "residual_only", by=1, kind="mechanism", note="What the input encoding adds."),
        Beats("test_loss", "mip", "input_only", by=1, kind="mechanism", note="What the residual form adds."),
        Beats(
            "test_loss",
            "mip",
            "default_zero_rows",
            by=1,
            kind="control",
            note="The default one, but rows that predict biases start at zero instead of large.",
        ),
        Beats("failures", "mip", "default_zero_rows", better="lower", scale="difference", by=0, kind="control"),
        Beats("test_loss", "mip_zero_rows", "default_zero_rows", by=1, kind="control", note="Both with such rows."),
        Beats("test_loss", "mip", "layer_norm", by=1, kind="control", note="LayerNorm in a default hypernetwork."),
        Beats("failures", "mip", "layer_norm", better="lower", scale="difference", by=0, kind="control"),
        Beats("test_loss", "mip", "centred", by=1, kind="control", note="A default one whose gamma is centred."),
        Beats(
            "test_loss",
            "mip",
            "no_hypernetwork",
            by=1,
            kind="control",
            equal=("steps",),
            note="One network for all trade-offs: is gamma used at all?",
        ),
    ],
)


@deep.trial
def deep_trial(t: Trial) -> None:
    """Digits; a primary network of five layers."""
    measure(t, digits(t.seed))


shallow = Study(
    "shallow",
    question="And the hypernetwork of a two-layer network?",
    arms=("mip", "default", "residual_only", "layer_norm", "default_zero_rows"),
    settings=dict(depth=2, width=32, hidden=[16, 32, 64], optimizer="sgd", lrs=[3e-3, 1e-2, 1e-1], level=0.3),
    smoke=dict(steps=4, batch_size=64, lrs=[1e-2], hidden=[8, 16]),
    laptop=dict(steps=500, batch_size=64),
    paper=dict(steps=20_000, batch_size=128, hidden=[16, 64, 128], lrs=[1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    seeds=5,
    equal=("steps",),
    claims=[
        Beats(
            "test_loss",
            "mip",
            "default",
            by=1,
            kind="control",
            published=WORDS,
            differs=DIFFERS,
            note="Magnitudes grow like gamma to the power of the depth: does the benefit need depth?",
        ),
        Beats("test_loss", "mip", "default_zero_rows", by=1, kind="control"),
    ],
)


@shallow.trial
def shallow_trial(t: Trial) -> None:
    """Digits; a primary network of two layers."""
    measure(t, digits(t.seed))


adam = Study(
    "adam",
    question="And with Adam, which divides by the gradient's size?",
    arms=("mip", "default", "residual_only", "layer_norm", "default_zero_rows"),
    settings=dict(depth=5, width=32, hidden=[16, 32, 64], optimizer="adam", lrs=[1e-3, 3e-3, 1e-2], level=0.3),
    smoke=dict(steps=4, batch_size=64, lrs=[3e-3], hidden=[8, 16]),
    laptop=dict(steps=500, batch_size=64),
    paper=dict(steps=20_000, batch_size=128, hidden=[16, 64, 128], lrs=[3e-4, 1e-3, 3e-3, 1e-2]),
    seeds=5,
    equal=("steps",),
    claims=[
        Beats("test_loss", "mip", "default", by=1, published=WORDS, differs=DIFFERS),
        Beats("steps_to_level", "mip", "default", better="lower", by=1, published=WORDS, differs=DIFFERS),
        NotWorse("failures", "mip", "default", better="lower", scale="difference", margin=0.1, kind="control"),
        Beats("test_loss", "mip", "default_zero_rows", by=1, kind="control"),
    ],
)


@adam.trial
def adam_trial(t: Trial) -> None:
    """Digits; five layers; Adam."""
    measure(t, digits(t.seed))


magnitude = Study(
    "magnitude",
    question="Does the size of the predicted weights follow gamma before training?",
    arms=("mip", "default"),
    settings=dict(depth=5, width=32, hidden=[16, 32, 64]),
    seeds=5,
    claims=[
        Reaches(
            "growth",
            "default",
            7.9,
            kind="mechanism",
            published="the size of the weights is proportional to the input (section 3)",
            differs="Weights at gamma = 0.8 over those at 0.1, before training.",
        ),
        Reaches("growth", "mip", 1.1, better="lower", kind="mechanism"),
    ],
)


@magnitude.trial
def magnitude_trial(t: Trial) -> None:
    """Predict weights at two gammas."""
    net = TradeOff(t.arm, 64, list(t.settings.hidden), t.settings.depth, t.settings.width)
    assert isinstance(net.model, HyperModel)
    t.count(net)
    t.row(growth=proportionality(net.model.hyper))


real = Study(
    "mnist",
    question="The same on MNIST, with a larger network and a longer budget?",
    arms=("mip", "default", "residual_only", "layer_norm", "default_zero_rows", "no_hypernetwork"),
    settings=dict(
        data="mnist", depth=5, width=64, hidden=[16, 32, 64], optimizer="sgd", lrs=[1e-2, 1e-1], level=0.45, n_val=1_000
    ),
    smoke=dict(steps=4, batch_size=64, n_train=500, lrs=[1e-2]),
    laptop=dict(steps=600, batch_size=64, n_train=38_400),
    paper=dict(steps=40_000, batch_size=128, n_train=55_000, n_val=5_000),
    seeds=3,
    equal=("steps",),
    files={"mnist": MNIST_FILES},
    claims=[
        Beats("test_loss", "mip", "default", by=1, published=WORDS, differs=DIFFERS),
        Beats("failures", "mip", "default", better="lower", scale="difference", by=0, published=WORDS, differs=DIFFERS),
        Beats("test_loss", "mip", "residual_only", by=1, kind="mechanism"),
        Beats("test_loss", "mip", "layer_norm", by=1, kind="control"),
        Beats("test_loss", "mip", "default_zero_rows", by=1, kind="control"),
        Beats("test_loss", "mip", "no_hypernetwork", by=1, kind="control"),
    ],
)


@real.trial
def mnist_trial(t: Trial) -> None:
    """MNIST; five layers."""
    assert t.data_root is not None
    split = mnist(t.data_root, t.seed, t.settings.n_train)
    measure(t, split._replace(val=split.val.first(t.settings.n_val)))
