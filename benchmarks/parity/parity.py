"""What the parity scripts share: arguments, randomised weights, relative differences, the recorded result."""

import argparse
import json
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from paperworks.lab import find_paper

Module = TypeVar("Module", bound=nn.Module)


def arguments(doc: str | None) -> argparse.Namespace:
    """`--official PATH` and `--record`."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--official", type=Path, required=True, help="a checkout of the authors' repository")
    parser.add_argument("--commit", help="its commit; default: what git says there")
    parser.add_argument("--record", action="store_true", help="write results/parity.json of the paper")
    options = parser.parse_args()
    if not options.official.is_dir():
        parser.error(f"{options.official} is no folder; check the authors' repository out there first")
    return options


@torch.no_grad()
def randomise(model: Module, seed: int = 0) -> Module:
    """Draw every parameter and buffer anew: weights around 0 with sensible gain, scales and variances around 1."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator).to(tensor)
        if "running_var" in name:
            tensor.copy_(0.5 + noise.abs())
        elif tensor.ndim > 1:
            tensor.copy_(noise / max(1, tensor[0].numel()) ** 0.5)
        elif name.endswith("weight"):
            tensor.copy_(1 + 0.3 * noise)
        else:
            tensor.copy_(0.3 * noise)
    return model


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference over the largest absolute value."""
    ours, theirs = ours.detach(), theirs.detach()
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-300))


def finish(options: argparse.Namespace, *, slug: str, official: str, cases: Sequence[dict[str, Any]]) -> None:
    """Print the result, and write it with the paper where asked."""
    commit = options.commit
    if commit is None:
        asked = ["git", "-C", str(options.official), "rev-parse", "HEAD"]
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
    versions = {"torch": version("torch"), "python": platform.python_version()}
    result = {"slug": slug, "official": official, "commit": commit, "cases": list(cases), "versions": versions}
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if options.record:
        path = find_paper(slug).folder / "results" / "parity.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
