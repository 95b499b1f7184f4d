"""Compare BiPer with the authors' code: `python benchmarks/parity/biper.py --official PATH [--record]`.

PATH is a checkout of edmav4/BiPer. All weights, scales, norms, biases and running statistics of the authors' networks
are drawn at random first, since default initialisation hides wiring errors (and batch norms without a bias bring exact
zeros to a sign); then they are loaded through `load_official`. In both stages, in training and in evaluation, outputs
and gradients are compared in float64, with the authors' sign of zero.
"""

import itertools
import sys
import types
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.layers.biper import NAMED_SIZES, BiPerConv2d, set_stage
from parity import arguments, finish, randomise, relative_difference

CIFAR = {
    "biper_resnet20": "resnet20_1w1a",
    "biper_resnet20_w1a32": "resnet20_1w32a",
    "biper_resnet18": "resnet18_1w1a",
    "biper_resnet18a": "resnet18A_1w1a",
    "biper_resnet18b": "resnet18B_1w1a",
    "biper_resnet18c": "resnet18C_1w1a",
    "biper_vgg_small": "vgg_small_1w1a",
}
IMAGENET = {"biper_resnet18_imagenet": "resnet18_1w1a", "biper_resnet34_imagenet": "resnet34_1w1a"}
CLASSES = 10
FREQ = 20.0


def authors_modules(folder: Path, models: str) -> dict[str, Any]:
    """Their networks' builders. Their layers read a global `args` at import, which is handed to them here."""
    for name in [n for n in sys.modules if n.split(".")[0] in ("utils", "modules", models)]:
        del sys.modules[name]
    options = types.ModuleType("utils.options")
    options.args = types.SimpleNamespace(freq=FREQ, stage2=False)  # type: ignore[attr-defined]
    sys.modules["utils"], sys.modules["utils.options"] = types.ModuleType("utils"), options
    sys.path.insert(0, str(folder))
    try:
        found: dict[str, Any] = {}
        for file in ("resnet", "resnet2", "vgg"):
            if (folder / models / f"{file}.py").is_file():
                package = types.ModuleType(models)  # their __init__ may import files that do not run
                package.__path__ = [str(folder / models)]
                sys.modules[models] = package
                module = __import__(f"{models}.{file}", fromlist=["x"])
                found |= {name: getattr(module, name) for name in module.__all__}
        return found
    finally:
        sys.path.remove(str(folder))


def compare(name: str, build: Any, side: int) -> list[dict[str, Any]]:
    """One network, both stages and modes."""
    theirs = randomise(build(num_classes=CLASSES)).double()
    ours, twin = (NAMED_SIZES[name](num_classes=CLASSES, sign_of_zero=0, freq=FREQ).double() for _ in range(2))
    layers = [m for m in theirs.modules() if hasattr(m, "stage2")]
    assert len(layers) == sum(isinstance(m, BiPerConv2d) for m in ours.modules())
    start = {n: value.clone() for n, value in theirs.state_dict().items()}
    images, cases = torch.randn(2, 3, side, side, dtype=torch.float64), []
    for stage, training in itertools.product((1, 2), (False, True)):
        theirs.load_state_dict(start)
        set_stage(ours.load_official(start), stage)  # type: ignore[operator]
        for layer in layers:
            layer.stage2 = stage == 2
        for net in (ours, theirs):
            net.train(training)
            net.zero_grad()
        a, b = ours(images), theirs(images)
        weight = torch.randn_like(a)
        (a * weight).sum().backward()
        (b * weight).sum().backward()
        # their gradients find their places as their weights do
        twin.load_official(start | {n: p.grad for n, p in theirs.named_parameters() if p.grad is not None})  # type: ignore[operator]
        # alpha's gradient is about 0 in training, since a batch norm follows: no ground for a relative comparison
        pairs = [(p.grad, q) for (n, p), q in zip(ours.named_parameters(), twin.parameters(), strict=True)
                 if not (training and n.endswith("alpha"))]  # fmt: skip
        cases.append({
            "name": f"{name}, stage {stage}, {'training' if training else 'evaluation'}",
            "max_relative_error": relative_difference(a, b),
            "max_relative_gradient_error": max(relative_difference(p, q) for p, q in pairs if p is not None),
        })  # fmt: skip
        print(cases[-1], flush=True)
    return cases


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    torch.set_num_threads(1)
    cases = []
    for folder, models, names, side in (
        ("cifar10", "models_cifar", CIFAR, 32),
        ("imagenet", "models_imagenet", IMAGENET, 224),
    ):
        authors = authors_modules(options.official / folder, models)
        for name, theirs in names.items():
            cases += compare(name, authors[theirs], side)
    finish(options, slug="biper", official="edmav4/BiPer", cases=cases)


if __name__ == "__main__":
    main()
