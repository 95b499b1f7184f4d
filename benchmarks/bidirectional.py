"""The robustness meter's attacks against torchattacks on the same networks and images.

The first two cases of a network do the same work step by step and end in the same images. The third lets the meter
leave rows alone once they are fooled, which changes no count of robust rows; torchattacks goes on to the last step.
"""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.measure import fgsm, pgd
from timing import interleaved

EPS, STEPS = 0.1, 20
SIZE = 2.5 * EPS / STEPS


def networks() -> dict[str, tuple[nn.Module, int]]:
    """The published dense network, and a small convolutional one, with the batch that is attacked."""
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
    conv = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Flatten(), nn.Linear(1568, 10),
    )  # fmt: skip
    return {"784-128-10, batch 500": (dense.eval(), 500), "two convolutions, batch 100": (conv.eval(), 100)}


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One step, twenty steps, and twenty steps that stop."""
    try:
        import torchattacks  # type: ignore[import-not-found]
    except ImportError as error:
        return [{"name": "attacks", "ratio": None, "why": f"torchattacks: {error}", "peer": "torchattacks"}]
    cases = []
    for name, (net, batch) in networks().items():
        x = torch.rand(batch, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            y = net(x).argmax(1)
        one = torchattacks.FGSM(net, eps=EPS)
        many = torchattacks.PGD(net, eps=EPS, alpha=SIZE, steps=STEPS, random_start=False)
        options: dict[str, Any] = dict(steps=STEPS, step_size=SIZE, loss="cross_entropy")
        pairs: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]] = {
            "FGSM": (lambda net=net, x=x, y=y: fgsm(net, x, y, EPS), lambda a=one, x=x, y=y: a(x, y)),
            "PGD-20": (
                lambda net=net, x=x, y=y, o=options: pgd(net, x, y, EPS, stop=False, **o),
                lambda a=many, x=x, y=y: a(x, y),
            ),
            "PGD-20, fooled rows left alone": (
                lambda net=net, x=x, y=y, o=options: pgd(net, x, y, EPS, **o),
                lambda a=many, x=x, y=y: a(x, y),
            ),
        }
        for attack, (ours, theirs) in pairs.items():
            ends = ours(), theirs()
            if "alone" in attack:
                counts = [int((net(end).argmax(1) == y).sum()) for end in ends]
                assert counts[0] <= counts[1], f"{attack}, {name}: {counts} rows right"
            else:
                apart = float(((ends[0] - ends[1]).abs() > 1e-4).float().mean())  # signs of gradients near zero
                assert apart < 1e-3, f"{attack}, {name}: {apart:.1%} of pixels differ"
            cases.append((f"{attack}, {name}", ours, theirs))
    try:
        peer_version = version("torchattacks")
    except PackageNotFoundError:
        peer_version = ""
    return interleaved(cases, rounds, peer="torchattacks", peer_version=peer_version)
