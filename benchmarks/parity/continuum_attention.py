"""Compare the continuum attention operators with the authors': `continuum_attention.py --official PATH [--record]`.

PATH is a checkout of EdoardoCalvello/TransformerNeuralOperators. All weights, biases and norms of the authors' models
are drawn at random first, query and key weights ten times as large, since scores over an image are small enough to
leave the softmax uniform; then they are loaded through `load_official`, and outputs and gradients are compared in
float64, on grids of several sizes and on uneven points.
"""

import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.operators.continuum_attention import (
    FourierAttentionNeuralOperator,
    TransformerNeuralOperator,
    ViTNeuralOperator,
)

sys.path.insert(0, str(Path(__file__).parent))
from parity import arguments, finish, randomise, relative_difference

SIZES = dict(d_model=16, nhead=4, num_layers=2, dim_feedforward=24, activation="gelu", dropout=0.0)
OURS: Any = dict(d_model=16, heads=4, layers=2, ff=24)


def authors_class(path: Path, name: str) -> Any:
    """`SimpleEncoder` of one of their models; `models` has no __init__ and needs the checkout as a package."""
    package = types.ModuleType("models")
    package.__path__ = [str(path / "models")]
    sys.modules["models"] = package
    found = importlib.import_module(f"models.{name}.{name}_pytorch")
    return found.SimpleEncoder


def line(theirs: nn.Module, u: Tensor, coords: Tensor, initial: Tensor | None) -> Tensor:
    """Their 1D call: coordinates are (points, dim, 1), and the target's first value is the initial condition."""
    target = None if initial is None else initial[:, None].expand(-1, u.shape[1], -1)
    return theirs(u, target, coords[:, :, None])


def cases(path: Path) -> list[tuple[str, nn.Module, nn.Module, Callable[[nn.Module], Tensor], Callable[..., Tensor]]]:
    """Name, their model, ours, the call of theirs, the call of ours."""
    found = []
    tno = authors_class(path, "TNO")
    points = (torch.rand(23, dtype=torch.float64).sort().values * 2)[:, None]
    for name, outputs, given in (("TNO", 1, False), ("TNO with initial condition", 2, True)):
        u = torch.randn(3, 23, 1, dtype=torch.float64)
        initial = torch.randn(3, outputs, dtype=torch.float64) if given else None
        options: Any = dict(use_positional_encoding=False, append_position_to_x=True, include_y0_input=given)
        theirs = tno(1, outputs, 1, norm_first=False, **SIZES, **options)
        ours = TransformerNeuralOperator(1, outputs, 1, initial_condition=given, **OURS)
        found.append(
            (
                f"{name}, 23 uneven points",
                theirs,
                ours,
                lambda model, u=u, i=initial: line(model, u, points, i),
                lambda model, u=u, i=initial: model(u, points, None, i),
            )
        )
    transformer = authors_class(path, "Transformer")
    theirs = transformer(1, 1, 2, use_positional_encoding=False, append_position_to_x=True, **SIZES)
    coords = torch.rand(30, 2, dtype=torch.float64)
    values = torch.randn(3, 30, 1, dtype=torch.float64)
    found.append(
        (
            "Transformer, 30 points of the plane",
            theirs,
            TransformerNeuralOperator(1, 1, 2, **OURS),
            lambda model: model(values, None, coords[:, :, None]),
            lambda model: model(values, coords),
        )
    )
    for name, kind, smoothing in (
        ("ViTNO", ViTNeuralOperator, 5),
        ("FANO", FourierAttentionNeuralOperator, 0),
        ("FANO with smoothing", FourierAttentionNeuralOperator, 5),
    ):
        for size in (32, 64, 24):
            their_class = authors_class(path, name.split()[0])
            theirs = their_class(
                1, 1, 2, do_layer_norm=True, norm_first=False, patch=True, patch_size=8, im_size=32, modes=[3, 3],
                smoothing=smoothing > 0, smoothing_modes=smoothing, **SIZES,
            )  # fmt: skip
            ours = kind(1, 1, 4, (3, 3), smoothing, **OURS)
            field = torch.randn(2, 1, size, size, dtype=torch.float64)
            grid = torch.linspace(0, 1, size, dtype=torch.float64)
            both = torch.stack(torch.meshgrid(grid, grid, indexing="xy"))[:, :, None]
            found.append(
                (
                    f"{name}, {size}x{size}",
                    theirs,
                    ours,
                    lambda model, f=field, c=both, n=size: (model.set_im_size(n, n // 4), model(f[:, 0], None, c))[1],
                    lambda model, f=field: model(f)[:, 0],
                )
            )
    return found


@torch.no_grad()
def draw(theirs: nn.Module) -> nn.Module:
    """Everything at random but the temperatures, in double precision; queries and keys large enough to matter."""
    scales = {n: p.clone() for n, p in theirs.named_parameters() if n.endswith("attention.scale")}
    generator = torch.Generator().manual_seed(1)
    randomise(theirs)
    for name, parameter in theirs.named_parameters():
        if name in scales:
            parameter.copy_(scales[name])
        elif parameter.is_complex():
            parts = torch.randn(*parameter.shape, 2, generator=generator)
            parameter.copy_(torch.view_as_complex(parts) / parameter.shape[0] ** 0.5)
        if any(part in name for part in ("W_q", "W_k", "query", "key", "linear_in.weight")):
            parameter.mul_(10)
    return theirs


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    torch.manual_seed(0)
    # their spectral layers ask for single precision by name, their patch operators convert inputs to it
    torch.cfloat, single = torch.cdouble, torch.float32
    results = []
    for name, theirs, ours, their_call, our_call in cases(options.official):
        theirs = draw(theirs).double().eval()
        ours = ours.double().eval().load_official(theirs.state_dict())  # type: ignore[operator]
        a = our_call(ours)  # type: ignore[operator]
        torch.float32 = torch.float64
        b = their_call(theirs)
        torch.float32 = single
        weight = torch.randn_like(a)
        (a * weight).sum().backward()
        (b * weight).sum().backward()
        used = {n: p if p.grad is None else p.grad for n, p in theirs.named_parameters()}
        twin = type(ours)(**{**OURS, **config(ours)}).double().load_official(used)
        pairs = [(p.grad.flatten(), q.flatten()) for p, q in zip(ours.parameters(), twin.parameters(), strict=True)]
        with torch.no_grad():  # attention must matter: without queries the output is another one
            for layer in ours.layers:
                kept = layer.attention.query_key_value
                part = kept[:, :, :, :, 0] if isinstance(kept, nn.Parameter) else kept.weight[:16]
                part.zero_()
            moved = relative_difference(our_call(ours), a)
        case = {
            "name": name,
            "max_relative_error": relative_difference(a, b),
            "max_relative_gradient_error": relative_difference(*map(torch.cat, zip(*pairs, strict=True))),
            "change_without_queries": moved,
        }
        results.append(case)
        print(case, flush=True)
    finish(options, slug="continuum_attention", official="EdoardoCalvello/TransformerNeuralOperators", cases=results)


def config(ours: nn.Module) -> dict[str, Any]:
    """What ours was built with."""
    return dict(ours._hub_mixin_config)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
