"""`paperworks logic model/ --out circuit.v`: the gates of a fitted network, printed or written as BLIF or Verilog."""

from pathlib import Path
from typing import Annotated, Any

import typer

from paperworks.errors import PaperworksError
from paperworks.training.recipe import read_recipe

from .formats import write_net
from .model import BooleanThresholdNetwork
from .recipe import names_of

SUFFIXES = (".blif", ".v", ".net", ".txt")


def logic(
    model: Annotated[Path, typer.Argument(help="A folder that `fit boolean_threshold` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="A file .blif, .v (Verilog), .net (the authors' format) or .txt.")
    ] = None,
    simplify: Annotated[bool, typer.Option(help="Fold copies, negations and constants; merge equal gates.")] = True,
) -> dict[str, Any]:
    """The circuit of gates that a fitted network is."""
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise PaperworksError(f"--out {out}: a name ending in {', '.join(SUFFIXES)}")
    stored = read_recipe(model)
    if stored["slug"] != "boolean_threshold":
        raise PaperworksError(f"{model} was fitted by {stored['slug']}; give a folder of `fit boolean_threshold`")
    network = BooleanThresholdNetwork.from_pretrained(model)
    description = stored["data"]
    try:
        circuit = network.to_logic(*names_of(description), simplify=simplify)
    except ValueError as error:
        raise PaperworksError(f"{model}: {error}") from error
    lines = [str(circuit), f"{len(circuit.gates)} gates, {len(circuit.inputs)} inputs, {len(circuit.outputs)} outputs"]
    for name, cut, pair in zip(description["columns"], description["cuts"], description["values"], strict=True):
        if pair is None or pair[0] not in (-1, 0) or pair[1] != 1:
            lines.append(f"{name} is 1 above {cut:g}")
    if len(description["classes"]) > 2:
        lines.append("`predict` takes the class of the largest sum; the gates give the sign of every sum")
    if out is not None:
        try:
            if out.suffix.lower() == ".net":
                write_net(out, network.wiring, network.weights.tolist())
            else:
                text = {".blif": circuit.to_blif, ".v": circuit.to_verilog}.get(out.suffix.lower(), circuit.__str__)()
                out.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
        except OSError as error:
            raise PaperworksError(f"{out} cannot be written: {error.strerror or error}") from error
        lines.append(f"Written: {out.resolve()}")
    gates = [{"name": gate.name, "inputs": list(gate.inputs), "kind": gate.kind} for gate in circuit.gates]
    return {"text": "\n".join(lines), "gates": gates, "outputs": circuit.outputs, "out": out and str(out)}
