"""Function-space layers against neuraloperator's, forward pass and training step.

neuraloperator 2.0.0 with torch-harmonics 0.7.4, the version that its local integral needs.
"""

import sys
import types
from importlib.machinery import ModuleSpec
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from paperworks.operators.nn_to_no import (
    DifferentialConv,
    KernelIntegral,
    LocalIntegralConv,
    LocalNO,
    PolarIntegralConv2d,
    QuadratureAttention,
    ball_neighbours,
)
from timing import interleaved


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    rows = interleaved(own_cases(), rounds, peer="the kernel as one convolution", peer_version="torch")
    absent = types.ModuleType("wandb")  # neuraloperator imports it and needs it not
    absent.__spec__ = ModuleSpec("wandb", None)
    sys.modules.setdefault("wandb", absent)
    try:
        import neuralop  # type: ignore[import-not-found]

        cases = peer_cases()
    except (ImportError, NameError) as error:
        why = f"neuraloperator with torch-harmonics 0.7.4 cannot be imported: {error}"
        return [*rows, {"name": "all", "ratio": None, "why": why, "peer": "neuraloperator"}]
    return rows + interleaved(cases, rounds, peer="neuraloperator", peer_version=neuralop.__version__)


def own_cases() -> list[Any]:
    """A kernel of the training grid on four times as fine a grid."""
    layer, x = LocalIntegralConv(8, 8, 9, 1 / 24, ndim=2), torch.randn(2, 8, 96, 96)
    kernel, first, last = layer.kernel((96, 96))

    def plain() -> None:
        with torch.no_grad():
            F.conv2d(F.pad(x, [-first[1], last[1], -first[0], last[0]], mode="circular"), kernel, layer.bias)

    return [("local integral 9 x 9 on four times the grid, forward", quiet(layer, x), plain)]


def peer_cases() -> list[Any]:
    """Equal work in both libraries."""
    from neuralop.layers.attention_kernel_integral import AttentionKernelIntegral  # type: ignore[import-not-found]
    from neuralop.layers.differential_conv import FiniteDifferenceConvolution  # type: ignore[import-not-found]
    from neuralop.layers.discrete_continuous_convolution import (  # type: ignore[import-not-found]
        EquidistantDiscreteContinuousConv2d,
    )
    from neuralop.layers.gno_block import GNOBlock  # type: ignore[import-not-found]
    from neuralop.models import FNO  # type: ignore[import-not-found]
    from neuralop.models import LocalNO as TheirLocalNO  # type: ignore[import-not-found]

    shared = dict(in_channels=1, out_channels=1, hidden_channels=16, n_layers=4, norm=None, n_modes=(12, 12))
    shared |= dict(channel_mlp_skip="soft-gating", positional_embedding="grid", use_channel_mlp=True)
    shared |= dict(channel_mlp_expansion=0.5, lifting_channel_ratio=2.59, projection_channel_ratio=2.59)
    local = dict(diff_layers=[False, False, False, True], disco_layers=[True] * 4, default_in_shape=[64, 64])
    local |= dict(fin_diff_kernel_size=3, mix_derivatives=True, radius_cutoff=1 / 8, disco_kernel_shape=[2, 4])
    local |= dict(domain_length=[2, 2], disco_groups=1, disco_bias=True, conv_padding_mode="periodic")
    fields = torch.randn(4, 1, 64, 64)
    fno, their_fno = LocalNO(width=16, n_modes=(12, 12)), FNO(**shared)
    last, every = (False, False, False, True), (True,) * 4
    localno = LocalNO(width=16, n_modes=(12, 12), differential=last, integral=every, radius=1 / 8, base_resolution=64)
    their_localno = TheirLocalNO(**shared, **local)

    features = torch.randn(4, 16, 64, 64)
    disc = PolarIntegralConv2d(16, 16, (2, 4), 1 / 8)
    their_disc = EquidistantDiscreteContinuousConv2d(
        16, 16, (64, 64), (64, 64), [2, 4], domain_length=[2, 2], radius_cutoff=1 / 8
    )
    difference, their_difference = DifferentialConv(16, 16, 3), FiniteDifferenceConvolution(16, 16, 2)

    tokens = torch.randn(2, 1024, 32)
    attention = QuadratureAttention(32, 4, "galerkin", head_dim=32, qkv_bias=False)
    their_attention = AttentionKernelIntegral(32, 32, 4, 32)
    at = torch.rand(2, 1024, 2)

    points, queries, f = torch.rand(600, 2), torch.rand(300, 2), torch.randn(2, 600, 16)
    gno = KernelIntegral(16, 2, 0.15, (32, 32))
    their_gno = GNOBlock(
        16, 16, 2, 0.15, reduction="mean", pos_embedding_type=None, channel_mlp_layers=[32, 32],
        use_torch_scatter_reduce=False, use_open3d_neighbor_search=False,
    )  # fmt: skip
    assert len(ball_neighbours(points, queries, 0.15)[0])
    return [
        ("FNO 64 x 64, forward", quiet(fno, fields), quiet(their_fno, fields)),
        ("FNO 64 x 64, train step", step(fno, fields), step(their_fno, fields)),
        ("FNO with local kernels 64 x 64, forward", quiet(localno, fields), quiet(their_localno, fields)),
        ("FNO with local kernels 64 x 64, train step", step(localno, fields), step(their_localno, fields)),
        ("local integral on a disc 64 x 64, forward", quiet(disc, features), quiet(their_disc, features)),
        ("local integral on a disc 64 x 64, train step", step(disc, features), step(their_disc, features)),
        (
            "differential convolution 64 x 64, forward",
            quiet(difference, features),
            quiet(their_difference, features, 1 / 64),
        ),
        (
            "differential convolution 64 x 64, train step",
            step(difference, features),
            step(their_difference, features, 1 / 64),
        ),
        ("linear attention 1024 points, forward", quiet(attention, tokens), quiet(their_attention, tokens, at)),
        ("linear attention 1024 points, train step", step(attention, tokens), step(their_attention, tokens, at)),
        (
            "graph integral 600 to 300 points, forward",
            quiet(gno, f, points, queries),
            lambda: _no_grad(their_gno, points, queries, f),
        ),
    ]


def _no_grad(model: nn.Module, *inputs: Any) -> None:
    with torch.no_grad():
        model(*inputs)


def quiet(model: nn.Module, *inputs: Any) -> Any:
    """The call without gradients."""
    return lambda: _no_grad(model, *inputs)


def step(model: nn.Module, *inputs: Any) -> Any:
    """A training step; both sides take the same optimiser, since what is compared is the network."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def train() -> None:
        model(*inputs).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()

    return train


if __name__ == "__main__":
    for row in run():
        print(row)
