"""The same network as an ANN, trained as a spiking one, converted to one, and grown by STDP (arXiv 1804.08150).

Accuracy against operations and energy, at every number of time steps. Laptop: about 6 CPU-minutes.
`paperworks run spiking`; with MNIST below the data root: `paperworks run spiking --data DIR`.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.measure import SynapticWork
from paperworks.training import Batches, fit
from paperworks.training.digits import MNIST_FILES, Rows, Split, digits, mnist

from .convert import convert_to_spiking
from .model import SpikingMLP, cost, relu_network, spiking_loss
from .stdp import STDPNetwork

SPIKING = {  # arm: how the input is encoded, whether many spikes cost
    "sg_rate": ("rate", False),
    "sg_rate_sparse": ("rate", True),
    "sg_latency": ("latency", False),
    "sg_sparse": ("latency", True),
    "sg_direct": ("direct", False),
}
ARMS = ("ann", "ann_sparse", *SPIKING)
MNIST_ARMS = ("ann", "ann_sparse", "sg_rate", "sg_sparse", "sg_direct")
CONVERTED = {"converted_rate": "rate", "converted_direct": "direct"}
FEW = "_few_steps"
VARIANTS = {
    "ann_skipping": "ann",
    "ann_sparse_skipping": "ann_sparse",
    **{name: "ann" for kind in CONVERTED for name in (kind, kind + FEW, kind + "_by_steps")},
    **{name: arm for arm in SPIKING for name in (arm + FEW, arm + "_by_steps")},
    "sg_direct_once": "sg_direct",
}
SHOWN = ("ann", "ann_skipping", "ann_sparse_skipping", "sg_sparse_by_steps", "sg_latency_by_steps", "sg_rate_by_steps",
         "sg_direct_by_steps", "converted_rate_by_steps")  # fmt: skip
COUNTED = 500  # rows of the test part, the same for all, whose operations are counted
CLOSE = 0.01  # accuracy that fewer steps may cost, on validation rows
GAP = "gaps that shrink and vanish on some tasks, in words (abstract)"
FEWER = "typically far fewer operations, in words (abstract)"
DIFFERS = "There: a review of many networks and data sets. Here: one small perceptron on digits, trained in each way."


def claims(steps: str, rate: str) -> list[Beats | NotWorse]:
    """The review's two statements, and what could explain them away; `rate`: the arm whose pixels are firing rates."""
    few = f"At the fewest of {steps} steps that keep the accuracy within a point of the network's best on validation."
    return [
        NotWorse("acc", "sg_direct", "ann", margin=0.01, published=GAP, differs=DIFFERS,
                 note="Pixels as constant currents; the number of steps with the best accuracy on validation."),
        NotWorse("acc", "sg_sparse" + FEW, "ann", margin=0.01, published=GAP, differs=DIFFERS, note=few),
        Beats("operations", "sg_sparse" + FEW, "ann", by=1, published=FEWER, differs=DIFFERS,
              note=few + " Each pixel spikes once, and firing is penalised."),
        Beats("nanojoules", "sg_sparse" + FEW, "ann", by=1, better="lower", scale="ratio", published=FEWER,
              differs=DIFFERS, note="Operations of layers at 4.6 and 0.9 pJ; memory and neuron updates left out."),
        Beats("operations", rate + FEW, "ann", by=1, kind="control",
              note="Pixels as firing rates, as most of the field encodes them. " + few),
        NotWorse("acc", "converted_rate", "ann", margin=0.01, kind="control",
                 note="The ANN converted, pixels as firing rates, the number of steps best on validation."),
        Beats("operations", "converted_rate" + FEW, "ann", by=1, kind="control", note=few),
        Beats("operations", "sg_direct" + FEW, "ann", by=1, kind="control",
              note=few + " Its first layer multiplies at every step."),
        Beats("operations", "sg_sparse" + FEW, "ann_skipping", by=1, kind="control",
              note="The same ANN on hardware that skips inputs of zero, as spiking hardware does."),
        Beats("operations", "sg_sparse" + FEW, "ann_sparse_skipping", by=1, kind="control",
              note="An ANN that skips zeros and whose activations are penalised, as the spikes are."),
        Beats("nanojoules", "sg_sparse" + FEW, "ann_sparse_skipping", by=1, better="lower", scale="ratio",
              kind="control", note="Energy against that ANN."),
        Beats("nanojoules_with_updates", "sg_sparse" + FEW, "ann_sparse_skipping", by=1, better="lower",
              scale="ratio", kind="control", note="And with every membrane update charged as a multiplication."),
    ]  # fmt: skip


