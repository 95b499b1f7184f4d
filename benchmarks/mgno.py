"""MgNO against the authors' code with equal weights: forward pass and training step at the published nets' shapes.

Needs a checkout of xlliu2017/MgNO: `PAPERWORKS_OFFICIAL=DIR benchmarks/run.py mgno`, where DIR holds the folder MgNO.
"""

import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.operators import MgNO
from paperworks.operators.mgno.model import mgno_darcy_rough, mgno_darcy_smooth, mgno_laptop, mgno_navier_stokes
from timing import interleaved

ROUGH, LAPTOP = [[1, 0]] * 5 + [[2, 0]], [[1, 0]] * 3 + [[2, 0]]


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    path = Path(os.environ.get("PAPERWORKS_OFFICIAL", "")) / "MgNO"
    if not (path / "models.py").is_file():
        why = "set PAPERWORKS_OFFICIAL to the folder that holds a checkout of xlliu2017/MgNO"
        return [{"name": "all", "ratio": None, "why": why, "peer": "xlliu2017/MgNO"}]
    for name in ("torchinfo", "utilities3"):  # imported there for printing only
        stand_in = types.ModuleType(name)
        stand_in.summary = stand_in.count_params = lambda *_, **__: None  # type: ignore[attr-defined]
        sys.modules[name] = stand_in
    sys.path.insert(0, str(path))
    authors = importlib.import_module("models")
    darcy = dict(num_channel_u=24, num_channel_f=1, num_classes=1)
    periodic = [[1, 0]] * 3 + [[2, 0]] * 2
    nets: list[tuple[str, nn.Module, Callable[[], MgNO], tuple[int, ...], str]] = [
        ("Darcy 32x32, batch 10", authors.MgNO_DC(3, 16, 1, 1, LAPTOP), mgno_laptop, (10, 1, 32, 32), "both"),
        ("Darcy 211x211", authors.MgNO_DC_smooth(5, num_iteration=ROUGH, **darcy), mgno_darcy_smooth,
         (1, 1, 211, 211), "forward"),
        ("Darcy 256x256", authors.MgNO_DC(4, num_iteration=ROUGH, **darcy), mgno_darcy_rough, (1, 1, 256, 256),
         "train step"),
        ("Navier-Stokes 64x64, batch 2", authors.MgNO_NS(5, 32, 1, 1, periodic, bias=True), mgno_navier_stokes,
         (2, 1, 64, 64), "both"),
    ]  # fmt: skip
    cases = []
    for name, theirs, build, shape, kinds in nets:
        ours, field = build().load_official(theirs.state_dict()), torch.randn(*shape)
        for kind in ("forward", "train step") if kinds == "both" else (kinds,):
            cases.append((f"{name}, {kind}", call(ours, kind, field), call(theirs, kind, field)))
    return interleaved(cases, rounds, peer="xlliu2017/MgNO", peer_version="3a68a90")


def call(net: nn.Module, kind: str, field: Tensor) -> Callable[[], None]:
    """A forward pass without gradients, or a training step with the same optimiser on both sides."""
    if kind == "forward":

        def forward() -> None:
            with torch.no_grad():
                net(field)

        return forward
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-5, fused=True)

    def train() -> None:
        net(field).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return train
