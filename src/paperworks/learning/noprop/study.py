"""NoProp-DT against end-to-end back-propagation of the same blocks (arXiv 2503.24322, Tables 1 and 2), with controls.

`paperworks run noprop`; with MNIST below the data root: `paperworks run noprop --data DIR`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.measure import saved_bytes
from paperworks.nn import MLP
from paperworks.training import Batches, fit
from paperworks.training.digits import MNIST_FILES, Rows, Split, digits, mnist

from .model import BackpropChain, NoPropDT
from .training import fit_blocks

ARMS = ("noprop", "backprop", "bp_paper", "mlp")
VARIANTS = ("deterministic", "nearest", "first_block", "last_block_noise", "last_block_zero", "block_parallel")
DIGITS = "There: MNIST, convolution blocks, 100 epochs. Here: 8 x 8 digits, blocks of linear layers, fewer epochs."
MNIST_SMALL = (
    "There: 60,000 images, convolutions of 32, 64 and 128 channels, width 256, T=10, 100 epochs. Here: a part of the "
    "training images, and fewer channels, blocks and epochs; the settings are listed with the result."
)
CHUNK = 200  # rows evaluated together: what fits into a core's cache
SEEN = 1_000  # training rows whose accuracy is reported
MEMORY = "There: memory of the GPU process, parameters and optimiser included. Here: activation bytes of one step."


def claims(differs: str, memory_factor: float) -> list[Beats | NotWorse]:
    """The same statements on either data set."""
    return [
        NotWorse("acc", "noprop", "backprop", margin=0.01, published="99.47, 99.46 % (Table 1)", differs=differs),
        Beats(
            "saved_bytes", "noprop", "backprop", by=memory_factor, kind="mechanism",
            published="0.49 against 0.87 GB on MNIST (Table 2)", differs=MEMORY,
            note="NoProp steps one block at a time, as in Algorithm 1.",
        ),
        Beats(
            "acc", "noprop", "first_block", by=0.01, kind="control",
            note="The first block alone, fed pure noise: is a chain of blocks needed at all?",
        ),
        Beats(
            "acc", "noprop", "bp_paper", by=0.01, kind="control",
            note="The paper's own chain (softmax inside every block, gates from 0.1): a handicapped baseline.",
        ),
        Beats(
            "saved_bytes", "block_parallel", "backprop", by=memory_factor, kind="control",
            note="All blocks in one batched step, as trained: its speed excludes the memory of one block.",
        ),
    ]  # fmt: skip


study = Study(
    "digits",
    question="Do blocks that are trained alone match the same blocks trained end to end, on as many block evaluations?",
    arms=ARMS,
    variants=dict.fromkeys(VARIANTS, "noprop"),
    settings=dict(data="digits", T=10, width=64, lr=1e-3, weight_decay=1e-3, batch_size=128, draws=5, n_train=0,
                  channels=[8, 16, 32]),
    smoke=dict(T=3, width=32, epochs=5),
    laptop=dict(epochs=40),
    paper=dict(epochs=100),
    seeds=10,
    grid=dict(lr=[1e-4, 3e-4, 1e-3, 3e-3]),
    select=("val_acc", "higher"),
    equal=("block_evaluations",),
    claims=claims(DIGITS, 5),
)  # fmt: skip

on_mnist = Study(
    "mnist",
    question="And with convolution blocks on MNIST?",
    arms=ARMS,
    variants=dict.fromkeys(VARIANTS, "noprop"),
    settings=dict(data="mnist", T=10, width=256, lr=1e-3, weight_decay=1e-3, batch_size=128, draws=5, n_train=0,
                  n_val=5_000, n_test=10_000, channels=[32, 64, 128]),
    smoke=dict(T=2, width=16, channels=[2, 4, 8], n_train=512, n_val=500, n_test=1_000, epochs=1, draws=1),
    laptop=dict(T=5, width=64, channels=[8, 16, 32], n_train=6_000, n_val=1_000, epochs=3, draws=2),
    paper=dict(epochs=100),
    seeds=3,
    grid=dict(lr=[1e-3, 3e-3, 1e-2, 3e-2]),
    select=("val_acc", "higher"),
    tuning=dict(epochs=1, n_test=500),
    equal=("block_evaluations",),
    claims=claims(MNIST_SMALL, 3),
    files={"mnist": MNIST_FILES},
)  # fmt: skip


class Way(NamedTuple):
    """One way to decode: labels from x and from what the blocks have seen of it; `noisy` draws are averaged."""

    predict: Callable[[Tensor, Tensor], Tensor]
    noisy: bool = True


def load(t: Trial) -> Split:
    """The data set of the setting `data`, on the trial's device; of MNIST's, the first rows to validate and test."""
    s = t.settings
    if s.data == "mnist":
        assert t.data_root is not None
        split = mnist(t.data_root, t.seed, s.n_train or None)
        split = Split(split.train, split.val.first(s.n_val), split.test.first(s.n_test))
    else:
        split = digits(t.seed)
    return Split(*(type(part)(part.x.to(t.device), part.y.to(t.device)) for part in split))


def build(method: str, s, in_shape: tuple[int, ...]) -> NoPropDT | BackpropChain | nn.Sequential:  # type: ignore[no-untyped-def]
    """The arm's network."""
    if method == "noprop":
        return NoPropDT(in_shape, 10, s.T, s.width, channels=s.channels)
    if method == "mlp":
        flat = torch.Size(in_shape).numel()
        return nn.Sequential(nn.Flatten(), MLP((flat, 4 * s.width, 4 * s.width, 10), "relu", "he_normal"))
    return BackpropChain(in_shape, 10, s.T, s.width, convex_output=method == "bp_paper", channels=s.channels)


