"""Compare SineNet and U-Net-Mod with the authors' code.

`python benchmarks/parity/sinenet.py --official PATH [--record]`

PATH is a checkout of divelab/AIRS (its folder OpenPDE/SineNet suffices). All weights, norms and biases of the authors'
models are drawn at random first, since default initialisation hides wiring errors; then they are loaded through
`load_official`, and outputs and gradients are compared in float64. Upsampling, loss and rollout are compared as well.
"""

import contextlib
import importlib
import io
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.operators import SineNet, UNetMod
from paperworks.operators.sinenet import FieldNormalizer, Upsample2d, rollout, scaled_l2
from parity import arguments, finish, randomise, relative_difference

HISTORY, SCALARS, VECTORS, SIDE = 3, 1, 1, 32
CHANNELS = SCALARS + 2 * VECTORS
# name -> (hidden channels, our settings, theirs)
SINENETS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "SineNet-8": (8, dict(waves=8, growth=1.425), dict(num_waves=8, mult=1.425)),
    "SineNet-4": (16, dict(waves=4, growth=1.611), dict(num_waves=4, mult=1.611)),
    "one wave": (8, dict(waves=1, growth=2.0), dict(num_waves=1, mult=2)),
    "tangled": (8, dict(waves=2, growth=1.8075, parallel=False), dict(num_waves=2, mult=1.8075, disentangle=False)),
    "no residual": (8, dict(waves=2, growth=2.0, wave_residual=False), dict(num_waves=2, mult=2, wave_residual=False)),
    "8 blocks": (8, dict(waves=1, growth=1.425, blocks=8), dict(num_waves=1, mult=1.425, num_blocks=8)),
}  # fmt: skip


def authors_module(path: Path, name: str) -> Any:
    """One module of theirs, without what its package imports at its door (lightning and the data pipes)."""
    folder = path / "OpenPDE" / "SineNet" / "pdearena" / "pdearena"
    package = types.ModuleType("pdearena")
    package.__path__ = [str(folder)]
    sys.modules.setdefault("pdearena", package)
    return importlib.import_module(f"pdearena.{name}")


def theirs_built(
    build: Any, hidden: int, padding: str, layout: tuple[int, int, int] = (SCALARS, VECTORS, HISTORY), **options: Any
) -> nn.Module:
    """Their constructor, which prints, called quietly; randomised. `layout`: scalars, vectors, frames of history."""
    scalars, vectors, history = layout
    with contextlib.redirect_stdout(io.StringIO()):
        made = build(
            scalars, vectors, scalars, vectors, history, 1, hidden, padding_mode=padding, activation="gelu", **options
        )
    return randomise(made).double()


