"""A user's own network turned into an operator between functions, layer by layer (arXiv 2506.10973).

`to_operator` walks a torch module and replaces what depends on the grid by its function-space counterpart with the
same weights: on the grid of the example nothing changes, on other grids the result tends to one limit. What cannot be
carried over is refused with the reason. `discretization_report` measures whether the result holds what it promises.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .converted_layers import LocalMaximum, LocalMean, QuadratureMultiheadAttention
from .differential_convs import DifferentialConv
from .function_layers import IntegralNorm, QuadratureAttention
from .local_convs import LocalIntegralConv, LocalIntegralConvTranspose, per_axis
from .resized_convs import InterpolatedConv
from .spectral_convs import TransferConv

RECIPES = ("integral", "differential", "spectral", "interpolation")
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AVERAGES = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
NORMS = (nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
POINTWISE = (
    nn.Identity, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Softplus, nn.PReLU, nn.Mish,
    nn.Hardswish, nn.Hardsigmoid, nn.ReLU6, nn.SELU, nn.CELU, nn.Softsign, nn.LogSigmoid, nn.Dropout, nn.Dropout1d,
    nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
OURS = (
    LocalIntegralConv, LocalIntegralConvTranspose, DifferentialConv, InterpolatedConv,
    TransferConv, QuadratureAttention, IntegralNorm,
)  # fmt: skip


class Change(NamedTuple):
    """What became of one layer: `replaced`, `kept` or `refused`."""

    name: str
    layer: str
    fate: str
    why: str


@dataclass
class ConversionReport:
    """What `to_operator` did, layer by layer; `str` of it is a table."""

    changes: list[Change] = field(default_factory=list)

    def of(self, fate: str) -> list[Change]:
        """The changes of one kind."""
        return [change for change in self.changes if change.fate == fate]

    @property
    def replaced(self) -> list[Change]:
        """Layers that were exchanged."""
        return self.of("replaced")

    @property
    def kept(self) -> list[Change]:
        """Layers that are maps between functions already, or were not understood (`why` says which)."""
        return self.of("kept")

    @property
    def refused(self) -> list[Change]:
        """Layers that tie the network to one grid."""
        return self.of("refused")

    def __str__(self) -> str:
        return "\n".join(f"{c.fate:9} {c.name or '(itself)'} [{c.layer}]: {c.why}" for c in self.changes)


class Converted(NamedTuple):
    """The operator and the report on its layers."""

    module: nn.Module
    report: ConversionReport


def to_operator(
    model: nn.Module,
    example: Float[Tensor, "batch channels *grid"] | Sequence[Tensor],
    *,
    domain_length: float | Sequence[float] = 1.0,
    conv: str = "integral",
    strict: bool = False,
) -> Converted:
    """A copy of `model` that takes functions on any grid, and a report of what became of each layer.

    Args:
        model: any torch module; it is not changed.
        example: an input on the grid that the model is made for (or a tuple of inputs, the first on the grid). It is
            run once, which tells every layer's own grid.
        domain_length: physical length of the domain an axis; grids exclude the end point.
        conv: what convolutions become: `integral` (kernel on physical nodes), `differential` (its mean and its
            first differences), `spectral` (its transfer function; circular padding only), `interpolation` (the kernel
            resized, as the paper's converted U-Net). Convolutions that a recipe cannot carry become integrals.
        strict: raise where a layer is refused.

    Returns:
        `(module, report)`. On the example's grid the module gives what the model gives.

    Raises:
        ValueError: an unknown recipe, an example without a grid, or (`strict`) a layer that is refused.
    """
    if conv not in RECIPES:
        raise ValueError(f"conv {conv!r}: one of {', '.join(RECIPES)}")
    inputs = (example,) if isinstance(example, Tensor) else tuple(example)
    if inputs[0].ndim < 3:
        raise ValueError(f"example: expected shape (batch, channels, *grid), given {tuple(inputs[0].shape)}")
    grid = tuple(inputs[0].shape[2:])
    work = _Work(conv, per_axis(domain_length, len(grid), "domain_length"), inputs[0])
    made = copy.deepcopy(model)
    work.look(made, inputs)
    made = work.walk(made, "")
    work.try_another_grid(made, inputs)
    if strict and work.report.refused:
        first = work.report.refused[0]
        raise ValueError(f"{first.name or 'the model'} [{first.layer}] cannot become an operator: {first.why}")
    return Converted(made, work.report)


class _Work:
    """One conversion: the recipe, the domain, the grids seen, the report."""

    def __init__(self, conv: str, length: tuple[float, ...], like: Tensor):
        self.conv, self.length, self.like, self.grid = conv, length, like, tuple(like.shape[2:])
        self.report = ConversionReport()
        self.seen: dict[nn.Module, set[tuple[int, ...]]] = {}
        self.done: dict[nn.Module, nn.Module] = {}

    def look(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Run the example and note the shapes that reach every layer."""

        def note(module: nn.Module, given: tuple[Any, ...]) -> None:
            if given and isinstance(given[0], Tensor):
                self.seen.setdefault(module, set()).add(tuple(given[0].shape))

        hooks = [part.register_forward_pre_hook(note) for part in model.modules()]
        try:
            with _evaluating(model):
                model(*inputs)
        finally:
            for hook in hooks:
                hook.remove()

    def say(self, name: str, layer: nn.Module, fate: str, why: str) -> None:
        self.report.changes.append(Change(name, type(layer).__name__, fate, why))

    def walk(self, module: nn.Module, name: str) -> nn.Module:
        """The counterpart of `module`, its children exchanged in place."""
        if module in self.done:
            return self.done[module]
        self.done[module] = module
        if isinstance(module, OURS):
            self.say(name, module, "kept", "a map between functions already")
            return module
        if parametrize.is_parametrized(module):
            self.say(name, module, "refused", "its weight is parametrised; remove the parametrisation first")
            return module
        new = self.layer(module, name)
        if new is not None:
            self.done[module] = new
            return new
        for child_name, child in list(module.named_children()):
            setattr(module, child_name, self.walk(child, f"{name}.{child_name}" if name else child_name))
        self.own_tables(module, name)
        return module

    def layer(self, module: nn.Module, name: str) -> nn.Module | None:
        """What a layer that is understood becomes; None: look at its children."""
        kinds = (*CONVS, *TRANSPOSED, *AVERAGES, *MAXIMA)
        if isinstance(module, kinds):
            grids = {shape[2:] for shape in self.seen.get(module, ())}
            if len(grids) != 1:
                why = "used on several grids: give each its own layer" if grids else "not used on the example"
                self.say(name, module, "refused", why)
                return module
            new, fate, why = self.on_grid(module, next(iter(grids)))
        elif isinstance(module, nn.MultiheadAttention):
            new, fate, why = self.attention(module)
        elif isinstance(module, NORMS):
            new, fate, why = _norm(module)
        else:
            told = self.without_change(module)
            if told is None:
                return None
            new, (fate, why) = module, told
        self.say(name, module, fate, why)
        return new

    def on_grid(self, module: Any, grid: tuple[int, ...]) -> tuple[nn.Module, str, str]:
        """A layer with a window on the grid."""
        if type(module) not in (*CONVS, *TRANSPOSED, *AVERAGES, *MAXIMA):
            return module, "refused", "a subclass with a forward pass of its own"
        ndim = len(grid)
        kernel = _ints(module.kernel_size, ndim)
        stride = _ints(module.stride if module.stride is not None else module.kernel_size, ndim)
        dilation = _ints(getattr(module, "dilation", 1), ndim)
        padding = module.padding
        if isinstance(padding, str):
            padding = [d * (k - 1) / 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
        padding = [float(p) for p in ((padding,) * ndim if isinstance(padding, int) else padding)]
        spacing = [length / n for length, n in zip(self.length, grid, strict=True)]
        if isinstance(module, TRANSPOSED):
            return self.transposed(module, grid, kernel, stride, dilation, padding, spacing)
        if max(kernel) == 1 and not any(padding):
            return module, "kept", "pointwise" if max(stride) == 1 else "pointwise on a fixed share of the points"
        missing = [d * (k - 1) + 1 - 2 * p for k, d, p in zip(kernel, dilation, padding, strict=True)]
        if any(not 1 <= m <= s for m, s in zip(missing, stride, strict=True)):
            return module, "refused", "padding that does not keep the domain: the output must cover the input's grid"
        if any(n % s for n, s in zip(grid, stride, strict=True)):
            return module, "refused", f"stride {tuple(stride)} does not divide the grid {grid}"
        if isinstance(module, AVERAGES):
            if not getattr(module, "count_include_pad", True) and any(padding):
                return module, "refused", "count_include_pad=False is not an integral"
            new = LocalMean(kernel, spacing, ndim=ndim, stride=stride, origin=padding, domain_length=self.length)
            new.to(self.like.device, self.like.dtype)
            return new, "replaced", "the mean over a window of fixed physical size"
        if isinstance(module, MAXIMA):
            if max(dilation) > 1 or module.return_indices or module.ceil_mode:
                return module, "refused", "dilation, indices or ceil_mode belong to one grid"
            return (
                LocalMaximum(kernel, stride, [int(p) for p in padding], grid),
                "replaced",
                "the maximum over a window of fixed physical size",
            )
        return self.convolution(module, grid, kernel, stride, dilation, padding, spacing)

    def convolution(
        self, module: Any, grid: tuple[int, ...], kernel: Any, stride: Any, dilation: Any, padding: Any, spacing: Any
    ) -> tuple[nn.Module, str, str]:
        """The chosen recipe where it applies, else the integral."""
        centred = all(k % 2 and p == k // 2 for k, p in zip(kernel, padding, strict=True))
        plain = max(stride) == 1 and max(dilation) == 1 and centred
        if self.conv == "interpolation" and max(dilation) == 1 and centred and not isinstance(module.padding, str):
            return InterpolatedConv(module, grid), "replaced", "its kernel is resized to the grid at hand"
        if self.conv == "spectral" and plain and module.padding_mode == "circular":
            return TransferConv(module, grid), "replaced", "its transfer function on the modes of its own grid"
        if self.conv == "differential" and plain and len(set(kernel)) == 1 and len(set(spacing)) == 1:
            new = DifferentialConv(
                module.in_channels, module.out_channels, kernel[0], ndim=len(grid), groups=module.groups,
                padding_mode=module.padding_mode, base_resolution=grid, keep_mean=True, bias=module.bias is not None,
            )  # fmt: skip
            _share(new, module)
            return new, "replaced", "its mean and its first differences"
        new = LocalIntegralConv(
            module.in_channels, module.out_channels, kernel, spacing, ndim=len(grid), stride=stride,
            groups=module.groups, bias=module.bias is not None, padding_mode=module.padding_mode,
            domain_length=self.length, dilation=dilation,
            origin=[p / d for p, d in zip(padding, dilation, strict=True)],
        )  # fmt: skip
        _share(new, module)
        asked = "" if self.conv == "integral" else f" ({self.conv} cannot carry its stride, padding or kernel)"
        return new, "replaced", f"an integral with its kernel on physical nodes{asked}"

    def transposed(
        self, module: Any, grid: tuple[int, ...], kernel: Any, stride: Any, dilation: Any, padding: Any, spacing: Any
    ) -> tuple[nn.Module, str, str]:
        """Transposed convolutions that make the grid `stride` times finer."""
        if self.conv == "interpolation":
            return InterpolatedConv(module, grid), "replaced", "applied on its own grid between resamplings"
        extra = _ints(module.output_padding, len(grid))
        grown = [k - 2 * p + e - s for k, p, e, s in zip(kernel, padding, extra, stride, strict=True)]
        if any(grown) or max(dilation) > 1:
            return module, "refused", "its output is not `stride` times as fine as its input"
        new = LocalIntegralConvTranspose(
            module.in_channels, module.out_channels, kernel, [h / s for h, s in zip(spacing, stride, strict=True)],
            ndim=len(grid), stride=stride, groups=module.groups, bias=module.bias is not None,
            domain_length=self.length, origin=padding,
        )  # fmt: skip
        _share(new, module)
        return new, "replaced", "an integral onto the finer grid with its kernel on physical nodes"

    def attention(self, module: nn.MultiheadAttention) -> tuple[nn.Module, str, str]:
        """Attention as an integral over points."""
        if type(module) is not nn.MultiheadAttention:
            return module, "refused", "a subclass with a forward pass of its own"
        if module.bias_k is not None or module.add_zero_attn:
            return module, "refused", "bias_k and add_zero_attn add a point that lies nowhere"
        return QuadratureMultiheadAttention(module), "replaced", "an integral over points; weights by set_quadrature"

    def without_change(self, module: nn.Module) -> tuple[str, str] | None:
        """Fate and reason of layers that stay; None: a container."""
        if isinstance(module, POINTWISE):
            return "kept", "pointwise"
        if isinstance(module, nn.Linear):
            return "kept", "pointwise on the last axis, if that is channels"
        if isinstance(module, nn.LayerNorm):
            if len(module.normalized_shape) > 1:
                return "refused", "an affine map for each point of one grid; use IntegralNorm, or LayerNorm on channels"
            return "kept", "over channels at each point"
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            return "kept", "means over a uniform grid are integrals"
        if isinstance(module, nn.Upsample | nn.UpsamplingBilinear2d | nn.UpsamplingNearest2d):
            if module.size is not None:
                return "refused", "to one size whatever the input's; give a scale factor"
            return "kept", "resampling at a fixed ratio"
        if isinstance(module, ADAPTIVE):
            return "kept", "means over fixed parts of the domain"
        if isinstance(module, nn.PixelShuffle | nn.PixelUnshuffle):
            return "refused", "exchanges channels and neighbouring points: on finer grids its pattern has no limit"
        if isinstance(module, nn.Flatten):
            many = [s for s in self.seen.get(module, ()) if math.prod(s[module.start_dim :]) > s[1] and len(s) > 2]
            if module.start_dim <= 1 and many:
                return "refused", "mixes points with channels; use KernelIntegral or a mean over the domain"
            return "kept", "does not mix points with channels"
        if isinstance(module, nn.Embedding):
            return "refused", "a table by index; positions must be a function of coordinates (CoordinateEmbedding)"
        if not any(True for _ in module.children()) and not list(module.parameters(recurse=False)):
            return "kept", "not known to this conversion: it must be a map between functions on its own"
        return None

    def own_tables(self, module: nn.Module, name: str) -> None:
        """Parameters that a module holds itself and that have as many entries as a grid has points."""
        sizes = {*self.grid}
        for shapes in self.seen.values():
            for shape in shapes:
                if len(shape) == 3 and shape[1] > 4:  # tokens
                    sizes |= {shape[1], shape[1] + 1}
                if len(shape) > 3:
                    sizes.add(math.prod(shape[2:]))
        for parameter, value in module.named_parameters(recurse=False):
            table = value.ndim >= 2 and any(n in sizes and n > 4 for n in value.shape)
            if table and ("pos" in parameter.lower() or type(module).__module__.split(".")[0] != "torch"):
                what = (
                    f"{parameter} {tuple(value.shape)} may be a table over one grid's points; use CoordinateEmbedding"
                )
                self.say(f"{name}.{parameter}".lstrip("."), module, "refused", what)

    def try_another_grid(self, made: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Run on twice as fine a grid: what is tied to one grid in the user's own forward pass shows here."""
        finer = [2 * n for n in self.grid]
        try:
            with _evaluating(made):
                again = [F.interpolate(x, finer) if tuple(x.shape[2:]) == self.grid else x for x in inputs]
                made(*again)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            self.say("", made, "refused", f"does not run on the grid {tuple(finer)}: {told}")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without gradients, every part in evaluation, and each back in its own mode afterwards."""
    training = {part: part.training for part in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, was in training.items():
            part.training = was


def _ints(value: Any, ndim: int) -> list[int]:
    return [int(value)] * ndim if isinstance(value, int) else [int(v) for v in value]


def _share(new: Any, module: Any) -> None:
    """The old layer's own parameters, in its mode."""
    new.weight, new.bias = module.weight, module.bias
    new.to(module.weight.device)
    new.train(module.training)


def _norm(module: Any) -> tuple[nn.Module, str, str]:
    """Group and instance norm with integrals as means."""
    if getattr(module, "track_running_stats", False):
        return module, "kept", "running means over a uniform grid are integrals"
    channels = module.num_channels if isinstance(module, nn.GroupNorm) else module.num_features
    groups = module.num_groups if isinstance(module, nn.GroupNorm) else channels
    if not channels:
        return module, "kept", "means over a uniform grid are integrals"
    new = IntegralNorm(channels, groups, module.eps, affine=False)
    new.weight, new.bias = module.weight, module.bias
    return new, "replaced", "its means are integrals; weights by set_quadrature"
