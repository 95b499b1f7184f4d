"""Compare converted layers and networks with the authors' code: `python benchmarks/parity/nn_to_no.py --official PATH`.

PATH is a checkout of neuraloperator/NNs-to-NOs; neuraloperator 2.0.0 and torch-harmonics 0.7.4 must be importable (the
released local integral needs that version), Hugging Face transformers for the ViT. All weights, norms, biases, gates
and spectral weights are drawn at random first. Outputs and gradients are compared in float64 where the released layer
allows it, else in float32.
"""

import sys
import types
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.operators.nn_to_no import (
    DifferentialConv,
    FieldViT,
    KernelIntegral,
    KernelUNet,
    LocalNO,
    OFormer,
    PolarIntegralConv2d,
    QuadratureAttention,
    grid_coordinates,
)
from parity import arguments, finish, randomise, relative_difference


def compared(name: str, ours: nn.Module, theirs: nn.Module, *inputs: Any, call: Any = None) -> dict[str, Any]:
    """Outputs and the gradients of the input, for equal weights."""
    x = inputs[0]
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    a = ours(mine, *inputs[1:])
    b = call(yours) if call else theirs(yours, *inputs[1:])
    weight = torch.randn_like(a)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    assert mine.grad is not None
    assert yours.grad is not None
    assert yours.grad.abs().max() > 0
    assert b.abs().max() > 0
    case = {
        "name": name,
        "max_relative_error": relative_difference(a, b),
        "max_relative_gradient_error": relative_difference(mine.grad, yours.grad),
    }
    print(case, flush=True)
    return case


def randomised(module: nn.Module) -> nn.Module:
    """All drawn at random but what is geometry: the hats of a local integral, the frequencies of rotations."""
    fixed = ("local_filter_matrix", "inv_freq")
    geometry = {name: value.clone() for name, value in module.named_buffers() if name.endswith(fixed)}
    randomise(module)
    for name, value in module.named_buffers():
        if name in geometry:
            value.copy_(geometry[name])
    return module


def networks(layers: Any) -> list[dict[str, Any]]:
    """FNO and LocalNO at small width in the released configurations' wiring."""
    FNO: Any = import_module("neuralop.models").FNO

    cases, shared = [], dict(in_channels=1, out_channels=1, hidden_channels=10, n_layers=4, norm=None)
    shared |= dict(channel_mlp_skip="soft-gating", positional_embedding="grid", use_channel_mlp=True)
    shared |= dict(channel_mlp_expansion=0.5, n_modes=(12, 12), lifting_channel_ratio=2.59)
    shared |= dict(projection_channel_ratio=2.59)
    ours = dict(width=10, n_modes=(12, 12))
    for grid in (24, 40):
        x = torch.randn(2, 1, grid, grid)
        theirs = randomise(FNO(**shared)).eval()
        made = LocalNO(**ours).eval().load_official(theirs.state_dict())  # type: ignore[arg-type]
        cases.append(compared(f"FNO at {grid}", made, theirs, x))
        for name, layers_on in (("differential", "diff_layers"), ("local integral", "disco_layers")):
            flags = [False, False, False, True] if name == "differential" else [True] * 4
            options: dict[str, Any] = {"diff_layers": [False] * 4, "disco_layers": [False] * 4, layers_on: flags}
            theirs = layers(
                **shared, **options, default_in_shape=[24, 24], fin_diff_kernel_size=3, mix_derivatives=True,
                radius_cutoff=0.25, disco_kernel_shape=[2, 4], domain_length=[2, 2], disco_groups=1, disco_bias=True,
                conv_padding_mode="periodic",
            )  # fmt: skip
            theirs = randomised(theirs).eval()
            mine: dict[str, Any] = {("differential" if name == "differential" else "integral"): flags}
            made = LocalNO(**ours, **mine, radius=0.25, base_resolution=24, freeze_kernel=True)  # type: ignore[arg-type]
            made = made.eval().load_official(theirs.state_dict())
            cases.append(compared(f"FNO + {name} at {grid}, kernel frozen as released", made, theirs, x))
    return cases


