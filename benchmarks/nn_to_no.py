"""Function-space layers against neuraloperator's, forward pass and training step.

The local integral of neuraloperator 2.0.0 needs torch-harmonics 0.7.4; where that is absent its cases are left out.
"""

import sys
import types
from importlib import import_module
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
)
from timing import interleaved


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    rows = interleaved(own_cases(), rounds, peer="the kernel as one convolution", peer_version="torch")
    absent = types.ModuleType("wandb")  # neuraloperator imports it and needs it not
    absent.__spec__ = ModuleSpec("wandb", None)
    sys.modules.setdefault("wandb", absent)
    try:
        version = import_module("neuralop").__version__
        rows += interleaved(plain_cases(), rounds, peer="neuraloperator", peer_version=version)
        rows += interleaved(local_cases(), rounds, peer="neuraloperator", peer_version=version)
    except (ImportError, AttributeError, NameError) as error:
        why = f"neuraloperator, or its local integral without torch-harmonics 0.7.4: {error}"
        rows.append({"name": "others", "ratio": None, "why": why, "peer": "neuraloperator"})
    return rows


def theirs(module: str, name: str) -> Any:
    """A class of neuraloperator."""
    return getattr(import_module(f"neuralop.{module}"), name)


def own_cases() -> list[Any]:
    """A kernel of the training grid on four times as fine a grid."""
    layer, x = LocalIntegralConv(8, 8, 9, 1 / 24, ndim=2), torch.randn(2, 8, 96, 96)
    kernel, first, last = layer.kernel((96, 96))

    def plain() -> None:
        with torch.no_grad():
            F.conv2d(F.pad(x, [-first[1], last[1], -first[0], last[0]], mode="circular"), kernel, layer.bias)

    return [("local integral 9 x 9 on four times the grid, forward", quiet(layer, x), plain)]


FIELDS = (4, 1, 64, 64)
WIRING: dict[str, Any] = dict(in_channels=1, out_channels=1, hidden_channels=16, n_layers=4, norm=None)
WIRING |= dict(n_modes=(12, 12), channel_mlp_skip="soft-gating", positional_embedding="grid", use_channel_mlp=True)
WIRING |= dict(channel_mlp_expansion=0.5, lifting_channel_ratio=2.59, projection_channel_ratio=2.59)


def plain_cases() -> list[Any]:
    """Equal work in both libraries: FNO, differences, linear attention, an integral over points."""
    fields, features = torch.randn(FIELDS), torch.randn(4, 16, 64, 64)
    fno, their_fno = LocalNO(width=16, n_modes=(12, 12)), theirs("models", "FNO")(**WIRING)
    difference = DifferentialConv(16, 16, 3)
    their_difference = theirs("layers.differential_conv", "FiniteDifferenceConvolution")(16, 16, 2)
    tokens, at = torch.randn(2, 1024, 32), torch.rand(2, 1024, 2)
    attention = QuadratureAttention(32, 4, "galerkin", head_dim=32, qkv_bias=False)
    their_attention = theirs("layers.attention_kernel_integral", "AttentionKernelIntegral")(32, 32, 4, 32)
    points, queries, f = torch.rand(600, 2), torch.rand(300, 2), torch.randn(2, 600, 16)
    integral = KernelIntegral(16, 2, 0.15, (32, 32))
    options = dict(pos_embedding_type=None, use_torch_scatter_reduce=False, use_open3d_neighbor_search=False)
    options |= dict(reduction="mean", channel_mlp_layers=[32, 32])
    their_integral = theirs("layers.gno_block", "GNOBlock")(16, 16, 2, 0.15, **options)
    h = 1 / 64
    return [
        ("FNO 64 x 64, forward", quiet(fno, fields), quiet(their_fno, fields)),
        ("FNO 64 x 64, train step", step(fno, fields), step(their_fno, fields)),
        ("differences 64 x 64, forward", quiet(difference, features), quiet(their_difference, features, h)),
        ("differences 64 x 64, train step", step(difference, features), step(their_difference, features, h)),
        ("linear attention 1024 points, forward", quiet(attention, tokens), quiet(their_attention, tokens, at)),
        ("linear attention 1024 points, train step", step(attention, tokens), step(their_attention, tokens, at)),
        (
            "integral over balls, 600 to 300 points, forward",
            quiet(integral, f, points, queries),
            quiet(their_integral, points, queries, f),
        ),
    ]


def local_cases() -> list[Any]:
    """The local integral, and the FNO that has it."""
    features, fields = torch.randn(4, 16, 64, 64), torch.randn(FIELDS)
    disc = PolarIntegralConv2d(16, 16, (2, 4), 1 / 8)
    their_disc = theirs("layers.discrete_continuous_convolution", "EquidistantDiscreteContinuousConv2d")(
        16, 16, (64, 64), (64, 64), [2, 4], domain_length=[2, 2], radius_cutoff=1 / 8
    )
    last, every = (False, False, False, True), (True,) * 4
    net = LocalNO(width=16, n_modes=(12, 12), differential=last, integral=every, radius=1 / 8, base_resolution=64)
    local = dict(diff_layers=list(last), disco_layers=list(every), default_in_shape=[64, 64], fin_diff_kernel_size=3)
    local |= dict(mix_derivatives=True, radius_cutoff=1 / 8, disco_kernel_shape=[2, 4], domain_length=[2, 2])
    local |= dict(disco_groups=1, disco_bias=True, conv_padding_mode="periodic")
    their_net = theirs("models", "LocalNO")(**WIRING, **local)
    return [
        ("local integral on a disc 64 x 64, forward", quiet(disc, features), quiet(their_disc, features)),
        ("local integral on a disc 64 x 64, train step", step(disc, features), step(their_disc, features)),
        ("FNO with local kernels 64 x 64, forward", quiet(net, fields), quiet(their_net, fields)),
        ("FNO with local kernels 64 x 64, train step", step(net, fields), step(their_net, fields)),
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
