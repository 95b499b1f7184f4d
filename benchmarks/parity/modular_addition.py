"""Compare modular addition with the authors' trainer: `python benchmarks/parity/modular_addition.py --official PATH`.

PATH is a checkout of Y-Agent/modular-addition-feature-learning. From equal random weights, their trainer (every ordered
pair, four forward passes a step) and ours (every unordered pair once) take the same number of steps; weights are
compared, and then the decoding of waves. Both start in float32, as their one-hot inputs are.
"""

import os
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.analysis.modular_addition import ModularAdditionMLP, ModularTask, fourier_basis, fourier_decode
from paperworks.analysis.modular_addition.study import warm_up
from paperworks.training import fit
from parity import arguments, finish, randomise, relative_difference

STEPS, P, WIDTH = 15, 23, 64  # Adam divides by the gradient, so rounding grows with every further step
ACTIVATIONS = {"relu": "ReLU", "square": "Quad", "gelu": "GeLU"}


def authors_modules(path: Path) -> tuple[Any, Any, Any]:
    """Their trainer, model and decoding; the logging and plotting packages that these import are stood in for."""
    for name in ("wandb", "plotly", "plotly.graph_objects", "plotly.express", "plotly.io"):
        sys.modules.setdefault(name, types.ModuleType(name))
    sys.modules["plotly.io"].renderers = types.SimpleNamespace(default="")  # type: ignore[attr-defined]
    sys.path.insert(0, str(path / "src"))
    import mechanism_base  # type: ignore[import-not-found]
    import model_base  # type: ignore[import-not-found]
    import nnTrainer  # type: ignore[import-not-found]

    return nnTrainer, model_base, mechanism_base


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    options.official = options.official.resolve()
    trainer, models, mechanism = authors_modules(options.official)
    cases, trained = [], None
    for activation, theirs_name in ACTIVATIONS.items():
        for optimizer, rate, decay in (
            ("AdamW", 1e-2, 0.0),
            ("AdamW", 1e-2, 2.0),
            ("SGD", 1.0, 0.0),
            ("SGD", 0.5, 0.01),
        ):
            settings = types.SimpleNamespace(
                p=P, d_vocab=P, d_model=P, d_mlp=WIDTH, act_type=theirs_name, init_type="random", init_scale=0.1,
                embed_type="one_hot", optimizer=optimizer, lr=rate, weight_decay=decay, frac_train=1, seed=0,
                device=torch.device("cpu"), fn=lambda x, y: (x + y) % P, save_models=False, batch_style="full",
            )  # fmt: skip
            theirs = models.EmbedMLP(d_vocab=P, d_model=P, d_mlp=WIDTH, act_type=theirs_name, use_cache=False)
            for name, parameter in randomise(theirs).named_parameters():
                parameter.data *= 0.1 if "W_" in name else 1.0
            ours = ModularAdditionMLP(P, WIDTH, activation).load_official(theirs.state_dict())
            task = ModularTask(P)
            with torch.no_grad():
                pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
                forward = relative_difference(ours(pairs), theirs(pairs).squeeze(1))
            with tempfile.TemporaryDirectory() as folder:
                os.chdir(folder)
                run = trainer.Trainer(settings, model=theirs, use_wandb=False)
                for epoch in range(STEPS):
                    run.do_a_training_step(epoch + 1)
                os.chdir("/")
            fit(ours, ModularAdditionMLP.loss, lambda _, batch=task.train: batch, steps=STEPS, lr=rate,
                optimizer=optimizer.lower(), weight_decay=decay, momentum=0.0, betas=(0.9, 0.98),
                schedule=warm_up)  # fmt: skip
            state, trained = theirs.state_dict(), (ours, theirs)
            differences = [
                relative_difference(ours.w_in, state["mlp.W_in"]),
                relative_difference(ours.w_out, state["mlp.W_out"]),
            ]
            name = f"{activation}, {optimizer}, rate {rate:g}, decay {decay:g}, {STEPS} steps"
            cases.append({"name": name, "max_relative_error": max(differences), "forward_relative_error": forward})
            print(cases[-1], flush=True)
    assert trained is not None
    ours, theirs = trained
    basis = fourier_basis(P, torch.float32)
    scales, phis, psis = mechanism.decode_scales_phis(theirs.state_dict(), basis)
    into, out = fourier_decode(ours.w_in.detach()), fourier_decode(ours.w_out.detach().T)
    turned = torch.cat([(a.cos() - b[:, 1:].cos()).abs() for a, b in ((into.phi, phis), (out.phi, psis))])
    error = max(relative_difference(into.alpha, scales[:, 1:]), float(turned.max()))
    cases.append({"name": "decoded amplitudes and phases after training", "max_relative_error": error})
    finish(options, slug="modular_addition", official="Y-Agent/modular-addition-feature-learning", cases=cases)


if __name__ == "__main__":
    main()
