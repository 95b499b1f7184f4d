"""`paperworks pack-binary my-model/`: a fitted binary network in one bit a weight, checked and timed."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import torch
import typer

from paperworks.errors import PaperworksError
from paperworks.training.recipe import read_recipe

from .layers import binary_layers
from .packed import export_binary, load_binary
from .recipe import recipe

ROUNDS = 15


def pack_binary(
    folder: Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `paperworks fit biper` wrote.")],
    out: Annotated[Path | None, typer.Option(help="The file; default: MODEL/packed.safetensors.")] = None,
) -> dict[str, Any]:
    """Write a fitted binary network with one bit a weight, read it back, and compare with the original."""
    stored = read_recipe(folder)
    if stored["slug"] != recipe.slug:
        raise PaperworksError(f"{folder} holds a {stored['slug']}; give a folder that `paperworks fit biper` wrote")
    model = recipe.model(stored["data"]).from_pretrained(folder).eval()
    path = out or folder / "packed.safetensors"
    report = export_binary(model, path)
    packed = load_binary(path)
    side = stored["data"]["side"]
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        same = torch.equal(packed(images), model(images))
        times = _milliseconds({"packed": lambda: packed(images), "unpacked": lambda: model(images)})
    before = (folder / "model.safetensors").stat().st_size
    text = (
        f"{report}\n{folder / 'model.safetensors'} has {before:,} bytes. Read back, it answers "
        f"{'the same to the last bit' if same else 'otherwise: do not use it'}.\n"
        f"One image takes {times['packed']:.2f} ms packed, {times['unpacked']:.2f} ms unpacked (medians of {ROUNDS})."
    )
    layers = {name: {"weights": layer.weight.numel(), "bytes": -(-layer.weight.numel() // 8)}
              for name, layer in binary_layers(model)}  # fmt: skip
    return {
        "text": text,
        "file": str(path),
        "bytes": report.file_bytes,
        "float_bytes": report.float_bytes,
        "binary_weights": report.binary_weights,
        "binary_bytes": report.binary_bytes,
        "other_bytes": report.other_bytes,
        "equal_to_the_bit": same,
        "milliseconds": times,
        "layers": layers,
    }


def _milliseconds(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median of one call each, in turns, after a call to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(ROUNDS + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if round_:
                taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: median(values) for name, values in taken.items()}
