"""Compare MgNO with the authors' code: `python benchmarks/parity/mgno.py --official PATH [--record]`.

PATH is a checkout of xlliu2017/MgNO. All weights, biases and the layer norms' scales and shifts of the authors' models
are drawn at random first; then they are loaded through `load_official`, and outputs and gradients are compared in
float64 on small batches of the published grids.
"""

import importlib
import math
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.operators.mgno.model import (
    MgConv,
    MgNO,
    mgno_darcy_rough,
    mgno_darcy_smooth,
    mgno_helmholtz,
    mgno_navier_stokes,
    mgno_pipe,
)

sys.path.insert(0, str(Path(__file__).parent))
from parity import arguments, finish, randomise, relative_difference

ROUGH = [[1, 0]] * 5 + [[2, 0]]


def authors_module(path: Path) -> Any:
    """Their models; what their file imports for printing and plotting only is stood in for."""
    for name in ("torchinfo", "utilities3"):
        stand_in = types.ModuleType(name)
        stand_in.summary = stand_in.count_params = lambda *_, **__: None  # type: ignore[attr-defined]
        sys.modules[name] = stand_in
    sys.path.insert(0, str(path))
    return importlib.import_module("models")


def cases(authors: Any) -> list[tuple[str, nn.Module, Any, tuple[int, ...]]]:
    """Name, the authors' model, ours, the input's shape."""
    darcy = dict(num_channel_u=24, num_channel_f=1, num_classes=1)
    laptop = [[1, 0]] * 3 + [[2, 0]]
    return [
        ("MgNO_DC, 256x256", authors.MgNO_DC(4, num_iteration=ROUGH, **darcy), mgno_darcy_rough, (1, 1, 256, 256)),
        ("MgNO_DC_smooth, 211", authors.MgNO_DC_smooth(5, num_iteration=ROUGH, **darcy), mgno_darcy_smooth,
         (1, 1, 211, 211)),
        ("MgNO_DC on pipe, 128x128",
         authors.MgNO_DC(5, 24, 2, 1, [[1, 0]] * 4 + [[1, 1], [2, 0]]), mgno_pipe, (1, 2, 128, 128)),
        ("MgNO_DC, reflected", authors.MgNO_DC(2, 8, 1, 1, laptop, padding_mode="reflect"),
         lambda: MgNO(1, 1, 8, 2, laptop, "neumann", legacy=True), (2, 1, 32, 48)),
        ("MgNO_NS, 64x64", authors.MgNO_NS(5, 32, 1, 1, [[1, 0]] * 3 + [[2, 0]] * 2, bias=True), mgno_navier_stokes,
         (1, 1, 64, 64)),
        ("MgNO_NS, hidden head, post steps",
         authors.MgNO_NS(2, 8, 1, 1, [[2, 1], [1, 1], [2, 1]], mlp_hidden_dim=6, bias=True, use_res=True),
         lambda: MgNO(1, 1, 8, 2, ((2, 1), (1, 1), (2, 0)), "periodic", "residual", True, False, True, "grid", None,
                      (64, 64), head_hidden=6, legacy=True), (2, 1, 64, 64)),
        ("MgNO_helm, 101x101", authors.MgNO_helm(4, 20, 1, 1, [1, 1, 1, 1, 2]), mgno_helmholtz, (1, 1, 101, 101)),
        ("MgConv_DC, residual, bias", authors.MgConv_DC([[2, 2], [1, 1], [2, 0]], 6, 3, bias=True, use_res=True),
         lambda: MgConv(3, 6, ((2, 2), (1, 1), (2, 0)), restrict="residual", bias=True), (2, 3, 24, 16)),
    ]  # fmt: skip


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    authors, results = authors_module(options.official), []
    torch.manual_seed(0)
    for name, theirs, build, shape in cases(authors):
        theirs = randomise(theirs).double().eval()
        with torch.no_grad():  # transposed convolutions hold outputs on axis 1
            for part in theirs.modules():
                if isinstance(part, nn.ConvTranspose2d):
                    part.weight.mul_(1.5)
        ours = build().double().eval().load_official(theirs.state_dict())
        field = torch.randn(*shape, dtype=torch.float64)
        a, b = ours(field), theirs(field)
        weight = torch.randn_like(a)
        (a * weight).sum().backward()
        (b * weight).sum().backward()
        # gradients go the way of the weights: through the map of names
        used = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
        twin = build().double().load_official(used)
        pairs = [(p.grad.flatten(), q.flatten()) for p, q in zip(ours.parameters(), twin.parameters(), strict=True)]
        case = {
            "name": name,
            "max_relative_error": relative_difference(a, b),
            "max_relative_gradient_error": relative_difference(*map(torch.cat, zip(*pairs, strict=True))),
            "parameters": sum(math.prod(p.shape) for p in theirs.parameters()),
        }
        results.append(case)
        print(case, float(b.detach().std()), flush=True)
    finish(options, slug="mgno", official="xlliu2017/MgNO", cases=results)


if __name__ == "__main__":
    main()
