"""DRIFT-Net's spectral mixing against the authors' block, same weights, at every stage of DRIFT-T; then whole networks.

The authors' repository is no package: say where a checkout of cruiseresearchgroup/DRIFT-Net lies in
DRIFT_NET_OFFICIAL. Of `transformers`, which its file imports and the spectral block does without, stand-ins will do;
their whole networks need version 4.36 on the path, and are left out where it is not. The last row holds DRIFT-T against
scOT-T, both ours: the paper's throughput.
"""

import importlib
import os
import subprocess
import sys
import types
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.operators.drift_net import ConditionalLayerNorm, SpectralMixer2d, drift_tiny, scot_tiny
from timing import interleaved

PEER, BATCH = "cruiseresearchgroup/DRIFT-Net", 2
STAGES = {32: 48, 16: 96, 8: 192, 4: 384}  # DRIFT-T on 128x128: points an axis, channels


def run(rounds: int) -> list[dict[str, Any]]:
    """Forward pass and training pass (forward and backward) of the mixer and its norm, a stage a row."""
    path = os.environ.get("DRIFT_NET_OFFICIAL")
    if not path or not Path(path, "driftnet", "model.py").is_file():
        why = f"set DRIFT_NET_OFFICIAL to a checkout of {PEER}, given {path!r}"
        return [{"name": "all", "ratio": None, "why": why, "peer": PEER}]
    asked = ["git", "-C", path, "rev-parse", "--short", "HEAD"]
    commit = os.environ.get("DRIFT_NET_COMMIT") or subprocess.run(asked, capture_output=True, text=True).stdout.strip()
    authors = authors_module(Path(path))
    torch.manual_seed(0)
    pairs = {size: pair(authors, size, dim) for size, dim in STAGES.items()}
    cases = []
    for size, (ours, theirs) in pairs.items():
        name = f"{STAGES[size]} channels on {size}x{size}, batch {BATCH}"
        cases.append((f"spectral mixing, {name}, forward", quiet(ours), quiet(theirs)))
        cases.append((f"spectral mixing, {name}, training", trained(ours), trained(theirs)))
    for kind, call in (("forward", quiet), ("training", trained)):
        sides = [[call(pairs[size][side]) for size in STAGES] for side in (0, 1)]
        cases.append((f"spectral mixing, one block of every stage, {kind}", all_of(sides[0]), all_of(sides[1])))
    rows = interleaved(cases, rounds, peer=PEER, peer_version=commit)
    try:
        rows += interleaved(whole_networks(authors), rounds, peer=PEER, peer_version=commit)
    except (AttributeError, ImportError, NotImplementedError, TypeError, ValueError) as error:
        why = f"their networks need transformers 4.36 on the path: {error}"
        rows.append({"name": "whole networks", "ratio": None, "why": why, "peer": PEER})
    x, time = torch.randn(1, 4, 128, 128), torch.ones(1)
    drift, scot = drift_tiny(), scot_tiny()
    name = "DRIFT-T against scOT-T of this package, 4 channels on 128x128, batch 1, training"
    sides = [(name, trained(lambda: drift(x, time)), trained(lambda: scot(x, time)))]
    return rows + interleaved(sides, rounds, peer="scOT-T", peer_version=version("torch"))


def authors_module(path: Path) -> Any:
    """Their model's file, with stand-ins for what is not installed and the block does not call."""
    wanted = ("pywt", "pytorch_wavelets", "transformers", "transformers.models.swinv2.modeling_swinv2",
              "transformers.utils")  # fmt: skip
    names = ("DWTForward", "DWTInverse", "Swinv2PreTrainedModel", "PretrainedConfig", "Swinv2EncoderOutput",
             "Swinv2Attention", "Swinv2DropPath", "Swinv2Intermediate", "Swinv2Output", "ModelOutput",
             "window_reverse", "window_partition")  # fmt: skip
    for name in wanted:
        try:
            importlib.import_module(name)
        except ImportError:
            stand_in = types.ModuleType(name)
            for item in names:
                setattr(stand_in, item, type(item, (nn.Module,), {}))
            sys.modules[name] = stand_in
    sys.path.insert(0, str(path))
    return importlib.import_module("driftnet.model")


def pair(authors: Any, size: int, dim: int) -> tuple[Callable[[], Tensor], Callable[[], Tensor]]:
    """Ours and theirs on the same weights and tokens, compared once; both end in the conditional norm."""
    config = types.SimpleNamespace(
        fft_norm="forward", initializer_range=0.02, use_conditioning=True, layer_norm_eps=1e-5, num_bands=6,
        gate_hidden=128, gate_distill_lambda=0.0,
    )  # fmt: skip
    theirs = authors.SpectralWaveletGateBlock(config, dim, size)
    ours, norm = SpectralMixer2d(dim, size, layout="reference"), ConditionalLayerNorm(dim)
    with torch.no_grad():
        ours.weight.copy_(torch.view_as_real(theirs.weight))
    named = {"local": theirs.conv_local, "linear": theirs.linear}
    for name, module in named.items():
        getattr(ours, name).load_state_dict(module.state_dict())
    ours.gate.hidden.load_state_dict(theirs.band_gate.mlp[0].state_dict())
    ours.gate.out.load_state_dict(theirs.band_gate.mlp[2].state_dict())
    norm.load_state_dict(theirs.norm.state_dict())
    x, time = torch.randn(BATCH, size, size, dim, requires_grad=True), torch.ones(BATCH, 1)
    tokens = x.detach().flatten(1, 2).requires_grad_()
    torch.testing.assert_close(norm(ours(x), time).flatten(1, 2), theirs(tokens, time), rtol=1e-4, atol=1e-4)
    return lambda: norm(ours(x), time), lambda: theirs(tokens, time)


def whole_networks(authors: Any) -> list[Any]:
    """DRIFT-T and scOT-T on the same weights, 4 channels on 128x128, compared once; without stochastic depth."""
    cases = []
    for name, build, spectral in (("DRIFT-T", drift_tiny, True), ("scOT-T", scot_tiny, False)):
        config = authors.ScOTConfig(
            image_size=128, patch_size=4, num_channels=4, num_out_channels=4, embed_dim=48, depths=(4,) * 4,
            num_heads=(3, 6, 12, 24), skip_connections=(2, 2, 2, 0), window_size=16, use_conditioning=True,
            use_spectral=spectral, drop_path_rate=0.0,
        )  # fmt: skip
        theirs = authors.ScOT(config).eval()
        ours = build(layout="reference", drop_path=0.0).eval().load_official(theirs.state_dict())
        x, time = torch.randn(BATCH, 4, 128, 128), torch.ones(BATCH)
        sides = (
            lambda ours=ours, x=x, time=time: ours(x, time),
            lambda theirs=theirs, x=x, time=time: theirs(x, time[:, None]).output,
        )
        with torch.no_grad():
            torch.testing.assert_close(sides[0](), sides[1](), rtol=1e-3, atol=1e-3)
        size = f"{name}, 4 channels on 128x128, batch {BATCH}"
        cases.append((f"{size}, forward", *map(quiet, sides)))
        cases.append((f"{size}, training", *map(trained, sides)))
    return cases


def quiet(call: Callable[[], Tensor]) -> Callable[[], None]:
    """The call without gradients."""

    def forward() -> None:
        with torch.no_grad():
            call()

    return forward


def trained(call: Callable[[], Tensor]) -> Callable[[], None]:
    """The call and its backward pass."""
    return lambda: call().sum().backward()


def all_of(calls: list[Callable[[], None]]) -> Callable[[], None]:
    """One after another."""

    def each() -> None:
        for call in calls:
            call()

    return each