def compare(name: str, ours: Any, theirs: nn.Module, history: int, *conditions: Tensor) -> dict[str, Any]:
    """Outputs and all gradients of the same weights on the same frames."""
    ours = ours.double().load_official(theirs.state_dict())
    frames = torch.randn(2, history, CHANNELS, SIDE, SIDE, dtype=torch.float64)
    extra = (torch.stack(conditions, 1),) if conditions else ()
    a = ours(frames.flatten(1, 2), *extra)
    b = theirs(frames, *conditions)[:, 0]
    weight = torch.randn_like(a)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    # theirs under our names, by loading their gradients as if they were weights
    given = {n: p.grad for n, p in theirs.named_parameters()}
    mine = [p.grad.flatten().clone() for p in ours.parameters()]
    ours.load_official({n: given[n] for n in theirs.state_dict()})
    expected = [p.detach().flatten() for p in ours.parameters()]
    case = {
        "name": name,
        "max_relative_error": relative_difference(a, b),
        "max_relative_gradient_error": relative_difference(torch.cat(mine), torch.cat(expected)),
    }
    print(case, flush=True)
    return case


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    torch.manual_seed(0)
    dual = authors_module(options.official, "modules.sinenet_dual")
    conditioned = authors_module(options.official, "modules.conditioned.sinenet_cond")
    unets = authors_module(options.official, "modules.twod_unet")
    cases = []
    for padding in ("circular", "zeros"):
        for name, (hidden, own, given) in SINENETS.items():
            theirs = theirs_built(dual.sinenet, hidden, padding, **given)
            ours = SineNet(HISTORY * CHANNELS, CHANNELS, hidden, padding=padding, **own)
            cases.append(compare(f"{name}, {padding}", ours, theirs, HISTORY))
        theirs = theirs_built(unets.Unet, 16, padding, norm=True)
        ours = UNetMod(HISTORY * CHANNELS, CHANNELS, 16, padding=padding)
        cases.append(compare(f"U-Net-Mod, {padding}", ours, theirs, HISTORY))
        time, buoyancy = torch.tensor([1.0, 17.0]), torch.tensor([0.2, 0.45])  # their embedding is in float32
        for mode, scaled in (("add", False), ("scale_shift", True)):
            theirs = theirs_built(conditioned.sinenet, 8, padding, (SCALARS, VECTORS, 1), num_waves=2, mult=1.5,
                                  use_scale_shift_norm=scaled, param_conditioning="scalar")  # fmt: skip
            double = float_embedding(theirs)
            ours = SineNet(CHANNELS, CHANNELS, 8, 2, 1.5, padding=padding, conditions=2, condition_mode=mode)
            cases.append(compare(f"conditioned, {mode}, {padding}", ours, double, 1, time, buoyancy))
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    up = dual.circular_interpolate("bicubic")
    cases.append({"name": "periodic upsampling", "max_relative_error": relative_difference(Upsample2d()(x), up(x))})
    cases.append(loss_case(authors_module(options.official, "modules.loss")))
    cases.append(rollout_case(options.official, dual))
    for case in cases[-3:]:
        print(case, flush=True)
    finish(options, slug="sinenet", official="divelab/AIRS", cases=cases)


def float_embedding(model: nn.Module) -> nn.Module:
    """Their embedding leaves float32 in a model of float64: turn it where it enters the MLPs."""
    for mlp in (model.time_embed, model.pde_emb):
        mlp.register_forward_pre_hook(lambda _, inputs: (inputs[0].double(),))  # type: ignore[operator]
    return model


def loss_case(losses: Any) -> dict[str, Any]:
    """The training loss of random fields."""
    guess, truth = torch.randn(2, 3, 1, 4, 8, 8, dtype=torch.float64)[:2]
    ours = scaled_l2(guess, truth).mean()
    return {"name": "scaled loss", "max_relative_error": relative_difference(ours, losses.scaledlp_loss(guess, truth))}


def rollout_case(path: Path, dual: Any) -> dict[str, Any]:
    """Four steps of a network rolled out from three frames, standardised on the way in and undone on the way out.

    Their function is run from its source, since its module imports the data pipes of their time.
    """
    theirs = theirs_built(dual.sinenet, 8, "circular", num_waves=1, mult=1.5)
    ours = SineNet(HISTORY * CHANNELS, CHANNELS, 8, 1, 1.5).double().load_official(theirs.state_dict())
    frames = 3 + 2 * torch.randn(2, HISTORY, CHANNELS, SIDE, SIDE, dtype=torch.float64)
    normal = FieldNormalizer.fit(frames).double()
    source = path / "OpenPDE" / "SineNet" / "pdearena" / "pdearena" / "rollout.py"
    names: dict[str, Any] = {"torch": torch, "Optional": Any, "PDEDataConfig": Any}
    text = source.read_text().replace("from typing import Optional", "")
    text = text.replace("from pdearena.data.utils import PDEDataConfig", "").replace("Optional[torch.Tensor]", "object")
    exec(compile(text, str(source), "exec"), names)

    class Normalizer:
        def __call__(self, x: Tensor) -> Tensor:
            return normal(x)  # type: ignore[no-any-return]

        inverse = staticmethod(normal.inverse)

    pde = types.SimpleNamespace(n_scalar_components=SCALARS, n_vector_components=VECTORS)
    with torch.no_grad():
        a = normal.inverse(rollout(ours, normal(frames), 4))
        b = names["rollout2d"](theirs, Normalizer(), frames[:, :, :1], frames[:, :, 1:], None, pde, HISTORY, 4)
    return {"name": "rollout of four steps", "max_relative_error": relative_difference(a, b)}


if __name__ == "__main__":
    main()