def cross_entropy(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Of the class scores."""
    x, y = batch
    return F.cross_entropy(net(x), y)


@torch.no_grad()
def accuracy(predict, part) -> float:  # type: ignore[no-untyped-def]
    """Share of correct labels."""
    chunks = zip(part.x.split(CHUNK), part.y.split(CHUNK), strict=True)
    return sum(int((predict(x) == y).sum()) for x, y in chunks) / len(part.y)


@torch.no_grad()
def accuracies(net: NoPropDT, ways: Mapping[str, Way], part: Rows, draws: int) -> dict[str, float]:
    """Share of correct labels of each way to decode, the mean over `draws` of the noise where there is any.

    What the blocks make of the inputs is computed once for all ways and draws.
    """
    hits = dict.fromkeys(ways, 0.0)
    for x, y in zip(part.x.split(CHUNK), part.y.split(CHUNK), strict=True):
        seen = net.encode(x)
        for name, way in ways.items():
            times = draws if way.noisy else 1
            hits[name] += sum(int((way.predict(x, seen) == y).sum()) for _ in range(times)) / times
    return {name: count / len(part.y) for name, count in hits.items()}


def run_trial(t: Trial) -> None:
    """Train one arm; score it on the test part, and NoProp's single blocks too."""
    s, data = t.settings, load(t)
    torch.manual_seed(t.seed)
    net = build(t.method, s, tuple(data.train.x.shape[1:])).to(t.device)
    batches = Batches(tuple(data.train), s.batch_size, t.seed)
    steps = s.epochs * batches.steps_per_epoch
    x, y = batches(0)
    if isinstance(net, NoPropDT):
        whole = t.count(
            net, step=lambda: net.loss(x, y), unit="batch through all blocks", block_evaluations=steps * s.T
        )
        one = max(saved_bytes(lambda net=net, k=k: net.loss(x, y, k)) for k in range(1, s.T + 1))
        t.row("block_parallel", saved_bytes=whole["saved_bytes"])
        fitted = fit_blocks(net, batches, steps=steps, lr=s.lr, weight_decay=s.weight_decay, log=t.log,
                            checkpoint=t.checkpoint)  # fmt: skip
        net.eval()
        score(t, net, data, one, fitted.diverged)
        return
    evaluations = {} if t.method == "mlp" else dict(block_evaluations=steps * s.T)
    cost = t.count(net, step=lambda: cross_entropy(net, (x, y)), unit="batch through all blocks", **evaluations)
    fitted = fit(net, cross_entropy, batches, steps=steps, lr=s.lr, optimizer="adamw", weight_decay=s.weight_decay,
                 log=t.log, checkpoint=t.checkpoint)  # fmt: skip
    net.eval()

    def correct(part) -> float | None:  # type: ignore[no-untyped-def]
        return None if fitted.diverged else accuracy(lambda rows: net(rows).argmax(-1), part)

    t.row(acc=correct(data.test), val_acc=correct(data.val), train_acc=correct(data.train.first(SEEN)),
          saved_bytes=cost["saved_bytes"])  # fmt: skip


def score(t: Trial, net: NoPropDT, data: Split, saved: int, diverged: bool) -> None:
    """The whole chain, decoded in several ways, and single blocks fed noise or nothing."""
    draws, chain = t.settings.draws, Way(lambda x, seen: net.predict(x, stochastic=True, seen=seen))
    ways = {
        "chain": chain,
        "deterministic": Way(lambda x, seen: net.predict(x, seen=seen), noisy=False),
        "nearest": Way(lambda x, seen: net.predict(x, stochastic=True, decode="nearest", seen=seen)),
        "first_block": Way(lambda x, seen: net.predict_block(x, 1, seen=seen)),
        "last_block_noise": Way(lambda x, seen: net.predict_block(x, net.T, seen=seen)),
        "last_block_zero": Way(
            lambda x, seen: net.predict_block(x, net.T, x.new_zeros(len(x), net.embedding.dim), seen), noisy=False
        ),
    }
    found: dict[str, float | None] = dict.fromkeys(ways)
    val = train = None
    if not diverged:
        found |= accuracies(net, ways, data.test, draws)
        val = accuracies(net, {"chain": chain}, data.val, draws)["chain"]
        train = accuracies(net, {"chain": chain}, data.train.first(SEEN), 1)["chain"]
    t.row(acc=found.pop("chain"), val_acc=val, train_acc=train, saved_bytes=saved)
    for name, value in found.items():
        t.row(name, acc=value)
    if not diverged and t.seed == 0:
        blocks = range(1, net.T + 1)
        alone = {
            str(k): Way(lambda x, seen, k=k: net.predict_block(x, k, seen=seen), noisy=False)  # one draw each
            for k in blocks
        }
        series = {"test accuracy": list(accuracies(net, alone, data.test, 1).values())}
        t.picture("Each block alone, fed pure noise", "lines", x=list(blocks), series=series,
                  caption="block, from the noise end to the label end")  # fmt: skip


study.trial(run_trial)
on_mnist.trial(run_trial)
