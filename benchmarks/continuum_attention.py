"""The continuum attention operators against the authors' code, forward pass and training step, without dropout.

Two encoder layers of the published widths: all the time is in layers, so six would have the same ratios.

The authors' repository is no package: set PAPERWORKS_OFFICIAL to a folder that holds a checkout of it under the name
`continuum_attention`. Without one, the transformer operator is held against torch's own encoder on equal weights.
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

from paperworks.operators import FourierAttentionNeuralOperator, TransformerNeuralOperator, ViTNeuralOperator
from timing import interleaved

BATCH, POINTS, FIELDS, SIZE, PATCHES, MODES, WIDTH, LAYERS = 16, 200, 4, 64, 8, 4, 32, 2
SIZES: dict[str, Any] = dict(nhead=8, num_layers=LAYERS, dim_feedforward=128, activation="gelu", dropout=0.0)


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    torch.manual_seed(0)
    u, times = torch.randn(BATCH, POINTS, 1), 0.01 * torch.arange(POINTS)[:, None]
    stock = nn.TransformerEncoderLayer(128, 8, 128, dropout=0.0, activation="gelu", batch_first=True)
    encoder, lift, project = nn.TransformerEncoder(stock, LAYERS), nn.Linear(2, 128), nn.Linear(128, 1)
    plain = nn.ModuleList([encoder, lift, project])
    both = torch.cat([u, times.expand(BATCH, -1, 1)], -1)
    tno = TransformerNeuralOperator(layers=LAYERS)
    cases = twice(
        f"transformer operator, {POINTS} points",
        (tno, lambda: tno(u, times)),
        (plain, lambda: project(encoder(lift(both)))),
    )
    rows = interleaved(cases, rounds, peer="torch.nn.TransformerEncoder", peer_version=torch.__version__)
    folder = os.environ.get("PAPERWORKS_OFFICIAL")
    if not folder or not (Path(folder) / "continuum_attention" / "models").is_dir():
        why = "set PAPERWORKS_OFFICIAL to a folder with the authors' code under continuum_attention"
        return [*rows, {"name": "all", "ratio": None, "why": why, "peer": "authors' code"}]
    return rows + interleaved(official_cases(Path(folder), u, times), rounds, peer="authors' code")


def official_cases(folder: Path, u: Tensor, times: Tensor) -> list[Any]:
    """All three operators against the authors' own."""
    their_tno = authors_class(folder, "TNO")(
        1, 1, 1, d_model=128, norm_first=False, use_positional_encoding=False, append_position_to_x=True, **SIZES
    )
    for part in their_tno.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    tno = TransformerNeuralOperator(layers=LAYERS)
    cases = twice(
        f"transformer operator, {POINTS} points",
        (tno, lambda: tno(u, times)),
        (their_tno, lambda: their_tno(u, None, times[:, :, None])),
    )
    field, axis = torch.randn(FIELDS, 1, SIZE, SIZE), torch.linspace(0, 1, SIZE)
    coords = torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[:, :, None]
    for name, kind in (("ViTNO", ViTNeuralOperator), ("FANO", FourierAttentionNeuralOperator)):
        smoothing = 16 if name == "ViTNO" else 0
        theirs = authors_class(folder, name)(
            1, 1, 2, d_model=WIDTH, do_layer_norm=True, norm_first=False, patch=True, patch_size=SIZE // PATCHES,
            im_size=SIZE, modes=[MODES, MODES], smoothing=smoothing > 0, smoothing_modes=smoothing, **SIZES,
        )  # fmt: skip
        ours = kind(1, 1, PATCHES, (MODES, MODES), smoothing, WIDTH, layers=LAYERS)
        cases += twice(
            f"{name}, {SIZE} x {SIZE}, {PATCHES} x {PATCHES} patches",
            (ours, lambda ours=ours: ours(field)),
            (theirs, lambda theirs=theirs: theirs(field[:, 0], None, coords)),
        )
    return cases


def authors_class(folder: Path, name: str) -> Any:
    """`SimpleEncoder` of one of their models; `models` is a folder without an __init__."""
    package = types.ModuleType("models")
    package.__path__ = [str(folder / "continuum_attention" / "models")]
    sys.modules["models"] = package
    return importlib.import_module(f"models.{name}.{name}_pytorch").SimpleEncoder


def twice(name: str, ours: tuple[nn.Module, Callable[[], Tensor]], peer: tuple[nn.Module, Callable[[], Tensor]]) -> Any:
    """The forward pass and the training step of a model and its peer."""
    return [
        (f"{name}, forward", quiet(ours[1]), quiet(peer[1])),
        (f"{name}, train step", step(*ours), step(*peer)),
    ]


def quiet(call: Callable[[], Tensor]) -> Callable[[], None]:
    """The call without gradients."""

    def forward() -> None:
        with torch.no_grad():
            call()

    return forward


def step(model: nn.Module, call: Callable[[], Tensor]) -> Callable[[], None]:
    """A training step; both sides take the same optimiser, since what is compared is the network."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)

    def train() -> None:
        call().square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return train
