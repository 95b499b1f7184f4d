"""Compare NOBLE with the authors' code: `python benchmarks/parity/noble.py --official PATH [--record]`.

PATH is a checkout of ethansmith2000/noble. All weights of their layer are drawn at random and loaded through
`load_official`; outputs and the gradients of all parameters and of the input are compared, and every learning-rate
multiplier, for the published layer of both of their files and for every nonlinearity that runs there. The matrix of a
net is expected at the multiplier that their code hangs on its module.
"""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.layers import NobleLinear, lr_multiplier_groups
from paperworks.layers.noble import NONLINEARITIES
from paperworks.layers.noble.model import official_name
from parity import arguments, finish, randomise, relative_difference

THEIR_NAMES = {"cosnet": "cos_net", "double_cosnet": "cos_net_double"}
SIZES = ((100, 37, 8), (64, 256, 16))


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    sys.path.insert(0, str(options.official.resolve()))
    full: Any = importlib.import_module("noble")
    simple: Any = importlib.import_module("noble_simple")

    cases = []
    for n_in, n_out, rank in SIZES:
        for dtype in (torch.float32, torch.float64):
            cases.append(
                compared(
                    f"published layer, {n_in} -> {n_out}, rank {rank}, {str(dtype).removeprefix('torch.')}",
                    lambda n_in=n_in, n_out=n_out, rank=rank: NobleLinear(n_in, n_out, rank=rank),
                    lambda n_in=n_in, n_out=n_out, rank=rank: simple.NOBLELinearCosNet(n_in, n_out, lora_rank=rank),
                    dtype,
                )
            )
    for name in NONLINEARITIES:
        if name.startswith("swiglu"):  # theirs stops at the first call
            continue
        theirs_name = THEIR_NAMES.get(name, name.replace("leaky_relu", "leakyrelu"))
        for onesided in (True, False):
            cases.append(
                compared(
                    f"{name}, {'one-sided' if onesided else 'two-sided'}",
                    lambda name=name, onesided=onesided: NobleLinear(
                        48, 40, rank=8, nonlinearity=name, onesided=onesided
                    ),
                    lambda theirs_name=theirs_name, onesided=onesided: full.NOBLELinear(
                        48, 40, lora_rank=8, lora_middle_nonlinearity=theirs_name, onesided_lr_mult=onesided
                    ),
                    torch.float64,
                )
            )
    for ours_kind, theirs_kind in (("residual_matrix", "residual_matrix"), ("residual_end", "residual_after")):
        cases.append(
            compared(
                f"cosnet, {ours_kind}",
                lambda kind=ours_kind: NobleLinear(48, 40, rank=8, options={kind: True}),
                lambda kind=theirs_kind: full.NOBLELinear(48, 40, lora_rank=8, nonlinearity_kwargs={kind: True}),
                torch.float64,
            )
        )
    finish(options, slug="noble", official="ethansmith2000/noble", cases=cases)


def compared(
    name: str, make_ours: Callable[[], NobleLinear], make_theirs: Callable[[], nn.Module], dtype: torch.dtype
) -> dict[str, Any]:
    """One layer against the other."""
    theirs = randomise(make_theirs()).to(dtype)
    ours = make_ours().to(dtype).load_official(theirs.state_dict())
    outputs, gradients = [], []
    for net in (ours, theirs):
        torch.manual_seed(1)
        x = torch.randn(3, 11, ours.in_features, dtype=dtype, requires_grad=True)
        y = net(x)
        (y * torch.randn_like(y)).sum().backward()
        outputs.append(y)
        found = {official_name(n): p.grad for n, p in net.named_parameters()}
        gradients.append({"x": x.grad, **found})
    rates = {id(p): g["lr_mult"] for g in lr_multiplier_groups(ours, 1.0) for p in g["params"]}
    of_modules = {f"{n}.weight": m.lr_mult for n, m in theirs.named_modules() if hasattr(m, "lr_mult")}
    expected = {
        official_name(n): of_modules.get(n, getattr(p, "lr_mult", 1.0)) for n, p in make_theirs().named_parameters()
    }
    assert {n: rates[id(p)] for n, p in ours.named_parameters()} == expected, f"{name}: multipliers differ"
    case = {
        "name": name,
        "max_relative_error": relative_difference(*outputs),
        "max_relative_gradient_error": max(relative_difference(gradients[0][n], gradients[1][n]) for n in gradients[1]),
        "multipliers": len(expected),
    }
    print(case, flush=True)
    return case


if __name__ == "__main__":
    main()