study = Study(
    "digits",
    question="Does a spiking network match the ANN of the same layers, and with fewer operations and less energy?",
    arms=ARMS,
    variants=VARIANTS,
    settings=dict(data="digits", width=128, lr=3e-3, batch_size=64, penalty=10.0, target=0.05, ann_penalty=1.0,
                  n_train=0, percentile=99.9),
    smoke=dict(steps=10, times=[1, 2], times_converted=[2, 4], width=32),
    laptop=dict(steps=480, times=[1, 2, 4, 8, 16], times_converted=[2, 4, 8, 16, 32, 64, 128]),
    paper=dict(steps=1_600, times=[1, 2, 4, 8, 16, 32], times_converted=[2, 4, 8, 16, 32, 64, 128, 256]),
    seeds=5,
    grid=dict(lr=[3e-4, 1e-3, 3e-3, 1e-2, 3e-2]),
    select=("val_acc", "higher"),
    tuning=dict(times=[4], times_converted=[4]),
    equal=("parameters", "steps"),
    trade_off=("operations", "acc", SHOWN),
    claims=claims("1, 2, 4, 8 and 16", "sg_rate_sparse"),
)  # fmt: skip

on_mnist = Study(
    "mnist",
    question="And on MNIST?",
    arms=MNIST_ARMS,
    variants={name: arm for name, arm in VARIANTS.items() if arm in MNIST_ARMS},
    settings=dict(data="mnist", width=256, lr=3e-3, batch_size=128, penalty=10.0, target=0.05, ann_penalty=0.3,
                  percentile=99.9),
    smoke=dict(steps=2, times=[1, 2], times_converted=[2], width=16, n_train=256, n_val=100, n_test=100),
    laptop=dict(steps=600, times=[4], times_converted=[4, 16], n_train=48_000, n_val=2_000,
                n_test=10_000),
    paper=dict(steps=9_000, times=[1, 2, 4, 8, 16], times_converted=[4, 16, 64, 256], width=1_000, n_train=55_000,
               n_val=5_000, n_test=10_000),
    seeds=3,
    grid=dict(lr=[1e-3, 3e-3, 1e-2, 3e-2]),
    select=("val_acc", "higher"),
    tuning=dict(steps=100, times_converted=[4], n_test=500),
    files={"mnist": MNIST_FILES},
    equal=("parameters", "steps"),
    trade_off=("operations", "acc", [name for name in SHOWN if name != "sg_latency_by_steps"]),
    claims=claims("the tried", "sg_rate"),
)  # fmt: skip

stdp = Study(
    "stdp",
    question="What do neurons learn that are given no label, beyond what the same neurons with random weights know?",
    arms=("stdp", "random"),
    variants={"stdp_probe": "stdp", "random_probe": "random", "pixels_probe": "random"},
    settings=dict(n_neurons=100, batch_size=1, theta_step=0.2, lr=0.01),
    smoke=dict(n_neurons=10, passes=1, n_train=60, batch_size=10),
    laptop=dict(passes=2, n_train=0),
    paper=dict(passes=3, n_neurons=400, n_train=0),
    seeds=5,
    grid=dict(lr=[1e-3, 3e-3, 1e-2, 3e-2, 1e-1]),
    select=("val_acc", "higher"),
    tuning=dict(passes=1),
    claims=[
        Beats("acc", "stdp", "random", by=0.01, kind="mechanism", published="95 % on MNIST (Diehl & Cook 2015)",
              differs="There: MNIST, 6400 neurons, many passes. Here: 8 x 8 digits, 100 neurons.",
              note="Labels are given to neurons afterwards; the random neurons' thresholds adapt as well."),
        Beats("acc", "stdp_probe", "random_probe", by=0.01, kind="control",
              note="A linear classifier on spike counts: do the learnt weights carry more than random ones?"),
        NotWorse("acc", "stdp_probe", "pixels_probe", margin=0.01, kind="control",
                 note="The same classifier on the pixels themselves."),
    ],
)  # fmt: skip


