"""AF-KAN (arXiv 2503.06112): KAN layers of activation functions with a linear layer's parameter count.

Authors' code: hoangthangta/All-KAN. One layer, for x (batch, inputs) and K = G + k functions that all inputs share:

    F_ij = f(act(x_i - low_j), act(high_j - x_i)),    scaled to [0, 1]
    u_i  = w_i sum_j F_ij,    w = softmax over inputs of (sum_j v_j F_ij) / max(tau, 1)        (global attention)
    y    = W act(LayerNorm(u))
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.measure import add_operations
from paperworks.nn import Example, Pretrained, check_shape, published_size

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "selu": F.selu,
    "elu": F.elu,
    "softplus": F.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "quad1": lambda a, b: (a * b).square(),
    "quad2": lambda a, b: a * b + a.square() + b.square(),
    "sum": lambda a, b: a + b,
    "prod": lambda a, b: a * b,
    "sum_prod": lambda a, b: a + b + a * b,
    "cubic1": lambda a, b: (a + b) * (a.square() + b.square()),
    "cubic2": lambda a, b: (a * b) ** 3,
}
REDUCTIONS = ("global_attn", "spatial_attn", "multistep")
NORMS = ("layer", "batch", "none")
FUNC_NORMS = ("sample", "batch", "none")


class AFKANLayer(nn.Module):
    """One layer.

    Args:
        in_features, out_features: of the layer.
        grid_size, order: G and k; K = G + k functions.
        activation: silu (default), relu, leaky_relu, gelu, selu, elu, softplus, sigmoid, tanh.
        function: how both activations are combined: quad1 (default), quad2, sum, prod, sum_prod, cubic1, cubic2.
        reduction: from K functions to one number: global_attn (default), spatial_attn, multistep.
        norm: layer (default), batch, none; before the linear layer.
        func_norm: the functions scaled to [0, 1] over a `sample` (default), over the whole `batch` as the authors' code
            does, which makes a row's output depend on the others, or `none`.
        dead_bias: the bias of the reduction that softmax or norm cancels; only there to load the authors' weights.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 3,
        order: int = 3,
        activation: str = "silu",
        function: str = "quad1",
        reduction: str = "global_attn",
        norm: str = "layer",
        func_norm: str = "sample",
        dead_bias: bool = False,
    ):
        super().__init__()
        for name, value, known in (
            ("activation", activation, ACTIVATIONS),
            ("function", function, FUNCTIONS),
            ("reduction", reduction, REDUCTIONS),
            ("norm", norm, NORMS),
            ("func_norm", func_norm, FUNC_NORMS),
        ):
            if value not in known:
                raise ValueError(f"{name} {value!r}: one of {', '.join(known)}")
        self.in_features, self.out_features, self.func_norm, self.reduction = (
            in_features,
            out_features,
            func_norm,
            reduction,
        )
        self.activation, self.function = ACTIVATIONS[activation], FUNCTIONS[function]
        self.n_functions = n = grid_size + order
        self.phase_low = nn.Parameter(torch.arange(-order, grid_size) / grid_size)
        self.phase_high = nn.Parameter(self.phase_low.detach() + (order + 1) / grid_size)
        if reduction == "spatial_attn":
            self.conv = nn.Conv1d(n, n, 3, padding=1, groups=n)
        else:
            self.gk_linear = nn.Linear(n, 1, bias=dead_bias or (reduction == "multistep" and norm == "none"))
        if reduction != "multistep":
            self.temperature = nn.Parameter(torch.tensor(math.sqrt(in_features)))
        self.norm = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, "none": nn.Identity}[norm](in_features)
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def functions(self, x: Float[Tensor, "batch inputs"]) -> Float[Tensor, "batch inputs functions"]:
        """F_ij before it is scaled."""
        x = x[..., None]
        found = self.function(self.activation(x - self.phase_low), self.activation(self.phase_high - x))
        add_operations(12 * found.numel(), "activation functions")
        return found

    def _range(self, found: Tensor) -> tuple[Tensor, Tensor]:
        """Offset and factor that put the functions into [0, 1], (batch or 1, 1, 1).

        The authors divide by the norm first, which a scaling between minimum and maximum undoes.
        """
        flat = found.flatten(1) if self.func_norm == "sample" else found.flatten()[None]
        low, high = flat.aminmax(dim=1)
        width = high - low
        return low[:, None, None], 1 / torch.where(width > 0, width, torch.ones_like(width))[:, None, None]

    def forward(self, x: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        """Functions, reduction, norm, linear layer. Scaling is affine, so it is done after the sums over functions."""
        check_shape("x", x, ("batch", self.in_features))
        found = self.functions(x)
        offset, factor = self._range(found) if self.func_norm != "none" else (None, None)
        if self.reduction == "spatial_attn":
            if offset is not None and factor is not None:
                found = (found - offset) * factor
            score = self.conv(found.transpose(1, 2)) / self.temperature.clamp_min(1.0)
            u = (found * score.softmax(1).transpose(1, 2)).sum(-1)
        else:
            v, n = self.gk_linear.weight[0], self.n_functions
            score = found @ v
            if offset is not None and factor is not None:
                score = (score - offset[..., 0] * v.sum()) * factor[..., 0]
            if self.gk_linear.bias is not None:
                score = score + self.gk_linear.bias
            if self.reduction == "multistep":
                u = score
            else:
                total = found.sum(-1)
                if offset is not None and factor is not None:
                    total = (total - n * offset[..., 0]) * factor[..., 0]
                u = total * (score / self.temperature.clamp_min(1.0)).softmax(-1)
        return F.linear(self.activation(self.norm(u)), self.weight)


class AFKAN(nn.Module, Pretrained, tags=["kan", "arxiv:2503.06112"]):
    """AF-KAN layers one after another.

    Args:
        widths: features from input to output, for example (784, 64, 10).
        others: see `AFKANLayer`.
    """

    def __init__(
        self,
        widths: Sequence[int],
        grid_size: int = 3,
        order: int = 3,
        activation: str = "silu",
        function: str = "quad1",
        reduction: str = "global_attn",
        norm: str = "layer",
        func_norm: str = "sample",
        dead_bias: bool = False,
    ):
        super().__init__()
        if len(widths) < 2:
            raise ValueError(f"widths: at least input and output, given {tuple(widths)}")
        self.in_features = widths[0]
        self.layers = nn.ModuleList(
            AFKANLayer(n_in, n_out, grid_size, order, activation, function, reduction, norm, func_norm, dead_bias)
            for n_in, n_out in itertools.pairwise(widths)
        )

    def forward(self, x: Float[Tensor, "batch features"]) -> Float[Tensor, "batch out"]:
        """Layer after layer."""
        check_shape("x", x, ("batch", self.in_features))
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.no_grad()
    def load_official(self, state: Mapping[str, Tensor]) -> "AFKAN":
        """Take the weights of the authors' `AF_KAN`, whose unused branches and output biases are left out; make the
        model with `dead_bias=True` and `func_norm="batch"` to compute what theirs does.

        Raises:
            ValueError: a name of ours is missing there, an unknown one is there, or shapes differ.
        """
        ours = dict([*self.named_parameters(), *self.named_buffers()])
        own = {name.replace("layers.", "rk_layers.", 1): tensor for name, tensor in ours.items()}
        unused = ("_self.", "mh_attn.", "_local.", "local_linear.", "base_weight_bias")
        spare = ("gk_linear.", "conv.", "temperature")  # of reductions that this model does not take
        theirs = {}
        for name, tensor in state.items():
            renamed = name.replace("base_weight", "weight").replace("conv1d", "conv")
            if not any(mark in name for mark in unused) and (
                renamed in own or not any(mark in renamed for mark in spare)
            ):
                theirs[renamed] = tensor
        if set(own) != set(theirs):
            raise ValueError(
                f"state: missing {sorted(set(own) - set(theirs))}, unknown {sorted(set(theirs) - set(own))}"
            )
        for name, tensor in own.items():
            check_shape(name, theirs[name], tuple(tensor.shape))
            tensor.copy_(theirs[name])
        return self

    @classmethod
    def example(cls) -> Example:
        """Five inputs, six hidden units, three outputs."""
        return Example(cls((5, 6, 3)), (torch.rand(4, 5),))


@published_size(parameters=52_550)
def af_kan_mnist() -> AFKAN:
    """784-64-10, G = 3, k = 3: 52,552 used in the authors' code, which has a bias a layer that softmax cancels."""
    return AFKAN((784, 64, 10))


@published_size(parameters=52_562)
def af_kan_mnist_5() -> AFKAN:
    """784-64-10, G = 5."""
    return AFKAN((784, 64, 10), grid_size=5)


@published_size(parameters=52_592)
def af_kan_mnist_10() -> AFKAN:
    """784-64-10, G = 10."""
    return AFKAN((784, 64, 10), grid_size=10)


@published_size(parameters=52_586)
def af_kan_mnist_spatial() -> AFKAN:
    """784-64-10 with spatial attention."""
    return AFKAN((784, 64, 10), reduction="spatial_attn")
