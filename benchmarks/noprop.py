"""NoProp-DT: all blocks in one batched step against the same blocks stepped one after another, as in Algorithm 1.

No maintained library holds this method, so the peer is the plain loop: blocks of torch.nn layers, and for each its own
loss, backward pass and AdamW step (fused, like ours). The last row holds both ways of convolving against each other.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.learning.noprop import DenoisingBlock
from timing import interleaved

CLASSES, BATCH = 10, 128


def run(rounds: int) -> list[dict[str, Any]]:
    """Digits blocks in batch and looped; small MNIST blocks in both ways of convolving."""
    torch.manual_seed(0)
    digits = {"in_shape": (64,), "width": 64}
    images = {"in_shape": (1, 28, 28), "width": 64, "channels": (8, 16, 32)}
    name = "digits block, width 64, T=10, batch 128"
    loop = "torch.nn, one block after another"
    cases = [(name, batched_step(10, **digits), looped_step(10, **digits))]
    name = "small MNIST block, width 64, T=5, batch 32"
    cases.append((name, batched_step(5, 32, **images), looped_step(5, 32, **images)))
    rows = interleaved(cases, rounds, peer=loop, peer_version=version("torch"))
    grouped = batched_step(5, 32, grouped=True, **images)
    cases = [(f"{name}: T convolutions", batched_step(5, 32, **images), grouped)]
    return rows + interleaved(cases, rounds, peer="one grouped convolution", peer_version=version("torch"))


def data(copies: int, batch: int, in_shape: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Noised labels of all blocks, inputs, one-hot labels."""
    label = torch.nn.functional.one_hot(torch.randint(0, CLASSES, (batch,)), CLASSES).float()
    return torch.randn(copies, batch, CLASSES), torch.randn(batch, *in_shape), label


def batched_step(copies: int, batch: int = BATCH, *, in_shape: Sequence[int], **options: Any) -> Callable[[], None]:
    """Forward, backward and AdamW of all blocks at once."""
    blocks = DenoisingBlock(in_shape, CLASSES, CLASSES, copies=copies, **options)
    optimizer = torch.optim.AdamW(blocks.parameters(), weight_decay=1e-3, fused=True)
    z, x, u = data(copies, batch, in_shape)

    def step() -> None:
        error = (blocks(z, x).softmax(-1) - u).square().sum(-1).mean(-1)
        error.sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


class PlainBlock(nn.Module):
    """The block of Fig. 6 as one would write it with torch.nn: the loop is not slowed down by layers made for many."""

    def __init__(self, in_shape: Sequence[int], width: int, channels: Sequence[int] = ()):
        super().__init__()
        if channels:
            sizes = (in_shape[0], *channels)
            layers: list[nn.Module] = []
            for place, (before, after) in enumerate(pairwise(sizes)):
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
                layers += [nn.MaxPool2d(2)] if place in (0, len(channels) - 1) else []
                layers += [nn.Dropout(0.2)]
            flat = channels[-1] * (in_shape[1] // 4) * (in_shape[2] // 4)
            self.input_path = nn.Sequential(*layers, nn.Flatten(), *normed(flat, width))
        else:
            self.input_path = nn.Sequential(*normed(in_shape[0], width), nn.ReLU(), *normed(width, width))
        self.label_first = nn.Sequential(*normed(CLASSES, width), nn.ReLU())
        self.label_rest = nn.Sequential(*normed(width, width), nn.ReLU(), *normed(width, width))
        self.fuse = nn.Sequential(
            *normed(2 * width, width), nn.ReLU(), *normed(width, width // 2), nn.ReLU(), nn.Linear(width // 2, CLASSES)
        )

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """(batch, classes), (batch, *in_shape) -> logits."""
        h = self.label_first(z)
        return self.fuse(torch.cat([self.input_path(x), h + self.label_rest(h)], dim=-1))


def normed(before: int, after: int) -> tuple[nn.Module, nn.Module]:
    """A linear layer and its batch norm."""
    return nn.Linear(before, after), nn.BatchNorm1d(after)


def looped_step(copies: int, batch: int = BATCH, *, in_shape: Sequence[int], **options: Any) -> Callable[[], None]:
    """The same work block after block, each with an optimiser of its own."""
    blocks = [PlainBlock(in_shape, **options) for _ in range(copies)]
    ours = DenoisingBlock(in_shape, CLASSES, CLASSES, **options)
    assert sorted(p.numel() for p in blocks[0].parameters()) == sorted(p.numel() for p in ours.parameters()), (
        "unlike blocks"
    )
    optimizers = [torch.optim.AdamW(block.parameters(), weight_decay=1e-3, fused=True) for block in blocks]
    z, x, u = data(copies, batch, in_shape)

    def step() -> None:
        for noised, block, optimizer in zip(z, blocks, optimizers, strict=True):
            (block(noised, x).softmax(-1) - u).square().sum(-1).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    return step