def load(t: Trial) -> Split:
    """Rows of the setting `data`, images flattened, the first of each part."""
    if t.settings.data == "digits":
        return digits(t.seed)
    assert t.data_root is not None
    sizes = (t.settings.n_train, t.settings.n_val, t.settings.n_test)
    split = mnist(t.data_root, t.seed, t.settings.n_train)
    return Split(*(Rows(part.x[:n].flatten(1), part.y[:n]) for part, n in zip(split, sizes, strict=True)))


def plain_loss(net: nn.Sequential, batch: tuple[Tensor, ...], penalty: float = 0.0) -> Tensor:
    """Cross-entropy, plus `penalty` times the mean activation of the hidden layer."""
    x, y = batch
    hidden = net[:3](x)
    return F.cross_entropy(net[3:](hidden), y) + (penalty * hidden.mean() if penalty else 0.0)


@torch.no_grad()
def accuracy(net: Callable[[Tensor], Tensor], rows: Rows) -> float:
    """Share of right answers, a part of the rows at a time."""
    right = [(net(x).argmax(1) == y).sum() for x, y in zip(rows.x.split(1000), rows.y.split(1000), strict=True)]
    return float(torch.stack(right).sum()) / len(rows.y)


def train(t: Trial, net: nn.Module, loss: Callable[[Any, Any], Tensor], data: Split, count: bool = True) -> bool:
    """One network, cosine schedule; whether it stayed finite."""
    s = t.settings
    batches = Batches(tuple(data.train), s.batch_size, t.seed)
    if count:
        t.count(net, step=lambda: loss(net, batches(0)), unit="batch")
    fitted = fit(net, loss, batches, steps=s.steps, lr=s.lr, schedule="cosine", log=t.log if count else None)
    net.eval()
    return not fitted.diverged


def energies(work: SynapticWork, skip_zeros: bool = False) -> dict[str, float]:
    """What a sample costs: operations of layers, and their energy without and with neuron updates."""
    macs = work.skipping_macs if skip_zeros else work.macs
    return {
        "operations": macs + work.synaptic_operations,
        "macs": macs,
        "synaptic_operations": work.synaptic_operations,
        "nanojoules": work.nanojoules(skip_zeros=skip_zeros),
        "nanojoules_with_updates": work.nanojoules(skip_zeros=skip_zeros, updates=True),
    }


def report(t: Trial, name: str, found: list[dict[str, Any]]) -> None:
    """Rows by number of steps, at the best on validation, and at the fewest that come within `CLOSE` of it."""
    for row in found:
        t.row(f"{name}_by_steps", f"steps={row['time_steps']}", **row)
    scores = [row["val_acc"] or 0.0 for row in found]
    best = scores.index(max(scores))
    few = next(i for i, score in enumerate(scores) if score >= scores[best] - CLOSE)
    t.row(name, **found[best])
    t.row(name + FEW, **found[few])


def spiking_arm(t: Trial, data: Split) -> None:
    """Train a network at each number of steps."""
    s = t.settings
    encoding, sparse = SPIKING[t.arm]
    loss = functools.partial(spiking_loss, penalty=s.penalty, target=s.target) if sparse else spiking_loss
    found = []
    for steps in s.times:
        torch.manual_seed(t.seed)
        net = SpikingMLP((data.train.x.shape[1], s.width, 10), steps, encoding, bias=False)
        fine = train(t, net, loss, data, count=steps == s.times[-1])
        work = cost(net, data.test.x[:COUNTED])
        found.append({
            "time_steps": steps, "acc": accuracy(net, data.test) if fine else None,
            "val_acc": accuracy(net, data.val) if fine else None, **energies(work),
            "firing_rate": work.layers["layers.1"][2] / 10 / s.width / steps,
        })  # fmt: skip
        if encoding == "direct":
            found[-1]["macs_if_first_layer_once"] = work.layers["layers.0"][0] / steps
    report(t, t.arm, found)
    if encoding == "direct":  # the other reading of its cost: the products of a constant input computed once
        once = [row | {"operations": row["macs"] / row["time_steps"] + row["synaptic_operations"],
                       "nanojoules": row["nanojoules"] - 4.6e-3 * (1 - 1 / row["time_steps"]) * row["macs"]}
                for row in found]  # fmt: skip
        best = max(once, key=lambda row: row["val_acc"] or 0.0)
        t.row("sg_direct_once", acc=best["acc"], operations=best["operations"], nanojoules=best["nanojoules"])


