"""Compare CrossViT with the authors' code: `python benchmarks/parity/crossvit.py --official PATH [--record]`.

PATH is a checkout of IBM/CrossViT. All weights, norms, biases, tokens and position embeddings of the authors' model are
drawn at random first, since default initialisation hides wiring errors; then they are loaded through `load_official`,
and outputs and gradients are compared in float64. timm's own model is compared as well.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from paperworks.vision.crossvit import NAMED_SIZES
from timm_peer import import_timm

sys.path.insert(0, str(Path(__file__).parent))
from parity import arguments, finish, randomise, relative_difference

CASES = {
    "crossvit_tiny_240": ("crossvit_tiny_224", 240),
    "crossvit_9_dagger_240": ("crossvit_9_dagger_224", 240),
    "crossvit_small_240": ("crossvit_small_224", 240),
    "crossvit_18_240": ("crossvit_18_224", 240),
    "crossvit_15_dagger_408": ("crossvit_15_dagger_384", 408),
}


def authors_module(path: Path) -> Any:
    """Their module, on a timm newer than theirs: its block calls `drop` by another name now."""
    timm = import_timm()
    vision_transformer = timm.models.vision_transformer
    block = vision_transformer.Block

    def older_block(*args: Any, drop: float = 0.0, **options: Any) -> nn.Module:
        return block(*args, proj_drop=drop, **options)

    vision_transformer.Block = older_block
    sys.path.insert(0, str(path))
    try:
        import models.crossvit as authors  # type: ignore[import-not-found]
    finally:
        vision_transformer.Block = block
    return authors


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    authors, cases = authors_module(options.official), []
    for ours_name, (theirs_name, side) in CASES.items():
        for source in ("authors", "timm"):
            torch.manual_seed(0)
            if source == "authors":
                theirs = getattr(authors, theirs_name)()
            else:
                theirs = import_timm().create_model(ours_name)
            theirs = randomise(theirs).double().eval()
            ours = NAMED_SIZES[ours_name]().double().eval().load_official(theirs.state_dict())
            images = torch.randn(2, 3, side, side, dtype=torch.float64)
            a, b = ours(images), theirs(images)
            case = {"name": f"{ours_name} against {source}", "max_relative_error": relative_difference(a, b)}
            weight = torch.randn_like(a)
            (a * weight).sum().backward()
            (b * weight).sum().backward()
            named = {n.replace("pos_embed.", "pos_embed_").replace("cls_token.", "cls_token_"): p.grad
                     for n, p in theirs.named_parameters()}  # fmt: skip
            pairs = [(p.grad.flatten(), named[n].flatten()) for n, p in ours.named_parameters() if p.grad is not None]
            # over all at once: a key's bias has no gradient but rounding, softmax does not see it
            case["max_relative_gradient_error"] = relative_difference(*map(torch.cat, zip(*pairs, strict=True)))
            cases.append(case)
            print(case, flush=True)
    finish(options, slug="crossvit", official="IBM/CrossViT", cases=cases)


if __name__ == "__main__":
    main()
