"""CrossViT against timm's: forward pass and training step at 240 pixels, with equal weights."""

from collections.abc import Callable
from typing import Any

import torch

from paperworks.vision.crossvit import NAMED_SIZES
from timing import interleaved

CASES = (
    ("crossvit_tiny_240", "forward", 1),
    ("crossvit_tiny_240", "forward", 8),
    ("crossvit_tiny_240", "train step", 8),
    ("crossvit_9_dagger_240", "forward", 8),
    ("crossvit_9_dagger_240", "train step", 8),
    ("crossvit_small_240", "forward", 1),
)


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    try:
        from timm_peer import import_timm

        timm = import_timm()
    except ImportError as error:
        return [{"name": "all", "ratio": None, "why": f"timm cannot be imported: {error}", "peer": "timm"}]
    cases = []
    for name, kind, batch in CASES:
        torch.manual_seed(0)
        theirs, images = timm.create_model(name), torch.randn(batch, 3, 240, 240)
        ours = NAMED_SIZES[name]().load_official(theirs.state_dict())
        cases.append((f"{name} {kind}, batch {batch}", call(ours, kind, images), call(theirs, kind, images)))
    return interleaved(cases, rounds, peer="timm", peer_version=timm.__version__)


def call(model: torch.nn.Module, kind: str, images: torch.Tensor) -> Callable[[], None]:
    """What is timed: a forward pass without gradients, or a training step with AdamW."""
    if kind == "forward":
        model.eval()

        def forward() -> None:
            with torch.no_grad():
                model(images)

        return forward
    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    labels = torch.arange(len(images))

    def step() -> None:
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
        optimiser.zero_grad()

    return step
