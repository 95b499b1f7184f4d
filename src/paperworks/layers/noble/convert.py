"""Putting NOBLE branches on the linear layers of a network that somebody else wrote: `add_noble`.

What the branches cost: `noble_overhead`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.measure import count_parameters
from paperworks.nn import check_shape, swap_layers

from .model import NobleLinear, noble_layers

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
FUSED_NAMES = ("qkv", "query_key_value", "c_attn", "in_proj")


@dataclass(frozen=True)
class NobleReport:
    """What `add_noble` did.

    Attributes:
        replaced: names of the layers that have a branch now.
        skipped: names of layers that were left, and why.
        fused: layers that hold queries, keys and values in one matrix and got one branch for all of them (the paper
            has one each).
        attention: `nn.MultiheadAttention`s that were replaced by `ProjectedAttention`.
        overhead: their cost.
    """

    replaced: tuple[str, ...]
    skipped: dict[str, str]
    fused: tuple[str, ...]
    attention: tuple[str, ...]
    overhead: "Overhead"

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} layers have a branch"]
        lines += [f"one branch for a fused projection: {name}" for name in self.fused]
        lines += [f"rewritten so that its projections are called: {name}" for name in self.attention]
        lines += [f"left: {name} ({why})" for name, why in self.skipped.items()]
        return "\n".join([*lines, str(self.overhead)])


@dataclass(frozen=True)
class Overhead:
    """Costs of the branches of a network.

    Attributes:
        layers: by name: rank, parameters of the main layer and of the branch, multiply-adds a row of both.
        parameters: of the network, branches included; `branch_parameters` of all branches.
    """

    layers: dict[str, dict[str, int]]
    parameters: int
    branch_parameters: int

    @property
    def share(self) -> float:
        """Parameters added, as a share of the network without branches."""
        return self.branch_parameters / (self.parameters - self.branch_parameters)

    @property
    def mac_share(self) -> float:
        """Multiply-adds added, as a share of those of the main layers."""
        main = sum(layer["main_macs"] for layer in self.layers.values())
        return sum(layer["branch_macs"] for layer in self.layers.values()) / main

    def __str__(self) -> str:
        width = max(len(name) for name in self.layers) if self.layers else 0
        lines = [
            f"{name:<{width}}  rank {layer['rank']}: {layer['branch']:,} on {layer['main']:,} parameters "
            f"({layer['branch'] / layer['main']:+.1%})"
            for name, layer in self.layers.items()
        ]
        total = f"{self.branch_parameters:,} of {self.parameters:,} parameters are branches ({self.share:+.1%})"
        return "\n".join([*lines, f"{total}; multiply-adds of these layers {self.mac_share:+.1%}"])


class ProjectedAttention(nn.Module):
    """`nn.MultiheadAttention` with its projections as modules that are called, in place of matrices that are read.

    Takes over the weights of `attention`; same arguments, same results. torch's own keeps queries, keys and values in
    one packed matrix and never calls its output projection, so that a branch there would go unnoticed.
    """

    in_proj_weight: None = None  # torch's encoder layer asks for these to choose its fused path
    in_proj_bias: None = None
    _qkv_same_embed_dim = False

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.embed_dim, self.num_heads = attention.embed_dim, attention.num_heads
        self.head_dim, self.kdim, self.vdim = attention.head_dim, attention.kdim, attention.vdim
        self.dropout, self.batch_first = attention.dropout, attention.batch_first
        if attention._qkv_same_embed_dim:
            weights = attention.in_proj_weight.chunk(3)  # type: ignore[union-attr]
        else:
            weights = (attention.q_proj_weight, attention.k_proj_weight, attention.v_proj_weight)
        packed = attention.in_proj_bias
        biases = (None,) * 3 if packed is None else packed.chunk(3)
        out = attention.out_proj
        for name, weight, bias in zip(PROJECTIONS, (*weights, out.weight), (*biases, out.bias), strict=True):
            setattr(self, name, _linear(weight, bias))

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention.forward`: output, and attention weights or None."""
        for name, tensor, width in (
            ("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim),
        ):  # fmt: skip
            check_shape(name, tensor, ("...", width))
        batched = query.dim() == 3
        if not batched:
            query, key, value = query[None], key[None], value[None]
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        elif not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        q, k, v = (
            getattr(self, f"{name}_proj")(tensor).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for name, tensor in (("q", query), ("k", key), ("v", value))
        )
        if is_causal and attn_mask is None:
            raise ValueError("attn_mask: is_causal is a hint about a mask; give the mask too")
        mask = self._mask(attn_mask, key_padding_mask, q)
        rate = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-1, -2) * self.head_dim**-0.5
            weights = (scores if mask is None else scores + mask).softmax(-1)
            weights = F.dropout(weights, rate) if rate else weights
            mixed = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, rate)
        out = self.out_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[operator]
        if not batched:
            return out[0], None if weights is None else weights[0]
        return out if self.batch_first else out.transpose(0, 1), weights

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Both masks as one that is added to scores (batch, heads, queries, keys)."""
        mask = None
        if attn_mask is not None:
            mask = _added(attn_mask, q)
            mask = mask.unflatten(0, (-1, self.num_heads)) if mask.dim() == 3 else mask
        if padding is not None:
            padding = _added(padding, q)[:, None, None, :]
            mask = padding if mask is None else mask + padding
        return mask

    def merge_masks(self, *args: Any) -> Any:
        """Never asked for: torch's fused path is off."""
        raise NotImplementedError


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these weights, copied."""
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    layer.weight = nn.Parameter(weight.detach().clone(), weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer


def add_noble(
    model: nn.Module,
    rank: int = 32,
    *,
    targets: Sequence[str] | Callable[[str, nn.Module], bool] | None = None,
    keep_weights: bool = True,
    attention: str = "replace",
    **options: Any,
) -> NobleReport:
    """Put a NOBLE branch on linear layers of `model`, in place.

    `nn.Linear`, the `Conv1D` of transformers' GPT-2, and the projections of `nn.MultiheadAttention`, which is first
    replaced by an equivalent that calls them. Make the optimiser afterwards, of `lr_multiplier_groups(model, lr)`, and
    call code that initialises a network before. The branches' weights are drawn from torch's global generator.

    Args:
        rank: of the branches.
        targets: names, each the end of a layer's dotted path (``"mlp.c_fc"``, ``"self_attn"``), or a predicate of name
            and layer. None: as the paper, every such layer inside the blocks and none outside (embeddings, heads),
            where blocks are what an `nn.ModuleList` or an `nn.Sequential` of equal modules holds; all of them in a
            network without blocks.
        keep_weights: False draws W and b anew, W at half the usual size, as the paper trains from scratch.
        attention: what to do with a targeted `nn.MultiheadAttention`: "replace" or "refuse".
        options: of `NobleLinear` (`nonlinearity`, `up_init`, ...).

    Raises:
        ValueError: no layer fits, the rank leaves none, or `attention="refuse"` and there is one.
    """
    if attention not in ("replace", "refuse"):
        raise ValueError(f"attention: {attention!r}; one of replace, refuse")
    if any(isinstance(module, NobleLinear) for module in model.modules()):
        raise ValueError("model: has NOBLE branches already")
    too_narrow: dict[str, str] = {}
    fused: list[str] = []
    rewritten: list[str] = []

    def branched(name: str, layer: nn.Module) -> nn.Module | None:
        n_in, n_out = _features(layer)
        if rank >= min(n_in, n_out):
            too_narrow[name] = f"rank {rank} is not below its {n_in} inputs and {n_out} outputs"
            return None
        if any(word in name.lower() for word in FUSED_NAMES):
            fused.append(name)
        weight = layer.weight
        assert isinstance(weight, Tensor)
        made = NobleLinear(n_in, n_out, rank=rank, main=layer, **options)
        made = made.to(device=weight.device, dtype=weight.dtype)
        if not keep_weights:
            made.reset_main()
        return made

    def make(name: str, layer: nn.Module) -> nn.Module | None:
        if not isinstance(layer, nn.MultiheadAttention):
            return branched(name, layer)
        if attention == "refuse":
            raise ValueError(
                f"{name}: nn.MultiheadAttention reads its projections and never calls them, so a branch there would "
                'have no effect; attention="replace" rewrites it'
            )
        if layer.bias_k is not None or layer.add_zero_attn:
            too_narrow[name] = "nn.MultiheadAttention with bias_k, bias_v or add_zero_attn cannot be rewritten"
            return None
        new = ProjectedAttention(layer)
        done = {part: branched(f"{name}.{part}", getattr(new, part)) for part in PROJECTIONS}
        if not any(done.values()):
            return None
        for part, projection in done.items():
            if projection is not None:
                setattr(new, part, projection)
        rewritten.append(name)
        return new

    outside: dict[str, str] = {}
    kinds = (nn.Linear, nn.MultiheadAttention, *_conv1d())
    if targets is None:
        blocks = _blocks(model)

        def inside(name: str, layer: nn.Module) -> bool:
            found = not blocks or any(name.startswith(f"{block}.") for block in blocks)
            if not found:
                outside[name] = "outside the blocks"
            return found

        targets = inside
    try:
        swapped = swap_layers(model, kinds, make, targets=targets)
    except ValueError as error:
        if too_narrow and "was replaced" in str(error):
            raise ValueError("; ".join(f"{name}: {why}" for name, why in too_narrow.items())) from error
        raise
    attended = {f"{name}.out_proj" for name in rewritten}
    skipped = {name: why for name, why in swapped.skipped.items() if name not in attended}
    overhead = noble_overhead(model)
    return NobleReport(
        tuple(overhead.layers), {**skipped, **too_narrow, **outside}, tuple(fused), tuple(rewritten), overhead
    )


def _conv1d() -> tuple[type[nn.Module], ...]:
    """The linear layer of transformers' GPT-2, if that package is in use."""
    module = sys.modules.get("transformers.pytorch_utils")
    return (module.Conv1D,) if module else ()


