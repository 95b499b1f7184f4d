"""Compare AF-KAN with the authors' code: `python benchmarks/parity/af_kan.py --official PATH [--record]`.

PATH is a checkout of hoangthangta/All-KAN. Every norm, reduction, function and activation, with and without scaling of
the functions: weights, phases, temperatures and norms of their layer are drawn at random and loaded through
`load_official`; outputs and gradients are compared in float64, under a float64 default dtype, since their layer writes
its result into a new tensor of the default dtype.
"""

import importlib.util
import itertools
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.layers import AFKAN
from paperworks.layers.af_kan.model import ACTIVATIONS, FUNCTIONS, NORMS, REDUCTIONS
from parity import arguments, finish, randomise, relative_difference

IN, OUT, BATCH = 12, 7, 5


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    spec = importlib.util.spec_from_file_location("authors_af_kan", options.official / "models" / "af_kan.py")
    assert spec is not None
    assert spec.loader is not None
    authors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(authors)
    torch.set_default_dtype(torch.float64)
    cases = []
    for norm, reduction, scaled in itertools.product(NORMS, REDUCTIONS, (True, False)):
        errors, gradients, count = [], [], 0
        for function, activation in itertools.product(FUNCTIONS, ACTIVATIONS):
            torch.manual_seed(0)
            theirs = authors.AF_KANLayer(
                IN, 3, 3, OUT, norm_type=norm, base_activation=activation, methods=[reduction], func=function,
                func_norm=scaled,
            )  # fmt: skip
            randomise(theirs)
            theirs.phase_low.data -= 0.5  # keeps both phases apart, as they are after training
            theirs.phase_high.data += 0.5
            theirs.temperature.data.fill_(1.7)
            ours = AFKAN((IN, OUT), 3, 3, activation, function, reduction, norm, "batch" if scaled else "none", True)
            ours.load_official({f"rk_layers.0.{name}": tensor for name, tensor in theirs.state_dict().items()})
            x = torch.rand(BATCH, IN)
            a, b = ours(x), theirs(x[None])[0]
            weight = torch.randn_like(a)
            (a * weight).sum().backward()
            (b * weight).sum().backward()
            named = {n.replace("base_weight", "weight").replace("conv1d", "conv"): p.grad
                     for n, p in theirs.named_parameters()}  # fmt: skip
            pairs = [(p.grad.flatten(), named[n.removeprefix("layers.0.")].flatten())
                     for n, p in ours.named_parameters() if p.grad is not None]  # fmt: skip
            errors.append(relative_difference(a, b))
            gradients.append(relative_difference(*map(torch.cat, zip(*pairs, strict=True))))
            count += 1
        name = f"{reduction}, norm {norm}, functions {'scaled' if scaled else 'as they are'}: {count} combinations"
        cases.append({"name": name, "max_relative_error": max(errors), "max_relative_gradient_error": max(gradients)})
        print(cases[-1], flush=True)
    finish(options, slug="af_kan", official="hoangthangta/All-KAN", cases=cases)


if __name__ == "__main__":
    main()
