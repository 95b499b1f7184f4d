"""The Fourier neural operator against neuraloperator's, set to the same work: forward pass and training step."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.operators import FNO, SpectralConv
from timing import interleaved

CASES = (  # width, modes, sizes, batch
    (16, (8, 8), (38, 38), 10),
    (32, (12, 12), (94, 94), 4),  # 85 points and the padding; an odd size is shifted wrongly by the peer
    (64, (16,), (1024,), 8),
)


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import neuralop  # type: ignore[import-not-found]
            from neuralop.layers.spectral_convolution import SpectralConv as Theirs  # type: ignore[import-not-found]
            from neuralop.models import FNO as TheirFNO  # type: ignore[import-not-found]
    except ImportError as error:
        why = f"neuraloperator cannot be imported: {error}"
        return [{"name": "all", "ratio": None, "why": why, "peer": "neuraloperator"}]
    cases = []
    for width, modes, sizes, batch in CASES:
        theirs_modes = (*(2 * m for m in modes[:-1]), 2 * modes[-1] - 2)  # both signs; the last axis halved, plus one
        shown = "x".join(map(str, sizes)) + f", width {width}, batch {batch}"
        layer, peer, field = SpectralConv(width, width, modes), Theirs(width, width, theirs_modes), 0
        field = torch.randn(batch, width, *sizes)
        same_weights(layer, peer)
        torch.testing.assert_close(layer(field), peer(field), rtol=1e-3, atol=1e-5)
        ours = FNO(1, 1, width, modes, 4, 4 * width)
        theirs = TheirFNO(
            theirs_modes,
            in_channels=1,
            out_channels=1,
            hidden_channels=width,
            n_layers=4,
            lifting_channel_ratio=0,
            projection_channel_ratio=4,
            use_channel_mlp=False,
        )
        u = torch.randn(batch, 1, *sizes)
        cases.append((f"one layer, {shown}, train step", step(layer, field), step(peer, field)))
        for kind, made in (("forward", forward), ("train step", step)):
            cases.append((f"4 layers, {shown}, {kind}", made(ours, u), made(theirs, u)))
    return interleaved(cases, rounds, peer="neuraloperator", peer_version=neuralop.__version__)


def same_weights(ours: SpectralConv, theirs: Any) -> None:
    """Theirs set to ours: both signs are in ascending order there, in the order of the transform here."""
    weight = torch.view_as_complex(ours.weight.detach())
    for axis, m in enumerate(ours.n_modes[:-1]):
        weight = weight.roll(m, axis)
    dims = weight.ndim - 2
    with torch.no_grad():
        theirs.bias.zero_()
        target = theirs.weight.to_tensor() if hasattr(theirs.weight, "to_tensor") else theirs.weight
        target.copy_(weight.permute(dims, dims + 1, *range(dims)))


def forward(net: nn.Module, u: Tensor) -> Callable[[], None]:
    """Without gradients."""

    def call() -> None:
        with torch.no_grad():
            net(u)

    return call


def step(net: nn.Module, u: Tensor) -> Callable[[], None]:
    """A training step; plain Adam on both sides, as the fused one takes no complex weights."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-5, foreach=False)

    def train() -> None:
        net(u).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return train
