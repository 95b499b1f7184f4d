"""AF-KAN against multilayer perceptrons and other KANs at equal parameters (arXiv 2503.06112).

Laptop: about 3 CPU-minutes. `paperworks run af_kan`
"""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.layers.kan import KAN
from paperworks.measure import count_parameters, match_width
from paperworks.nn.mlp import MLP
from paperworks.training import Batches, fit
from paperworks.training.digits import MNIST_FILES, Rows, Split, digits, mnist

from .model import AFKAN

WORDS = "higher accuracy at the same number of parameters, in words (abstract); its tables were not at hand"
DIFFERS = (
    "There: MNIST and Fashion-MNIST, one learning rate for all, the best epoch by test accuracy. Here: the last epoch, "
    "the rate chosen for every arm alike on validation data, the laptop's number of steps."
)


class NormMLP(nn.Module):
    """Every layer LayerNorm, SiLU, linear without a bias: AF-KAN's layer without its functions."""

    def __init__(self, widths: list[int]):
        super().__init__()
        self.layers = nn.Sequential(
            *[
                layer
                for n_in, n_out in itertools.pairwise(widths)
                for layer in (nn.LayerNorm(n_in), nn.SiLU(), nn.Linear(n_in, n_out, bias=False))
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in) -> (batch, out)."""
        return self.layers(x)


def kan(kind: str, **options: Any) -> Callable[[int, int], nn.Module]:
    """A KAN with one hidden layer, by inputs and width."""
    return lambda n, width: KAN((n, width, 10), kind, options=options)


BUILDS: dict[str, Callable[[int, int], nn.Module]] = {
    "af_kan": lambda n, width: AFKAN((n, width, 10)),
    "af_kan_batch": lambda n, width: AFKAN((n, width, 10), func_norm="batch"),
    "af_kan_unscaled": lambda n, width: AFKAN((n, width, 10), func_norm="none"),
    "mlp": lambda n, width: MLP((n, width, 10), "silu", "he_normal"),
    "mlp_norm": lambda n, width: NormMLP([n, width, 10]),
    "bspline_kan": kan("bspline", grid_size=3, scaler=True, low=-1.5, high=1.5),
    "relu_kan": kan("relu", grid_size=3, norm=True),
    "rbf_kan": kan("rbf"),
    "chebyshev_kan": kan("chebyshev"),
}


def build(arm: str, n_inputs: int, width: int) -> nn.Module:
    """The arm's network: as wide as AF-KAN (`..._wide`), or with as many parameters."""
    make = BUILDS[arm.removesuffix("_wide")]
    if arm.endswith("_wide") or arm.startswith("af_kan"):
        return make(n_inputs, width)
    target = count_parameters(BUILDS["af_kan"](n_inputs, width))
    return make(n_inputs, match_width(lambda w: make(n_inputs, w), target, high=2 * width))


def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy."""
    return F.cross_entropy(net(batch[0]), batch[1])


@torch.no_grad()
def accuracy(net: nn.Module, rows: Rows) -> float:
    """Share of right answers, a part of the rows at a time."""
    right = [(net(x).argmax(1) == y).sum() for x, y in zip(rows.x.split(1000), rows.y.split(1000), strict=True)]
    return float(torch.stack(right).sum()) / len(rows.y)


def measure(t: Trial, split: Split, **options: Any) -> None:
    """Train on pixels in [-1, 1], as the authors scale them; report the last step's accuracy."""
    s = t.settings
    train, val, test = (Rows(2 * part.x.flatten(1) - 1, part.y) for part in split)
    torch.manual_seed(t.seed)
    net = build(t.method, train.x.shape[1], s.width)
    batches = Batches(tuple(train), s.batch_size, t.seed)
    t.count(net, step=lambda: loss(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        loss,
        batches,
        steps=s.steps,
        lr=s.lr,
        optimizer="adamw",
        weight_decay=1e-4,
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_acc": accuracy(net, val)},
        validate_every=max(1, s.steps // 10),
        **options,
    )
    net.eval()
    fine = not fitted.diverged
    t.row(acc=accuracy(net, test) if fine else None, val_acc=accuracy(net, val) if fine else None)
    if t.seed == 0 and t.arm in ("af_kan", "bspline_kan"):
        functions(t, net)


def functions(t: Trial, net: nn.Module) -> None:
    """What the first layer makes of one input between -1 and 1: its functions, or three learnt edges."""
    x = torch.linspace(-1, 1, 61)
    with torch.no_grad():
        if isinstance(net, AFKAN):
            made = net.layers[0].functions(x[:, None])[:, 0]  # type: ignore[operator]
            series = {f"function {j + 1}": made[:, j] for j in range(made.shape[1])}
            title = "The functions of AF-KAN's first layer, shared by all inputs"
        else:
            assert isinstance(net, KAN)
            layer, wide = net.layers[0], torch.zeros(61, net.in_features)
            series = {}
            for pixel in (20, 27, 36):
                alone = wide.clone()
                alone[:, pixel] = x
                made = (layer(alone) - layer(wide))[:, 0]
                series[f"pixel {pixel}"] = made
            title = "Three learnt functions of the B-spline KAN's first hidden unit"
    t.picture(title, "lines", x=x, series=series, caption="input; value after training")


tuned = Study(
    "digits",
    question="At equal parameters and tuned learning rates, is AF-KAN more accurate than perceptrons and other KANs?",
    arms=(*BUILDS, "bspline_kan_wide", "relu_kan_wide"),
    settings=dict(lr=3e-3, width=52, batch_size=64),
    smoke=dict(steps=4, width=8),
    laptop=dict(steps=425),
    paper=dict(steps=1_700),
    seeds=5,
    grid=dict(lr=[1e-3, 3e-3, 1e-2, 3e-2]),
    select=("val_acc", "higher"),
    tuning=dict(steps=255),
    equal_time={"mlp_norm_equal_time": ("mlp_norm", "af_kan")},
    equal=("parameters", "steps"),
    claims=[
        Beats("acc", "af_kan", "mlp", by=0, published=WORDS, differs=DIFFERS),
        Beats("acc", "af_kan", ["relu_kan", "bspline_kan"], by=0, published=WORDS, differs=DIFFERS),
        NotWorse(
            "acc",
            "af_kan",
            ["relu_kan_wide", "bspline_kan_wide"],
            margin=0.01,
            equal=("steps",),
            published="competitive with KANs of the same structure and 6 to 10 times the parameters (abstract)",
            differs=DIFFERS,
        ),
        Beats(
            "acc",
            "af_kan",
            "mlp_norm",
            by=0,
            kind="control",
            note="A perceptron with the same LayerNorm in the same place: AF-KAN's layer without its functions.",
        ),
        Beats(
            "acc",
            "af_kan",
            "mlp_norm_equal_time",
            by=0,
            kind="control",
            equal=("parameters", "seconds"),
            note="That perceptron, trained as long as AF-KAN trains.",
        ),
        Beats("acc", "af_kan", ["rbf_kan", "chebyshev_kan"], by=0, kind="control"),
        Beats("acc", "af_kan", "af_kan_unscaled", by=0, kind="mechanism", note="What scaling the functions adds."),
        Beats(
            "acc",
            "af_kan",
            "af_kan_batch",
            by=0,
            kind="control",
            note="Functions scaled over a row, against over the whole batch as in the authors' code.",
        ),
    ],
)


@tuned.trial
def tuned_trial(t: Trial) -> None:
    """scikit-learn's digits, cosine schedule."""
    measure(t, digits(t.seed), schedule="cosine")


fixed = Study(
    "fixed_rate",
    question="And by the authors' recipe, one small learning rate for all that shrinks by a fifth every epoch?",
    arms=("af_kan_batch", "mlp", "mlp_norm"),
    settings=dict(lr=1e-3, width=52, batch_size=64, per_epoch=16),
    smoke=dict(steps=4, width=8),
    laptop=dict(steps=240),
    paper=dict(steps=400),
    seeds=5,
    equal=("parameters", "steps"),
    claims=[
        Beats("acc", "af_kan_batch", "mlp", by=0, published=WORDS, differs="The authors' recipe, fifteen epochs."),
        Beats("acc", "af_kan_batch", "mlp_norm", by=0, kind="control"),
    ],
)


@fixed.trial
def fixed_trial(t: Trial) -> None:
    """scikit-learn's digits, the authors' schedule."""
    measure(t, digits(t.seed), schedule=lambda step: 0.8 ** (step // t.settings.per_epoch))


real = Study(
    "mnist",
    question="And on MNIST, with the published sizes?",
    arms=("af_kan", "mlp", "mlp_norm", "relu_kan"),
    settings=dict(data="mnist", lr=3e-3, width=64, batch_size=64),
    smoke=dict(steps=3, width=8, n_train=500),
    laptop=dict(steps=1_500, n_train=48_000),
    paper=dict(steps=20_000, n_train=55_000),
    seeds=3,
    grid=dict(lr=[1e-3, 3e-3, 1e-2]),
    select=("val_acc", "higher"),
    tuning=dict(steps=400),
    files={"mnist": MNIST_FILES},
    equal=("parameters", "steps"),
    claims=[
        Beats("acc", "af_kan", "mlp", by=0, published=WORDS, differs=DIFFERS),
        Beats("acc", "af_kan", "relu_kan", by=0, published=WORDS, differs=DIFFERS),
        Beats("acc", "af_kan", "mlp_norm", by=0, kind="control"),
    ],
)


@real.trial
def mnist_trial(t: Trial) -> None:
    """MNIST, cosine schedule."""
    assert t.data_root is not None
    measure(t, mnist(t.data_root, t.seed, t.settings.n_train), schedule="cosine")
