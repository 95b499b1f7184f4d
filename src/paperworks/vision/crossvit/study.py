"""CrossViT against the single branch it extends, and against equally costly single branches (arXiv 2103.14899).

Laptop: about 9 CPU-minutes. `paperworks run crossvit`
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.lab import Beats, Reaches, Study, Trial
from paperworks.training import Batches, fit
from paperworks.vision.digits_data import Canvas, cluttered_digits, split_glyphs
from paperworks.vision.vit import VisionTransformer

from .model import CrossViT, crossvit_toy

DIFFERS = (
    "There: ImageNet-1k at 240 pixels, 300 epochs, one run. Here: digits of random size on canvases of 32 pixels, "
    "widths 24 and 48, initial weights scaled to the width, because the published initialisation stalls there."
)

study = Study(
    "digits",
    question="Does a second branch with smaller patches, joined by cross-attention, classify better than one branch?",
    arms=("cross", "vit8", "vit8_wide", "vit4", "nofuse"),
    variants={
        "cross_small_branch": "cross",
        "cross_large_branch": "cross",
        "nofuse_small_branch": "nofuse",
        "nofuse_large_branch": "nofuse",
    },
    settings=dict(lr=2e-3, weight_decay=0.05, label_smoothing=0.1, noise=0.05, smallest=20, largest=32, init_gain=1.2),
    smoke=dict(n_train=200, n_test=200, batch_size=16, steps=8, warmup=2),
    laptop=dict(n_train=6_000, n_test=2_000, batch_size=16, steps=700, warmup=50),
    paper=dict(n_train=60_000, n_test=10_000, batch_size=64, steps=30_000, warmup=500),
    seeds=5,
    grid=dict(lr=[5e-4, 1e-3, 2e-3, 4e-3]),
    select=("val_acc", "higher"),
    tuning=dict(steps=400),
    equal_time={"vit8_equal_time": ("vit8", "cross")},
    claims=[
        Beats(
            "acc",
            "cross",
            "vit8",
            by=0,
            equal=("steps",),
            published="81.0 against 79.8 % top-1 (table 2, CrossViT-S and DeiT-S)",
            differs=DIFFERS,
            note="As in the paper, the baseline is the large branch alone, which costs about half the operations.",
        ),
        Beats(
            "acc",
            "cross",
            "vit8_equal_time",
            by=0,
            equal=("seconds",),
            note="The large branch alone, trained as long as CrossViT trains.",
        ),
        Beats(
            "acc",
            "cross",
            "vit8_wide",
            by=0,
            kind="control",
            equal=("operations", "steps"),
            note="One branch with large patches, made wider until a step costs the same.",
        ),
        Beats(
            "acc",
            "cross",
            "vit4",
            by=0,
            kind="control",
            equal=("operations", "steps"),
            note="One branch with small patches at the same cost.",
        ),
        Beats(
            "acc",
            "cross",
            "nofuse",
            by=0,
            kind="control",
            equal=("steps",),
            published="81.0 against 80.2 % (table 6, cross-attention against none)",
            differs=DIFFERS,
            note="Both branches without any exchange: is it the exchange, or the second scale?",
        ),
        Beats(
            "acc",
            "cross_small_branch",
            "nofuse_small_branch",
            by=0,
            kind="mechanism",
            equal=("steps",),
            published="the small branch alone: 47.2 % with cross-attention, 0.1 % without (table 6)",
            differs=DIFFERS,
        ),
        Reaches("acc", "cross", 0.2, kind="mechanism", note="It trains at all: chance is 0.1."),
    ],
)


def build(t: Trial) -> nn.Module:
    """The arm's network; vit8_wide and vit4 are sized to CrossViT's operations."""
    gain = t.settings.init_gain
    if t.method in ("cross", "nofuse"):
        return crossvit_toy(in_chans=1, fusion="cross" if t.method == "cross" else "none", init_gain=gain)
    width, patch, ratio = {"vit8": (48, 8, 4.0), "vit8_wide": (66, 8, 4.0), "vit4": (30, 4, 3.6)}[t.method]
    return VisionTransformer(32, patch, 1, 10, width, 4, 3, ratio, init_gain=gain)


@study.trial
def trial(t: Trial) -> None:
    """Train on canvases of one part of the glyphs, choose rates on another, test on a third."""
    s = t.settings
    drawn = torch.Generator().manual_seed(20_000 + t.seed)

    def canvases(n: int, chosen: Tensor) -> Canvas:
        return cluttered_digits(n, chosen, drawn, sizes=(s.smallest, s.largest), noise=s.noise)

    fitting, choosing, testing = split_glyphs(t.seed)
    train, val, test = canvases(s.n_train, fitting), canvases(s.n_test // 2, choosing), canvases(s.n_test, testing)
    net = build(t)
    batches = Batches((train.images, train.labels), s.batch_size, t.seed)

    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], label_smoothing=s.label_smoothing)

    t.count(net, step=lambda: loss(net, batches(0)), unit="batch")
    fitted = fit(
        net,
        loss,
        batches,
        steps=s.steps,
        lr=s.lr,
        optimizer="adamw",
        weight_decay=s.weight_decay,
        schedule="cosine",
        warmup=s.warmup,
        no_decay=lambda name, _: name.startswith(("pos_embed", "cls_token")),
        log=t.log,
        checkpoint=t.checkpoint,
        validate=lambda: {"val_acc": right(net, val).mean().item()},
        validate_every=max(1, s.steps // 7),
    )
    net.eval()
    with torch.no_grad():
        hits = right(net, test)
        lost = fitted.diverged
        t.row(acc=None if lost else hits.mean(), val_acc=None if lost else right(net, val).mean())
        edges = torch.linspace(s.smallest, s.largest, 4)
        for name, low, high in zip(("small digits", "medium digits", "large digits"), edges, edges[1:], strict=False):
            inside = (test.sizes >= low) & (test.sizes <= high)
            t.row(cell=name, acc=hits[inside].mean() if inside.any() and not lost else None)
        if isinstance(net, CrossViT):
            logits = [net.branch_logits(chunk) for chunk in test.images.split(500)]
            for branch, name in enumerate(("small", "large")):
                alone = torch.cat([chunk[branch] for chunk in logits]).argmax(-1) == test.labels
                t.row(f"{t.method}_{name}_branch", acc=alone.float().mean())
        if t.seed == 0 and t.arm == "cross":
            t.picture(
                "Test canvases",
                "images",
                images=test.images[:8, 0],
                labels=[str(int(y)) for y in test.labels[:8]],
                caption="digits of random size and place",
            )


@torch.no_grad()
def right(net: nn.Module, part: Canvas) -> Tensor:
    """1 where the network names the digit, else 0."""
    guess = torch.cat([net(chunk).argmax(-1) for chunk in part.images.split(500)])
    return (guess == part.labels).float()
