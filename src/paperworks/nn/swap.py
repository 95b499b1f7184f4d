"""Replacing layers of a network that somebody else wrote: `add_noble`, `binarize`, `convert_to_spiking` share it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Swapped:
    """What `swap_layers` did. `replaced` and `skipped` go by module name; `skipped` says why each was left."""

    replaced: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)


def swap_layers(
    model: nn.Module,
    of: type[nn.Module] | tuple[type[nn.Module], ...],
    make: Callable[[str, nn.Module], nn.Module | None],
    *,
    targets: Sequence[str] | Callable[[str, nn.Module], bool] | None = None,
) -> Swapped:
    """Replace layers of `model`, in place, by what `make(name, layer)` gives for them (None leaves a layer).

    A layer is left, and `Swapped.skipped` says why, where a swap would go unnoticed or do harm: one whose weight is
    tied to another module, and the projections that `nn.MultiheadAttention` reads without calling. A layer that is
    used under several names is replaced once, under all of them. What `make` returned is not searched again. Every
    `nn.TransformerEncoderLayer` in which a layer was replaced is taken off its fused path, which would read
    `linear1.weight` and never call the layer, and its `nn.TransformerEncoder` no longer nests padded inputs.

    Args:
        of: the classes to look for; subclasses count.
        make: gets a layer's name and the layer; the replacement is put in the layer's training mode.
        targets: limits the swap: names, each the end of a module's dotted path (``"q_proj"``, ``"mlp.fc1"``), or a
            predicate. A name that fits no layer is an error, so that a misspelling is not passed over.

    Raises:
        ValueError: the model is itself such a layer (wrap it in ``nn.Sequential``), a target that fits none, or
            nothing was replaced.
    """
    if isinstance(model, of):
        raise ValueError(f"model is itself a {type(model).__name__}: wrap it, nn.Sequential(model), to replace it")
    names: dict[int, list[str]] = {}
    layers: dict[int, nn.Module] = {}
    owners: dict[str, tuple[nn.Module, str]] = {}
    modules = dict(model.named_modules(remove_duplicate=False))
    for name, module in modules.items():
        if isinstance(module, of):
            path, _, leaf = name.rpartition(".")
            owners[name] = (modules[path], leaf)
            names.setdefault(id(module), []).append(name)
            layers[id(module)] = module
    wanted = _wanted({name: layers[key] for key, all_names in names.items() for name in all_names}, targets)
    holders = _holders(model)
    replaced: list[str] = []
    skipped: dict[str, str] = {}
    for key, layer in layers.items():
        if not any(name in wanted for name in names[key]):
            continue
        first = names[key][0]
        reason = _reason(layer, [owners[name][0] for name in names[key]], holders)
        if reason:
            skipped[first] = reason
            continue
        new = make(first, layer)
        if new is None:
            continue
        new.train(layer.training)
        for name in names[key]:
            owner, leaf = owners[name]
            setattr(owner, leaf, new)
            replaced.append(name)
    if not replaced:
        kinds = ", ".join(kind.__name__ for kind in (of if isinstance(of, tuple) else (of,)))
        why = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise ValueError(f"model: no {kinds} was replaced" + (f" ({why})" if why else ""))
    for name, module in modules.items():
        if not any(done.startswith(f"{name}.") or not name for done in replaced):
            continue
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return Swapped(tuple(replaced), skipped)


def _wanted(layers: dict[str, nn.Module], targets: Sequence[str] | Callable[[str, nn.Module], bool] | None) -> set[str]:
    if targets is None:
        return set(layers)
    if callable(targets):
        return {name for name, layer in layers.items() if targets(name, layer)}
    found: set[str] = set()
    for target in targets:
        fits = {name for name in layers if name == target or name.endswith(f".{target}")}
        if not fits:
            raise ValueError(f"targets: {target!r} is the end of no layer's name; there are {', '.join(layers)}")
        found |= fits
    return found


def _holders(model: nn.Module) -> dict[int, int]:
    """How many modules hold each parameter."""
    holders: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    return holders


def _reason(layer: nn.Module, owners: Sequence[nn.Module], holders: dict[int, int]) -> str:
    if any(isinstance(owner, nn.MultiheadAttention) for owner in owners):
        return "nn.MultiheadAttention reads its weight and never calls it"
    weight = layer._parameters.get("weight")
    if isinstance(weight, Tensor) and holders[id(weight)] > 1:
        return "its weight is tied to another module"
    return ""
