"""NoProp-DT against end-to-end back-propagation of the same blocks (arXiv 2503.24322, Tables 1 and 2), with controls.

`paperworks run noprop`; with MNIST below the data root: `paperworks run noprop --data DIR`.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, NotWorse, Study, Trial
from paperworks.measure import saved_bytes
from paperworks.nn import MLP
from paperworks.training import Batches, fit
from paperworks.training.digits import MNIST_FILES, Split, digits, mnist

from .model import BackpropChain, NoPropDT
from .training import fit_blocks

ARMS = ("noprop", "backprop", "bp_paper", "mlp")
VARIANTS = ("deterministic", "nearest", "first_block", "last_block_noise", "last_block_zero", "block_parallel")
DIGITS = "There: MNIST, convolution blocks, 100 epochs. Here: 8 x 8 digits, blocks of linear layers, fewer epochs."
MNIST_SMALL = (
    "There: 60,000 images, convolutions of 32, 64 and 128 channels, width 256, T=10, 100 epochs. Here: a part of the "
    "training images, and fewer channels, blocks and epochs; the settings are listed with the result."
)
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
                  channels=[32, 64, 128]),
    smoke=dict(T=2, width=16, channels=[2, 4, 8], n_train=512, epochs=1, draws=1),
    laptop=dict(T=5, width=64, channels=[8, 16, 32], n_train=6_000, epochs=4, draws=2),
    paper=dict(epochs=100),
    seeds=3,
    equal=("block_evaluations",),
    claims=claims(MNIST_SMALL, 3),
    files={"mnist": MNIST_FILES},
)  # fmt: skip


def load(t: Trial) -> Split:
    """The data set of the setting `data`, on the trial's device."""
    if t.settings.data == "mnist":
        assert t.data_root is not None
        split = mnist(t.data_root, t.seed, t.settings.n_train or None)
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
def accuracy(predict, part, draws: int = 1) -> float:  # type: ignore[no-untyped-def]
    """Share of correct labels, the mean over `draws` of the inference noise."""
    chunks = list(zip(part.x.split(1000), part.y.split(1000), strict=True))
    hits = sum(int((predict(x) == y).sum()) for _ in range(draws) for x, y in chunks)
    return hits / (draws * len(part.y))


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

    t.row(acc=correct(data.test), val_acc=correct(data.val), train_acc=correct(data.train),
          saved_bytes=cost["saved_bytes"])  # fmt: skip


def score(t: Trial, net: NoPropDT, data: Split, saved: int, diverged: bool) -> None:
    """The whole chain, decoded in several ways, and single blocks fed noise or nothing."""
    draws, test = t.settings.draws, data.test
    ways: dict[str | None, Callable[[Tensor], Tensor]] = {
        None: lambda x: net.predict(x, stochastic=True),
        "deterministic": lambda x: net.predict(x),
        "nearest": lambda x: net.predict(x, stochastic=True, decode="nearest"),
        "first_block": lambda x: net.predict_block(x, 1),
        "last_block_noise": lambda x: net.predict_block(x, net.T),
        "last_block_zero": lambda x: net.predict_block(x, net.T, x.new_zeros(len(x), net.embedding.dim)),
    }
    for name, predict in ways.items():
        metrics: dict[str, float | None] = {"acc": None if diverged else accuracy(predict, test, draws)}
        if name is None:
            metrics["val_acc"] = None if diverged else accuracy(predict, data.val, draws)
            metrics["train_acc"] = None if diverged else accuracy(predict, data.train)
            metrics["saved_bytes"] = saved
        t.row(name, None, **metrics)
    if not diverged and t.seed == 0:
        blocks = range(1, net.T + 1)
        alone = [accuracy(lambda x, k=k: net.predict_block(x, k), test) for k in blocks]
        t.picture("Each block alone, fed pure noise", "lines", x=list(blocks), series={"test accuracy": alone},
                  caption="block, from the noise end to the label end")  # fmt: skip


study.trial(run_trial)
on_mnist.trial(run_trial)
