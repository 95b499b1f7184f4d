"""SineNet against the authors' code: upsampling, inference and training step, same weights on both sides.

Needs a checkout of divelab/AIRS (its folder OpenPDE/SineNet suffices): `PAPERWORKS_OFFICIAL=DIR benchmarks/run.py
sinenet`, where DIR holds the folder AIRS.
"""

import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.operators import SineNet, UNetMod
from paperworks.operators.sinenet import Upsample2d
from timing import interleaved

PEER = "divelab/AIRS"


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    path = Path(os.environ.get("PAPERWORKS_OFFICIAL", "")) / "AIRS"
    if not (path / "OpenPDE" / "SineNet").is_dir():
        why = f"set PAPERWORKS_OFFICIAL to the folder that holds a checkout of {PEER}"
        return [{"name": "all", "ratio": None, "why": why, "peer": PEER}]
    parity = parity_script()
    dual = parity.authors_module(path, "modules.sinenet_dual")
    unets = parity.authors_module(path, "modules.twod_unet")
    torch.manual_seed(0)
    cases = []
    for shape in ((16, 16, 16, 16), (8, 55, 2, 2), (1, 91, 64, 64)):
        name = " x ".join(map(str, shape))
        ours, theirs = Upsample2d(), dual.circular_interpolate("bicubic")
        x = torch.randn(shape)
        cases.append((f"upsampling {name}, forward", quiet(ours, x), quiet(theirs, x)))
        cases.append((f"upsampling {name}, forward and backward", both(ours, x), both(theirs, x)))
    for shape in ((16, 1, 32, 32), (1, 12, 128, 128)):
        channels, outputs = shape[1], 3 if shape[1] > 1 else 1
        for waves, growth in ((1, 2.0), (2, 1.8075), (4, 1.611), (8, 1.425)):
            build: Any = dual.sinenet
            given: dict[str, Any] = dict(num_waves=waves, mult=int(growth) if waves == 1 else growth)
            theirs = parity.theirs_built(build, 8, "circular", frames(channels), **given).float()
            ours = SineNet(channels, outputs, 8, waves=waves, growth=growth).load_official(theirs.state_dict())
            cases += pair(f"SineNet {waves} wave{'s' * (waves > 1)}, h=8", shape, ours, theirs)
        theirs = parity.theirs_built(unets.Unet, 16, "circular", frames(channels), norm=True).float()
        ours = UNetMod(channels, outputs, 16).load_official(theirs.state_dict())
        cases += pair("U-Net-Mod h=16", shape, ours, theirs)
    return interleaved(cases, rounds, peer=PEER)


def parity_script() -> Any:
    """The parity script of the same name, which knows how to import their code."""
    spec = spec_from_file_location("sinenet_parity", Path(__file__).parent / "parity" / "sinenet.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def frames(channels: int) -> tuple[int, int, int]:
    """Scalars, vectors and frames of history that make so many channels."""
    return (1, 0, 1) if channels == 1 else (1, 1, channels // 3)


def pair(name: str, shape: tuple[int, ...], ours: nn.Module, theirs: nn.Module) -> list[Any]:
    """Inference and training step of both."""
    x = torch.randn(shape)
    history = x.view(shape[0], -1, 3 if shape[1] > 1 else 1, *shape[2:])
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(history)[:, 0], rtol=1e-3, atol=1e-4)
    where = " x ".join(map(str, shape))
    return [
        (f"{name}, {where}, inference", quiet(ours, x), quiet(theirs, history)),
        (f"{name}, {where}, training step", step(ours, x), step(theirs, history)),
    ]


def quiet(call: Any, x: Tensor) -> Any:
    """The call without gradients."""

    def forward() -> None:
        with torch.no_grad():
            call(x)

    return forward


def both(call: Any, x: Tensor) -> Any:
    """The call and its gradient with respect to x."""
    x = x.clone().requires_grad_()
    gradient = torch.randn_like(call(x))

    def forward_backward() -> None:
        call(x).backward(gradient)
        x.grad = None

    return forward_backward


def step(model: nn.Module, x: Tensor) -> Any:
    """A training step; both sides take the same optimiser, since what is compared is the network."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def train() -> None:
        model(x).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return train
