"""`binarize`: periodic binary layers in a network that somebody else wrote."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.nn.swap import Swapped, swap_layers

from .layers import BiPerConv2d, BiPerLinear

STARTS = ("matched", "weights", "fresh")


def binarize(
    model: nn.Module,
    freq: float = 20.0,
    *,
    skip: Sequence[str] = ("first", "last"),
    targets: Sequence[str] | Callable[[str, nn.Module], bool] | None = None,
    start: str = "matched",
    stage: int = 1,
    **options: Any,
) -> Swapped:
    """Replace convolutions and linear layers of a network, in place, by periodic binary ones in stage 1.

    Knows `nn.Conv2d`, `nn.Linear` and the `Conv1D` of transformers. A layer whose weight is tied to another module,
    or that `nn.MultiheadAttention` reads without calling, is left; the answer says which and why. Train with
    `fit_two_stage`, or call `set_stage(model, 2)` half way through a training of your own.

    Args:
        skip: layers that stay real, in the order of `model.named_modules()`: `first`, `last`, both, or neither.
        targets: names (ends of dotted paths) or a predicate; `skip` is not looked at then.
        start: `matched`: latent weights and scales such that alpha sin(omega w) is the layer's own weight, so that
            only the activations change; `weights`: its weights are the latent ones, alpha is uniform, as if the
            authors' layer had been put there; `fresh`: all drawn anew.
        stage, options: of `BiPerConv2d` and `BiPerLinear` (`binary_input=False`, `sign_of_zero`, `border`).

    Returns:
        The names of the layers replaced and skipped.

    Raises:
        ValueError: nothing to replace, an unknown target, or an unknown `start` or `skip`.
    """
    if start not in STARTS:
        raise ValueError(f"start {start!r}: one of {', '.join(STARTS)}")
    if start == "matched" and not options.get("scale", True):
        raise ValueError("start 'matched' needs scale=True: alpha carries the size of the weights")
    if set(skip) - {"first", "last"}:
        raise ValueError(f"skip {tuple(skip)}: 'first' and 'last' are known; name layers with targets")
    kinds = (nn.Conv2d, nn.Linear, *_conv1d_classes(model))
    left: dict[str, str] = {}
    if targets is None:
        names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
        left |= {names[0]: "the first layer"} if names and "first" in skip else {}
        left |= {names[-1]: "the last layer"} if names and "last" in skip else {}
        targets = lambda name, _: name not in left  # noqa: E731
    swapped = swap_layers(model, kinds, lambda _, layer: _periodic(layer, freq, start, stage, options), targets=targets)
    return Swapped(swapped.replaced, left | swapped.skipped)


def _conv1d_classes(model: nn.Module) -> tuple[type[nn.Module], ...]:
    """transformers' Conv1D, a linear layer whose weight is (in, out), without importing transformers."""
    kinds = {type(module) for module in model.modules()}
    return tuple(k for k in kinds if k.__name__ == "Conv1D" and k.__module__.startswith("transformers."))


@torch.no_grad()
def _periodic(layer: nn.Module, freq: float, start: str, stage: int, options: dict[str, Any]) -> nn.Module | None:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    trains = weight.requires_grad
    made: BiPerConv2d | BiPerLinear
    if isinstance(layer, nn.Conv2d):
        form: Any = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding,
                     layer.dilation, layer.groups, bias is not None, layer.padding_mode)  # fmt: skip
        made = BiPerConv2d(*form, freq=freq, stage=stage, **options)
    else:
        if not isinstance(layer, nn.Linear):
            weight = weight.T
        if weight.shape[1] < 2:
            return None  # the sign of a single feature has no deviation
        linear = {name: value for name, value in options.items() if name != "border"}
        made = BiPerLinear(weight.shape[1], weight.shape[0], bias is not None, freq=freq, stage=stage, **linear)
    made = made.to(weight.device, weight.dtype)
    if start == "weights":
        made.weight.copy_(weight)
    elif start == "matched":
        largest = weight.flatten(1).abs().amax(1)
        largest = torch.where(largest > 0, largest, 1)  # a channel of zeros stays one
        made.weight.copy_(torch.asin(weight / largest.view(-1, *[1] * (weight.ndim - 1))) / freq)
        assert made.alpha is not None
        made.alpha.copy_(largest.view_as(made.alpha))
    if made.bias is not None and isinstance(bias, Tensor) and start != "fresh":
        # the bias is added before the scale
        made.bias.copy_(bias / made.alpha.flatten() if start == "matched" and made.alpha is not None else bias)
    return made.requires_grad_(trains)
