"""Compare DRIFT-Net and scOT with the authors' code: `benchmarks/parity/drift_net.py --official PATH [--record]`.

PATH is a checkout of cruiseresearchgroup/DRIFT-Net; its model needs `transformers` 4.36 (an environment of its own,
since that version wants an older huggingface_hub). All weights, norms, biases and scales of the authors' model are
drawn at random first; then they are loaded through `load_official`, and outputs and gradients are compared in float64,
outputs in float32 as well.
"""

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paperworks.operators.drift_net import DRIFTNet, FrequencyWeightedLoss, GateDistillation, RelativeLpLoss

sys.path.insert(0, str(Path(__file__).parent))
from parity import arguments, finish, randomise, relative_difference

TINY = dict(embed_dim=48, depths=(4, 4, 4, 4), num_heads=(3, 6, 12, 24), skip_blocks=(2, 2, 2, 0), window_size=16)
SMALL = dict(image_size=32, patch_size=2, embed_dim=24, depths=(2, 3, 2), num_heads=(2, 4, 8), skip_blocks=(1, 2, 0),
             window_size=4)  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "DRIFT-T, 4 channels, 128x128": (dict(in_channels=4, out_channels=4, mixer="spectral", **TINY), 128),
    "scOT-T, 4 channels, 128x128": (dict(in_channels=4, out_channels=4, mixer="window", **TINY), 128),
    "DRIFT, patch 2, 32x32": (dict(in_channels=1, out_channels=1, mixer="spectral", **SMALL), 32),
    "scOT, patch 2, shifted windows, 32x32": (dict(in_channels=1, out_channels=1, mixer="window", **SMALL), 32),
    "DRIFT, residual, from 24x24": (
        dict(in_channels=3, out_channels=2, mixer="spectral", learn_residual=True, **SMALL), 24),
    "scOT, residual, from 48x48": (
        dict(in_channels=3, out_channels=2, mixer="window", learn_residual=True, **SMALL), 48),
}  # fmt: skip


def authors_module(path: Path) -> Any:
    """Their model's file; two wavelet packages that it imports and does not use are stood in for."""
    for name in ("pywt", "pytorch_wavelets"):
        stand_in = types.ModuleType(name)
        stand_in.DWTForward = stand_in.DWTInverse = None  # type: ignore[attr-defined]
        sys.modules.setdefault(name, stand_in)
    sys.path.insert(0, str(path))
    return importlib.import_module("driftnet.model")


def authors_model(authors: Any, config: dict[str, Any]) -> nn.Module:
    """The authors' model of one of our configurations."""
    renamed = {"in_channels": "num_channels", "out_channels": "num_out_channels", "skip_blocks": "skip_connections"}
    settings = {renamed.get(name, name): value for name, value in config.items() if name != "mixer"}
    settings = {"image_size": 128, "patch_size": 4, **settings}
    made = authors.ScOTConfig(
        use_conditioning=True, use_spectral=config["mixer"] == "spectral", drop_path_rate=0.0, **settings
    )
    return authors.ScOT(made)


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """All at random but tables that are no weights (bands, offsets); complex matrices and cutoffs by themselves."""
    tables = {name: buffer.clone() for name, buffer in model.named_buffers() if name not in model.state_dict()}
    randomise(model)
    for name, buffer in model.named_buffers():
        buffer.copy_(tables.get(name, buffer))
    for name, parameter in model.named_parameters():
        if name.endswith((".kx", ".ky")):
            parameter.fill_(0.25)  # `int` of it picks the block of frequencies: another value, another network
        elif parameter.is_complex():
            parameter.copy_(torch.randn_like(parameter) / len(parameter) ** 0.5)
        elif name.endswith("logit_scale"):
            parameter.copy_(2 + torch.randn_like(parameter))  # some above the clamp
    return model


def in_double(model: nn.Module) -> nn.Module:
    """float64, complex parameters as well, which `double` would make real."""
    return model._apply(lambda x: x.to(torch.complex128) if x.is_complex() else x.double() if x.is_floating_point()
                        else x)  # fmt: skip


def distillation_difference(theirs: Any, ours: DRIFTNet, field: Any, time: Any, target: Any) -> float:
    """Relative difference of the gates' loss: their training loss with and without it, and our module's."""
    distil, losses = GateDistillation(ours).double(), []
    for stage, layer in enumerate(theirs.decoder.layers):
        getattr(distil, f"features{stage}").copy_(layer.U_true_conv.weight.detach().flatten(1))
        getattr(distil, f"shift{stage}").copy_(layer.U_true_conv.bias.detach())
    theirs.train()
    with torch.no_grad():
        for factor in (0.0, 1.0):
            theirs.config.gate_distill_lambda = factor
            losses.append(float(theirs(field, time[:, None], labels=target).loss))
        theirs.config.gate_distill_lambda = 0.0
        gap = float(distil(ours, field, time, target)[1])
    theirs.eval()
    return abs(losses[1] - losses[0] - gap) / gap


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    authors, results = authors_module(options.official), []
    for name, (config, size) in CASES.items():
        torch.manual_seed(0)
        theirs = randomised(authors_model(authors, config)).eval()
        ours = DRIFTNet(layout="reference", **config).eval().load_official(theirs.state_dict())
        field, time = torch.randn(2, config["in_channels"], size, size), torch.tensor([0.35, 0.9])
        with torch.no_grad():
            single = relative_difference(ours(field, time), theirs(field, time[:, None]).output)
        theirs = in_double(theirs)
        ours = ours.double().load_official(theirs.state_dict())
        field, time = field.double(), time.double()
        target = torch.randn(2, config["out_channels"], size, size, dtype=torch.float64)
        answer = theirs(field, time[:, None], labels=target)
        a, b = ours(field, time), answer.output
        loss = RelativeLpLoss()(a, target) + FrequencyWeightedLoss(norm="forward")(a, target)
        distillation = None
        if config["mixer"] == "spectral" and size == 32:
            distillation = distillation_difference(theirs, ours, field, time, target)
        weight = torch.randn_like(a)
        (a * weight).sum().backward()
        (b * weight).sum().backward()
        # gradients go the way of the weights: through the map of names
        used = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in theirs.named_parameters()}
        used |= {n: p.detach() for n, p in theirs.named_parameters() if n.endswith((".kx", ".ky"))}
        twin = DRIFTNet(layout="reference", **config).double().load_official(used)
        pairs = [(p.grad.flatten(), q.flatten()) for p, q in zip(ours.parameters(), twin.parameters(), strict=True)]  # type: ignore[union-attr]
        case = {
            "name": name,
            "max_relative_error": relative_difference(a, b),
            "max_relative_error_float32": single,
            "max_relative_gradient_error": relative_difference(*map(torch.cat, zip(*pairs, strict=True))),
            "loss_difference": abs(float(loss) - float(answer.loss)),
            "authors_parameters": sum(p.numel() for p in theirs.parameters()),
            "parameters": sum(p.numel() for p in ours.parameters()),
            "output_std": float(b.detach().std()),
        }
        if distillation is not None:
            case["distillation_difference"] = distillation
        results.append(case)
        print(case, flush=True)
    finish(options, slug="drift_net", official="cruiseresearchgroup/DRIFT-Net", cases=results)


if __name__ == "__main__":
    main()