def _features(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return tuple(layer.weight.shape)  # type: ignore[return-value]


def _blocks(model: nn.Module) -> list[str]:
    """Names of the lists of blocks."""
    found = []
    for name, module in model.named_modules():
        children = list(module.children())
        equal = len({type(child) for child in children}) == 1 and any(True for _ in children[0].children())
        listed = isinstance(module, nn.ModuleList) or (isinstance(module, nn.Sequential) and len(children) > 1)
        if name and listed and equal:
            found.append(name)
    return found


def noble_overhead(model: nn.Module) -> Overhead:
    """What the branches of `model` cost, layer by layer and in all."""
    layers: dict[str, dict[str, int]] = {}
    for name, layer in noble_layers(model):
        main = count_parameters(layer.linear, trainable_only=False)
        n_in, n_out, r = layer.in_features, layer.out_features, layer.rank
        mixes: Mapping[str, nn.Module] = dict(layer.nonlinearity.named_modules())
        inner = sum(mix.weight.numel() for mix in mixes.values() if isinstance(mix, nn.Linear))
        layers[name] = {
            "rank": r,
            "main": main,
            "branch": count_parameters(layer, trainable_only=False) - main,
            "main_macs": n_in * n_out,
            "branch_macs": layer.down.weight.numel() + inner + r * n_out,
        }
    total = count_parameters(model, trainable_only=False)
    return Overhead(layers, total, sum(layer["branch"] for layer in layers.values()))


@torch.no_grad()
def branch_shares(model: nn.Module, *inputs: Any) -> dict[str, float]:
    """How loud each branch is: the norm of what it adds over that of what its main layer gives, in `model(*inputs)`."""
    shares: dict[str, float] = {}

    def watched(name: str) -> Callable[..., None]:
        def look(layer: NobleLinear, given: tuple[Tensor, ...], _: Tensor) -> None:
            shares[name] = float(layer.branch(given[0]).norm() / layer.linear(given[0]).norm())

        return look

    handles = [layer.register_forward_hook(watched(name)) for name, layer in noble_layers(model)]
    try:
        model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return shares
