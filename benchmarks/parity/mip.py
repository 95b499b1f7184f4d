"""Compare MIP with the authors' code: `python benchmarks/parity/mip.py --official PATH [--record]`.

PATH is a checkout of JJGO/hyperlight. The weights of their `HyperNet` are drawn at random, loaded through
`load_official`; the predicted weights, the output of the README's convolutional network with them, and the gradients
of all parameters are compared in float64.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from hyperlight_network import ConvNet

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.layers import HyperNetwork, hypernetize
from parity import arguments, finish, randomise, relative_difference

ENCODINGS = {"cos_sin": "cos|sin", "z_1z": "z|1-z", "none": None}


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    sys.path.insert(0, str(options.official.resolve()))
    hl: Any = importlib.import_module("hyperlight")

    cases = []
    for ours_name, theirs_name in ENCODINGS.items():
        torch.manual_seed(0)
        network = randomise(ConvNet()).double()
        modules = [network.conv1, network.conv2, network.conv3, network.conv4]
        ours = hypernetize(network, 10, only=lambda name, _: name.startswith("conv"), encoding=ours_name).double()
        theirs_primary = hl.hypernetize(network, modules=modules)
        shapes = theirs_primary.external_shapes()
        theirs = randomise(hl.HyperNet({"h": (10,)}, shapes, [16, 64, 128], encoding=theirs_name)).double()
        hyper = HyperNetwork(shapes, 10, encoding=ours_name).double().load_official(theirs.state_dict())
        ours.hyper = hyper
        gamma, x = torch.rand(10, dtype=torch.float64), torch.randn(8, 1, 16, 16, dtype=torch.float64)
        predicted, expected = hyper.weights(gamma), theirs(h=gamma)
        error = max(relative_difference(predicted[name], expected[name]) for name in shapes)
        a = ours(x, gamma=gamma)
        with theirs_primary.using_externals(expected):
            b = theirs_primary(x)
        weight = torch.randn_like(a)
        (a * weight).sum().backward()
        (b * weight).sum().backward()
        pairs = [(p.grad, q.grad) for p, q in zip(hyper.parameters(), theirs.parameters(), strict=True)]
        many = torch.rand(3, 10, dtype=torch.float64)
        batched = relative_difference(hyper.weights(many)["conv2.weight"], theirs(h=many)["conv2.weight"])
        cases.append(
            {
                "name": f"README's network, encoding {ours_name}",
                "max_relative_error": max(error, batched, relative_difference(a, b)),
                "max_relative_gradient_error": max(
                    relative_difference(p, q) for p, q in pairs if p is not None and q is not None
                ),
            }
        )
        print(cases[-1], flush=True)
    finish(options, slug="mip", official="JJGO/hyperlight", cases=cases)


if __name__ == "__main__":
    main()