def layers() -> list[dict[str, Any]]:
    """Single layers of neuraloperator."""
    AttentionKernelIntegral: Any = import_module("neuralop.layers.attention_kernel_integral").AttentionKernelIntegral
    FiniteDifferenceConvolution: Any = import_module("neuralop.layers.differential_conv").FiniteDifferenceConvolution
    EquidistantDiscreteContinuousConv2d: Any = import_module(
        "neuralop.layers.discrete_continuous_convolution"
    ).EquidistantDiscreteContinuousConv2d
    RotaryEmbedding2D: Any = import_module("neuralop.layers.embeddings").RotaryEmbedding2D
    GNOBlock: Any = import_module("neuralop.layers.gno_block").GNOBlock

    cases = []
    for ndim in (1, 2):
        theirs = randomise(FiniteDifferenceConvolution(3, 5, ndim)).double()
        ours = DifferentialConv(3, 5, 3, ndim=ndim).double()
        ours.weight.data.copy_(theirs.weight)
        x = torch.randn(2, 3, *[16] * ndim, dtype=torch.float64)
        cases.append(
            compared(f"differential convolution, {ndim}D", ours, theirs, x, call=lambda x, t=theirs: t(x, 1 / 16))
        )
    for shape in ((2, 4), (3, 4), (5, 6)):
        for grid in (16, 32):
            theirs = EquidistantDiscreteContinuousConv2d(
                3, 5, (grid, grid), (grid, grid), list(shape), domain_length=[2, 2], radius_cutoff=0.5
            )
            theirs = randomised(theirs).double()
            ours = PolarIntegralConv2d(3, 5, shape, 0.5, padding_mode="zeros", released_layout=True).double()
            ours.load_state_dict({n: v for n, v in theirs.state_dict().items() if n in ("weight", "bias")})
            x = torch.randn(2, 3, grid, grid, dtype=torch.float64)
            cases.append(compared(f"local integral {shape} at {grid}, built for {grid}", ours, theirs, x))
    for transform in ("linear", "linear_kernelonly", "nonlinear", "nonlinear_kernelonly"):
        theirs = GNOBlock(
            4, 4, 2, 0.4, transform, reduction="mean", pos_embedding_type=None, channel_mlp_layers=[16, 12],
            use_torch_scatter_reduce=False, use_open3d_neighbor_search=False,
        )  # fmt: skip
        theirs = randomise(theirs)
        ours = KernelIntegral(4, 2, 0.4, (16, 12), transform)
        for mine, yours in zip(ours.kernel, theirs.integral_transform.channel_mlp.fcs, strict=True):
            mine.load_state_dict(yours.state_dict())
        points, queries = torch.rand(40, 2), torch.rand(15, 2)
        f = torch.randn(2, 40, 4)
        if transform == "linear_kernelonly":
            continue  # the released block multiplies by f here as well: there is nothing to compare
        cases.append(
            compared(
                f"GNO {transform}",
                ours,
                theirs,
                f,
                points,
                queries,
                call=lambda f, t=theirs, p=points, q=queries: t(p, q, f_y=f),
            )
        )
    theirs = randomise(AttentionKernelIntegral(12, 12, 2, 8)).double()
    ours = QuadratureAttention(12, 2, "galerkin", head_dim=8, qkv_bias=False).double()
    ours.load_state_dict(theirs.state_dict())
    at = grid_coordinates((5, 6), endpoint=True).flatten(1).T.double()
    embed = RotaryEmbedding2D(4).double()
    cases.append(
        compared(
            "linear attention with rotary coordinates",
            ours,
            theirs,
            torch.randn(2, 30, 12, dtype=torch.float64),
            None,
            None,
            at,
            call=lambda x: theirs(x, at.expand(2, -1, -1), embed),
        )
    )
    return cases


