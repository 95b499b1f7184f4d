"""Bidirectional learning against plain back-propagation under attacks and noise (arXiv 1805.08006), with controls.

Laptop: about 5 CPU-minutes, MNIST included. `paperworks run bidirectional --data DIR`
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.measure import Robustness, add_noise, fgsm, robustness_report
from paperworks.training import Batches, fit
from paperworks.training.digits import MNIST_FILES, Rows, Split, digits, mnist

from .model import BidirectionalNet, Discriminator
from .training import Iteration, fit_bidirectional

METRICS = {"fgsm": "fgsm", "fgsm_true": "fgsm_true", "fgsm_float64": "fgsm_float64", "margin_pgd": "pgd",
           "transfer": "transfer", "worst": "worst", "positive": "noisy", "uniform": "uniform",
           "gaussian": "gaussian"}  # fmt: skip
MODES = {"bp": "bp", "bl": "bl", "bl_then_bp": "bl_then_bp", "han": "bl",
         "bl_any_label": "bl"}  # fmt: skip
DIFFERS = (
    "There: MNIST at eps 0.3, up to 500,000 iterations, one run, the iteration with the best test accuracy. Here: "
    "8 x 8 digits at eps 0.1, since at 0.3 no network is left standing; the last iteration."
)
ROBUST = "A gain in robustness needs this and its companion, margin PGD and the transferred attack, both."
SCALED = "The plain network with its last weights times 1,000: the same decisions, the gradient rounded to zero."


def build(s: Any, in_shape: tuple[int, ...]) -> tuple[BidirectionalNet, Discriminator]:
    """The network, and the judge that hybrid arms train it against, on the setting `net`."""
    if s.net == "conv":  # the published convolutional network, smaller
        convs = ((s.width // 2, 4, 2), (s.width, 4, 2))
        net = BidirectionalNet(in_shape, 10, (2 * s.width,), convs, conv_activation="leaky_relu", bias=False,
                               classifier_norms=(1,), generator_norms=(3, 2), std=s.std)  # fmt: skip
        return net, Discriminator(in_shape, (2 * s.width,), convs, "leaky_relu", norms=(1,), std=s.std)
    return BidirectionalNet(in_shape, 10, (s.width,), bias=False), Discriminator(in_shape, (s.width,))


def any_label(y: Tensor) -> Tensor:
    """A label drawn without looking: the generator then learns one mean image, whatever it is told."""
    return F.one_hot(torch.randint(0, 10, y.shape), 10).float()


def adversarial_loss(eps: float) -> Any:
    """Cross-entropy on one-step examples from a random start: training that is known to give robustness."""

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        x, y = batch
        moved = fgsm(net, add_noise(x, "uniform", eps), y, 1.25 * eps)
        return F.cross_entropy(net(torch.minimum(torch.maximum(moved, x - eps), x + eps)), y)

    return loss


def train(t: Trial, split: Split, val: Rows) -> tuple[BidirectionalNet, bool]:
    """The arm's network, trained, and whether it diverged; its robustness on validation rows goes to the curves."""
    s, shape = t.settings, tuple(split.train.x.shape[1:])
    torch.manual_seed(t.seed)
    net, judge = build(s, shape)
    batches = Batches(tuple(split.train), s.batch_size, t.seed)

    def validate() -> dict[str, float]:
        found = robustness_report(net, *val, (s.eps,), attacks=("fgsm", "margin_pgd"), noises=())
        return {
            "val_acc": found.clean_accuracy,
            "val_fgsm": found.accuracy("fgsm", s.eps),
            "val_pgd": found.accuracy("margin_pgd", s.eps),
            "val_zero_gradient": found.zero_gradient_fraction,
        }

    options: dict[str, Any] = dict(steps=s.steps, lr=s.lr, log=t.log, checkpoint=t.checkpoint, validate=validate,
                                   validate_every=max(10, s.steps // 10))  # fmt: skip
    if t.method == "adversarial":
        loss = adversarial_loss(s.eps)
        x, y = batches(0)  # two passes: the counter cannot follow the one that makes the example
        t.count(net, step=lambda: F.cross_entropy(net(x), y) + F.cross_entropy(net(x), y), unit="batch")
        return net, fit(net, loss, batches, **options).diverged
    how: dict[str, Any] = dict(mode=MODES[t.method], betas=(s.beta1, 0.999),
                               discriminator=judge if t.method.startswith("han") else None,
                               generator_lr=s.lr * s.generator_factor, discriminator_lr=s.lr * s.discriminator_factor,
                               condition=any_label if t.method == "bl_any_label" else None)  # fmt: skip
    t.count(net, step=lambda: Iteration(net, steps=s.steps, **how).all_losses(batches(0)), unit="batch")
    return net, fit_bidirectional(net, batches, **how, **options).diverged


def independent(t: Trial, split: Split) -> nn.Module | None:
    """A plain network of the same form and another seed, to make examples with; none while tuning."""
    s = t.settings
    if not s.source_steps:
        return None
    torch.manual_seed(t.seed + 500)
    net, _ = build(s, tuple(split.train.x.shape[1:]))
    batches = Batches(tuple(split.train), s.batch_size, t.seed + 500)
    fit_bidirectional(net, batches, steps=s.source_steps, mode="bp", lr=1e-3)
    return net


def run_trial(t: Trial) -> None:
    """Train one arm, attack it at every radius, and the plain network again with its logits scaled."""
    s = t.settings
    if s.get("data") == "mnist":
        assert t.data_root is not None
        parts = mnist(t.data_root, t.seed, s.n_train)
        split = Split(*(Rows(part.x.flatten(1), part.y) for part in parts))
    else:
        split = digits(t.seed, image=s.net == "conv")
    val, test = (Rows(part.x[: s.attacked], part.y[: s.attacked]) for part in (split.val, split.test))
    net, diverged = train(t, split, val)
    if diverged:
        t.row(acc=None, val_score=None, zero_gradient=None)
        for eps in s.radii:
            t.row(None, f"eps={eps:g}", **dict.fromkeys(METRICS.values()))
        return
    source = independent(t, split)
    net.eval()
    with torch.no_grad():
        acc, val_acc = (float((net(part.x).argmax(1) == part.y).float().mean()) for part in (split.test, split.val))
    tuned = robustness_report(net, *val, (s.eps,), attacks=("margin_pgd",), noises=())
    found = robustness_report(net, *test, s.radii, source=source, seed=t.seed)
    t.row(acc=acc, val_acc=val_acc, val_score=(val_acc + tuned.accuracy("margin_pgd", s.eps)) / 2,
          zero_gradient=found.zero_gradient_fraction)  # fmt: skip
    report(t, None, found)
    if t.seed == 0:
        pictures(t, net, found, Rows(*test))
    if t.arm == "bp":
        net.layers[-1].weight.data *= 1000  # type: ignore[operator]
        scaled = robustness_report(net, *test, s.radii, source=source, seed=t.seed)
        t.row("bp_scaled", zero_gradient=scaled.zero_gradient_fraction)
        report(t, "bp_scaled", scaled)
        if t.seed == 0:
            masked(t, found, scaled)


def report(t: Trial, variant: str | None, found: Robustness) -> None:
    """One row a radius."""
    for place, eps in enumerate(found.eps):
        accuracies = {METRICS[name]: counts[place] / found.total for name, counts in found.right.items()}
        t.row(variant, f"eps={eps:g}", **accuracies)


def masked(t: Trial, plain: Robustness, scaled: Robustness) -> None:
    """Two attacks on one network, before and after its logits were multiplied."""
    series = {}
    for attack, name in (("fgsm", "FGSM"), ("margin_pgd", "margin PGD")):
        for found, label in ((plain, ""), (scaled, ", x 1,000")):
            series[name + label] = [found.accuracy(attack, eps) for eps in found.eps]
    t.picture("The same decisions, once with logits x 1,000", "lines", x=list(plain.eps), series=series, x_label="eps",
              y_label="test accuracy", caption="Nothing became robust: the gradient is gone.")  # fmt: skip


def pictures(t: Trial, net: BidirectionalNet, found: Robustness, test: Rows) -> None:
    """All curves of one network, and what it draws when its weights are read backwards."""
    shown = found.curves()
    del shown["FGSM, true label"]  # eight lines are told apart
    t.picture(f"{t.arm}: accuracy under attack and noise", "lines", x=[0, *found.eps], series=shown,
              x_label="eps", y_label="test accuracy", caption=f"{found.total} test rows")  # fmt: skip
    if not t.method.startswith(("bl", "han")):
        return
    with torch.no_grad():
        torch.manual_seed(0)
        v = torch.eye(10) if t.method.startswith("bl") else 2 * torch.rand(10, 10) - 1
        made = net.generate(v).sigmoid()
    side = int(made[0].numel() ** 0.5)
    names = [str(c) for c in range(10)] if t.method.startswith("bl") else [f"noise {i + 1}" for i in range(10)]
    t.picture(
        f"{t.arm}: what the transposed weights draw",
        "images",
        images=made.reshape(10, side, side),
        labels=names,
        colours=["grey"] * 10,
        columns=5,
        caption="The sigmoid of the generator's output",
    )


def gains(method: str, cell: str, **more: Any) -> list[Any]:
    """The published attack, then the two that masking does not stop."""
    return [
        Beats("fgsm", method, "bp", by=0, cell=cell, **more),
        Beats("pgd", method, "bp", by=0, cell=cell, kind="control", note=ROBUST),
        Beats("transfer", method, "bp", by=0, cell=cell, kind="control", note=ROBUST),
    ]


FAR, NEAR = "eps=0.3", "eps=0.1"
COMMON: dict[str, Any] = dict(
    net="dense", batch_size=100, radii=[0.05, 0.1, 0.2, 0.3], eps=0.1, std=0.1, attacked=2_000, beta1=0.9
)
SMOKE: dict[str, Any] = dict(steps=10, source_steps=5, attacked=40, radii=[0.1, 0.3])

tuned = Study(
    "digits",
    question="At the learning rates that serve each best, does learning in both directions make a classifier robust?",
    arms=("bp", "bl", "bl_then_bp", "han", "bl_any_label", "adversarial"),
    variants={"bp_scaled": "bp"},
    settings=COMMON | dict(width=128, lr=1e-3, generator_factor=1.0, discriminator_factor=0.2),
    smoke=SMOKE | dict(width=16),
    laptop=dict(steps=1_500, source_steps=1_500),
    paper=dict(steps=50_000, source_steps=50_000),
    per_arm={"han": dict(beta1=0.5, generator_factor=0.2)},
    seeds=5,
    grid=dict(lr=[3e-5, 1e-4, 3e-4, 1e-3, 3e-3]),
    select=("val_score", "higher"),
    tuning=dict(source_steps=0, attacked=180),
    equal_time={"bp_equal_time": ("bp", "bl")},
    equal=("parameters", "steps"),
    claims=[
        *gains("bl", NEAR, published="0.042 to 0.601 without hidden layer and bias (appendix)", differs=DIFFERS),
        *gains("han", NEAR, published="0.052 to 0.534 with 128 units, no bias (appendix)", differs=DIFFERS),
        Beats("noisy", "bl", "bp", by=0, cell=NEAR, published="robustness against noise, in words (abstract)",
              differs="The paper's tables show lower accuracy under noise in most rows."),
        NotWorse("acc", "bl", "bp", margin=0.01, kind="control", note="What it costs on clean images."),
        Beats("pgd", "bl_then_bp", "bp", by=0, cell=NEAR),
        Beats("pgd", "bl", "bp_equal_time", by=0, cell=NEAR, kind="control", equal=("parameters", "seconds"),
              note="Plain back-propagation for as long as bidirectional learning takes."),
        Beats("pgd", "bl", "bl_any_label", by=0, cell=NEAR, kind="mechanism",
              note="The generator told random labels: the same steps without knowledge of classes."),
        Beats("pgd", "bl", "adversarial", by=0, cell=NEAR, kind="control",
              note="Training on one-step adversarial examples, which costs as many passes."),
        Beats("fgsm", "bl", "bp_scaled", by=0, cell=NEAR, kind="control", note=SCALED),
    ],
)  # fmt: skip

same_rate = Study(
    "same_rate",
    question="And at one learning rate for all, as the paper compares?",
    arms=("bp", "bl", "bl_then_bp", "han"),
    variants={"bp_scaled": "bp"},
    settings=COMMON | dict(width=128, lr=1e-3, generator_factor=1.0, discriminator_factor=0.2),
    smoke=SMOKE | dict(width=16),
    laptop=dict(steps=2_000, source_steps=2_000),
    paper=dict(steps=50_000, source_steps=50_000),
    per_arm={"han": dict(beta1=0.5)},
    seeds=5,
    equal=("parameters", "steps"),
    claims=[
        *gains("bl", NEAR, published="0.042 to 0.601 without hidden layer and bias (appendix)", differs=DIFFERS),
        *gains("han", NEAR, published="0.052 to 0.534 with 128 units, no bias (appendix)", differs=DIFFERS),
        Beats("noisy", "bl", "bp", by=0, cell=FAR, published="robustness against noise, in words (abstract)"),
        Beats("fgsm", "bl", "bp_scaled", by=0, cell=NEAR, kind="control", note=SCALED),
    ],
)

convolutional = Study(
    "conv",
    question="And with convolutions and batch norms, the form of the headline network, at the published rates?",
    arms=("bp", "han"),
    variants={"bp_scaled": "bp"},
    settings=COMMON | dict(net="conv", width=32, lr=2e-4, beta1=0.5, generator_factor=5.0, discriminator_factor=1.0),
    smoke=SMOKE | dict(width=4),
    laptop=dict(steps=800, source_steps=400),
    paper=dict(steps=50_000, source_steps=50_000),
    seeds=3,
    equal=("parameters", "steps"),
    claims=[
        *gains("han", NEAR, published="0.051 to 0.957 with 6.6 million weights (appendix)", differs=DIFFERS),
        Beats("fgsm", "han", "bp_scaled", by=0, cell=NEAR, kind="control", note=SCALED),
    ],
)

real = Study(
    "mnist",
    question="And on MNIST, at the published radius of 0.3?",
    arms=("bp", "bl", "han"),
    variants={"bp_scaled": "bp"},
    settings=COMMON | dict(data="mnist", width=128, lr=1e-3, beta1=0.5, generator_factor=5.0,
                           discriminator_factor=1.0),
    smoke=SMOKE | dict(width=16, n_train=500),
    laptop=dict(steps=3_000, source_steps=1_500, n_train=55_000, attacked=1_000),
    paper=dict(steps=500_000, source_steps=50_000, n_train=55_000, attacked=10_000),
    seeds=3,
    grid=dict(lr=[2e-4, 1e-3, 3e-3, 1e-2]),
    select=("val_acc", "higher"),
    tuning=dict(steps=500, source_steps=0, attacked=100),
    files={"mnist": MNIST_FILES},
    equal=("parameters", "steps"),
    claims=[
        Beats("fgsm", "han", "bp", by=0, cell=FAR, published="0.052 to 0.534 (appendix)",
              differs="There: up to 500,000 iterations, the one with the best test accuracy, one run."),
        Beats("fgsm", "bl", "bp", by=0, cell=FAR),
        Beats("fgsm_float64", "han", "bp", by=0, cell=FAR, kind="control", note="The same attack without rounding."),
        Beats("pgd", "han", "bp", by=0, cell=NEAR, kind="control", note=ROBUST),
        Beats("transfer", "han", "bp", by=0, cell=NEAR, kind="control", note=ROBUST),
        Beats("pgd", "bl", "bp", by=0, cell=NEAR, kind="control", note=ROBUST),
        Beats("transfer", "bl", "bp", by=0, cell=NEAR, kind="control", note=ROBUST),
        Beats("fgsm", "han", "bp_scaled", by=0, cell=FAR, kind="control", note=SCALED),
        Beats("noisy", "han", "bp", by=0, cell=NEAR, published="0.933 to 0.487 with 128 units, no bias (appendix)"),
        NotWorse("acc", "han", "bp", margin=0.01, kind="control", published="0.980 to 0.950 (appendix)"),
    ],
)  # fmt: skip

for each in (tuned, same_rate, convolutional, real):
    each.trial(run_trial)
