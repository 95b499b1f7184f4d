"""Counting parameters, operations and activation bytes by running one step."""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_extra: ContextVar[list[tuple[str, float]] | None] = ContextVar("extra_operations", default=None)


class Operations(int):
    """A number of operations that knows which counter it comes from."""

    counter: str

    def __new__(cls, value: float, counter: str) -> "Operations":
        made = super().__new__(cls, round(value))
        made.counter = counter
        return made


def count_parameters(module: nn.Module, trainable_only: bool = True) -> int:
    """Parameters of a module, shared ones once, a complex one as two."""
    found = {id(p): p for p in module.parameters() if p.requires_grad or not trainable_only}
    return sum(p.numel() * (2 if p.is_complex() else 1) for p in found.values())


def add_operations(number: float, name: str) -> None:
    """Tell the counter of operations that torch's own does not see (an FFT, a spline, a spike); else no effect."""
    if torch.compiler.is_compiling():
        return
    counted = _extra.get()
    if counted is not None:
        counted.append((name, number))


def count_operations(step: Callable[[], Any], backward: bool = True) -> Operations:
    """Floating-point operations (a multiply-add counts as two) of calling `step`, and of the backward pass of the
    scalar that it returns.

    Matrix products, convolutions and attention are counted by torch's FlopCounterMode; what a method adds with
    `add_operations` in its forward pass counts threefold where there is a backward pass (twice the forward's work).
    """
    token = _extra.set([])
    try:
        with FlopCounterMode(display=False, custom_mapping=_attention_on_cpu()) as counter, torch.enable_grad():
            value = step()
            with_backward = backward and isinstance(value, torch.Tensor) and value.requires_grad
            if with_backward:
                _clean_backward(value)
        extra = _extra.get() or []
    finally:
        _extra.reset(token)
    total = counter.get_total_flops() + sum(n for _, n in extra) * (3 if with_backward else 1)
    names = sorted({name for name, _ in extra})
    return Operations(total, "torch FlopCounterMode" + (f" plus {', '.join(names)}" if names else ""))


def _clean_backward(value: torch.Tensor) -> None:
    """Run the backward pass without leaving gradients behind."""
    leaves = _leaves(value)
    before = [leaf.grad for leaf in leaves]
    for leaf in leaves:
        leaf.grad = None
    value.sum().backward()
    for leaf, gradient in zip(leaves, before, strict=True):
        leaf.grad = gradient


def _leaves(value: torch.Tensor) -> list[torch.Tensor]:
    found, todo, seen = {}, [value.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found[id(leaf)] = leaf
        todo += [parent for parent, _ in node.next_functions]
    return list(found.values())


def _attention_on_cpu() -> dict[Any, Any]:
    """Formulas for the CPU's fused attention: 2 products forward, 5 backward, as for the GPU's kernels."""
    aten = torch.ops.aten

    def products(q: Any, k: Any, v: Any, forward: int, backward: int) -> int:
        b, h, n, d = q
        m, e = k[-2], v[-1]
        return 2 * b * h * n * m * (d * forward + e * backward)

    def forward(q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
        return products(q, k, v, 1, 1)

    def backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, **kwargs: Any) -> int:
        return products(q, k, v, 3, 2)

    return {
        aten._scaled_dot_product_flash_attention_for_cpu: forward,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }


def saved_bytes(step: Callable[[], Any], exclude: Iterable[torch.Tensor] = ()) -> int:
    """Bytes of distinct storages that `step` keeps for its backward pass, parameters (and `exclude`) left out."""
    kept: dict[int, int] = {}
    left_out = {tensor.untyped_storage().data_ptr() for tensor in exclude}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        # a parameter's own storage, or a view of it, is there anyway
        base = tensor._base if tensor._base is not None else tensor
        if not (base.is_leaf and base.requires_grad) and storage.data_ptr() not in left_out:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = step()  # held until the count is done, so that no storage is reused
    del value
    return sum(kept.values())


def match_width(
    build: Callable[[int], nn.Module],
    target: float,
    measure: Callable[[nn.Module], float] = count_parameters,
    low: int = 1,
    high: int = 4096,
) -> int:
    """The width whose `measure(build(width))`, which must grow with the width, is nearest to `target`.

    Modules are built on the meta device, so that large ones cost nothing.
    """

    def size(width: int) -> float:
        with torch.device("meta"):
            return measure(build(width))

    while low < high:
        middle = (low + high) // 2
        if size(middle) < target:
            low = middle + 1
        else:
            high = middle
    below = max(1, low - 1)
    return below if abs(size(below) - target) < abs(size(low) - target) else low