def authors(path: Path) -> list[dict[str, Any]]:
    """The U-Net, its kernel interpolation, OFormer and the ViT of the authors' repository."""
    sys.path.insert(0, str(path))
    TheirOFormer: Any = import_module("models.oformer").OFormer
    OFormerWrapper: Any = import_module("models.oformer").OFormerWrapper
    Unet: Any = import_module("models.unet").Unet
    UNet_kernel_interpolate: Any = import_module("models.unet_kernel_interp").UNet_kernel_interpolate
    UNetWithScale: Any = import_module("models.unet_kernel_interp").UNetWithScale

    cases = []
    wiring = dict(ch_mults=[1, 2, 2, 3], is_attn=[False] * 4, norm=True, n_blocks=2, num_groups=1)
    wiring |= dict(positional_embedding="grid", activation="gelu", kernel_size=9)
    theirs = randomise(Unet(1, 0, 1, 0, 1, 1, 4, **wiring)).double().eval()
    ours = KernelUNet(width=4).double().eval().load_official(theirs.state_dict())
    for grid in (32, 44):
        x = torch.randn(2, 1, grid, grid, dtype=torch.float64)
        cases.append(compared(f"U-Net at {grid}", ours, theirs, x))
    base = UNetWithScale(32, {"scale": 1}, 1, 0, 1, 0, 1, 1, 4, **wiring)
    theirs = randomise(UNet_kernel_interpolate(base, device=torch.device("cpu"))).double().eval()
    ours = KernelUNet(width=4, interpolate=True, base_resolution=32).double().eval()
    ours.load_official(theirs.state_dict())
    for grid in (16, 32, 64, 96):
        x = torch.randn(1, 1, grid, grid, dtype=torch.float64)
        cases.append(compared(f"U-Net, kernels resized from 32 to {grid}", ours, theirs, x))
    theirs = TheirOFormer(
        n_dim=2, encoder_hidden_channels=12, encoder_num_heads=3, encoder_n_layers=2, use_decoder=False,
        spectral_conv_encoder=True, num_modes=8,
    )  # fmt: skip
    theirs = randomised(OFormerWrapper(theirs)).eval()
    made = OFormer(width=12, heads=3, n_layers=2, n_modes=8).eval().load_official(theirs.state_dict())
    for grid in (16, 20):
        cases.append(compared(f"OFormer at {grid}", made, theirs, torch.randn(2, 1, grid, grid)))
    cases += vit()
    return cases


def vit() -> list[dict[str, Any]]:
    """The authors' ViT, where transformers is installed."""
    try:
        ViT: Any = import_module("models.vit").ViT
        ViTConfig: Any = import_module("transformers").ViTConfig
    except ImportError as error:
        print(f"the ViT is left out: {error}")
        return []
    config = ViTConfig(
        image_size=32, num_channels=1, patch_size=8, encoder_stride=8, hidden_size=24, num_hidden_layers=2,
        num_attention_heads=3, intermediate_size=40, hidden_act="gelu",
    )  # fmt: skip
    theirs = randomise(ViT(config)).double().eval()
    ours = FieldViT(1, 1, base_resolution=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, mlp_hidden=40)
    ours = ours.double().eval().load_official(theirs.state_dict())
    cases = []
    for grid in (32, 48):
        cases.append(compared(f"ViT at {grid}", ours, theirs, torch.randn(2, 1, grid, grid, dtype=torch.float64)))
    return cases


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    absent = types.ModuleType("wandb")  # neuraloperator imports it and needs it not
    absent.__spec__ = ModuleSpec("wandb", None)
    sys.modules.setdefault("wandb", absent)
    torch.manual_seed(0)
    TheirLocalNO: Any = import_module("neuralop.models").LocalNO

    cases = [*layers(), *networks(TheirLocalNO), *authors(options.official)]
    finish(options, slug="nn_to_no", official="neuraloperator/NNs-to-NOs", cases=cases)


if __name__ == "__main__":
    main()