def ann_arm(t: Trial, data: Split) -> None:
    """Train the ANN, count it dense and skipping zeros; convert it."""
    s = t.settings
    torch.manual_seed(t.seed)
    net = relu_network(SpikingMLP((data.train.x.shape[1], s.width, 10), bias=False))
    fine = train(t, net, functools.partial(plain_loss, penalty=s.ann_penalty * (t.arm == "ann_sparse")), data)
    scores = {"acc": accuracy(net, data.test) if fine else None, "val_acc": accuracy(net, data.val) if fine else None}
    work = cost(net, data.test.x[:COUNTED])
    t.row(None, None, **scores, **energies(work))
    t.row(f"{t.arm}_skipping", None, **scores, **energies(work, skip_zeros=True))
    if t.arm != "ann":
        return
    for name, encoding in CONVERTED.items():
        found = []
        for steps in s.times_converted:
            spiking = convert_to_spiking(
                net, data.train.x[:1000], steps=steps, percentile=s.percentile, encoding=encoding
            )
            draw = functools.partial(spiking, generator=torch.Generator().manual_seed(t.seed))
            found.append({
                "time_steps": steps, "acc": accuracy(draw, data.test) if fine else None,
                "val_acc": accuracy(draw, data.val) if fine else None, **energies(cost(spiking, data.test.x[:COUNTED])),
            })  # fmt: skip
        report(t, name, found)


def run_trial(t: Trial) -> None:
    """One arm."""
    data = load(t)
    (spiking_arm if t.arm in SPIKING else ann_arm)(t, data)


study.trial(run_trial)
on_mnist.trial(run_trial)


def probe(train_x: Tensor, train_y: Tensor, *others: Rows) -> list[float]:
    """Accuracy of logistic regression on standardised features, for each of the others."""
    from sklearn.linear_model import LogisticRegression

    mean, std = train_x.mean(0), train_x.std(0) + 1e-6
    fitted = LogisticRegression(max_iter=300).fit(((train_x - mean) / std).numpy(), train_y.numpy())
    return [float(fitted.score(((rows.x - mean) / std).numpy(), rows.y.numpy())) for rows in others]


@stdp.trial
def stdp_trial(t: Trial) -> None:
    """Show the rows without labels, then label the neurons, and read the counts with a linear classifier."""
    s, data = t.settings, digits(t.seed)
    rows = Rows(*(part[: s.n_train or None] for part in data.train))
    torch.manual_seed(t.seed)
    net = STDPNetwork(64, s.n_neurons, theta_step=s.theta_step)
    before = net.fields((8, 8))[:24].clone()
    lr = s.lr if t.arm == "stdp" else 0.0
    fired = net.learn(rows.x, passes=s.passes, batch_size=s.batch_size, lr=lr, seed=t.seed)
    draw = torch.Generator().manual_seed(t.seed)
    net.assign_labels(rows.x, rows.y, draw)
    acc, val_acc = (float((net.predict(part.x, draw) == part.y).float().mean()) for part in (data.test, data.val))
    t.row(acc=acc, val_acc=val_acc, spikes_per_sample=fired[-1])
    counts = [Rows(net.respond(part.x, draw), part.y) for part in (data.test, data.val)]
    of_test, of_val = probe(net.respond(rows.x, draw), rows.y, *counts)
    t.row(f"{t.arm}_probe", acc=of_test, val_acc=of_val)
    if t.arm == "random":
        of_test, of_val = probe(*rows, data.test, data.val)
        t.row("pixels_probe", acc=of_test, val_acc=of_val)
    elif t.seed == 0:
        t.picture("Weights of 24 neurons before learning", "images", images=before, columns=8)
        t.picture("Weights of the same neurons after learning", "images", images=net.fields((8, 8))[:24], columns=8,
                  caption="nobody told them what a digit is")  # fmt: skip
