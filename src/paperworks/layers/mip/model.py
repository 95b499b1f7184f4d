"""Hypernetworks with magnitude-invariant parametrisation (MIP, arXiv 2304.07645). Authors' code: JJGO/hyperlight.

A hypernetwork h predicts the weights of a primary network from a conditioning vector gamma. With piecewise linear
activations and zero biases h(c gamma) = c h(gamma), so the weights' size follows that of gamma, and the signal of a
primary network of L layers follows gamma^L. MIP is two changes:

    theta = theta_0 + h(E(gamma)),    E(gamma) = [cos(pi gamma / 2), sin(pi gamma / 2)],    gamma in [0, 1]^D

whose input has the norm sqrt(D) whatever gamma is, and whose output starts as an ordinary network's weights theta_0.
"""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from paperworks.nn import Example, Pretrained, check_shape, published_size

ENCODINGS = {"cos_sin": 2, "z_1z": 2, "l2": 1, "none": 1}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def encode(gamma: Float[Tensor, "... dim"], encoding: str) -> Float[Tensor, "... encoded"]:
    """The conditioning vector as the hypernetwork sees it.

    `cos_sin`: all cosines, then all sines, of norm sqrt(dim); `z_1z`: gamma, then 1 - gamma; `l2`: gamma over its norm
    (for categories and embeddings); `none`.

    Raises:
        ValueError: an unknown encoding, or values outside [0, 1] for the first two, which would wrap around.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding {encoding!r}: one of {', '.join(ENCODINGS)}")
    if encoding in ("cos_sin", "z_1z"):
        if not torch.compiler.is_compiling() and ((gamma < 0) | (gamma > 1)).any():
            raise ValueError(
                f"gamma: values from 0 to 1 expected, given {float(gamma.min()):g} to {float(gamma.max()):g}; rescale "
                "it first (by its range, or the range of its logarithm)"
            )
        if encoding == "z_1z":
            return torch.cat([gamma, 1 - gamma], -1)
        angle = 0.5 * math.pi * gamma
        return torch.cat([angle.cos(), angle.sin()], -1)
    if encoding == "l2":
        return gamma / gamma.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    return gamma


class HyperNetwork(nn.Module, Pretrained, tags=["hypernetwork", "arxiv:2304.07645"]):
    """A multilayer perceptron from gamma to all weights of a primary network.

    Args:
        shapes: name -> shape of every predicted weight, in the order of the output.
        in_dim: entries of gamma.
        hidden: widths.
        encoding: cos_sin (MIP), z_1z, l2 or none.
        residual: whether the bias of the last layer starts as an ordinary network's weights theta_0 (MIP) or at zero.
        activation: leaky_relu, relu, gelu, silu, tanh.
        layer_norm: normalise every hidden layer before its activation (a control of the paper's appendix).
        bias_rows: how rows of the last layer that predict vectors (biases, scales) start: `zero`, or `official`, which
            draws them as the authors' code does, with a standard deviation of sqrt(2 / length).
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        in_dim: int = 1,
        hidden: Sequence[int] = (16, 64, 128),
        encoding: str = "cos_sin",
        residual: bool = True,
        activation: str = "leaky_relu",
        layer_norm: bool = False,
        bias_rows: str = "zero",
    ):
        super().__init__()
        if encoding not in ENCODINGS:
            raise ValueError(f"encoding {encoding!r}: one of {', '.join(ENCODINGS)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r}: one of {', '.join(ACTIVATIONS)}")
        if bias_rows not in ("zero", "official"):
            raise ValueError(f"bias_rows {bias_rows!r}: zero or official")
        if not shapes or in_dim < 1:
            raise ValueError(f"shapes: at least one weight, and in_dim from 1; given {dict(shapes)} and {in_dim}")
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.sizes = [math.prod(shape) for shape in self.shapes.values()]
        self.in_dim, self.encoding = in_dim, encoding
        layers: list[nn.Module] = []
        width = ENCODINGS[encoding] * in_dim
        for size in hidden:
            layers.append(nn.Linear(width, size))
            layers += [nn.LayerNorm(size)] if layer_norm else []
            layers.append(ACTIVATIONS[activation]())
            width = size
        self.backbone = nn.Sequential(*layers)
        self.output = nn.Linear(width, sum(self.sizes))
        self._initialise(residual, bias_rows)

    @torch.no_grad()
    def _initialise(self, residual: bool, bias_rows: str) -> None:
        """Kaiming normal by fan out; the last layer as one layer a predicted weight, whose fan out is its size."""
        for layer in self.backbone:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)
        for rows, shape in zip(self.output.weight.split(self.sizes), self.shapes.values(), strict=True):
            if len(shape) < 2 and bias_rows == "zero":
                rows.zero_()
            else:
                rows.normal_(std=math.sqrt(2 / len(rows)))
        self.output.bias.zero_()
        if residual:
            self.start_from(initial_weights(self.shapes))

    @torch.no_grad()
    def start_from(self, weights: Mapping[str, Tensor]) -> "HyperNetwork":
        """Take given weights (a trained network's, say) as theta_0.

        Raises:
            ValueError: names or shapes are others.
        """
        if set(weights) != set(self.shapes):
            raise ValueError(f"weights: expected {sorted(self.shapes)}, given {sorted(weights)}")
        for name, shape in self.shapes.items():
            check_shape(name, weights[name], shape)
        self.output.bias.copy_(torch.cat([weights[name].flatten() for name in self.shapes]))
        return self

    def forward(self, gamma: Float[Tensor, "batch in_dim"]) -> Float[Tensor, "batch weights"]:
        """All weights of one primary network a row, flat, in the order of `shapes`."""
        check_shape("gamma", gamma, ("batch", self.in_dim))
        return self.output(self.backbone(encode(gamma, self.encoding)))

    def weights(self, gamma: Float[Tensor, "*batch in_dim"]) -> dict[str, Tensor]:
        """Name -> weights, with a leading axis where gamma (batch, in_dim) has one."""
        flat = self(gamma if gamma.ndim == 2 else gamma[None])
        parts = flat.split(self.sizes, -1)
        named = {n: part.unflatten(-1, s) for (n, s), part in zip(self.shapes.items(), parts, strict=True)}
        return named if gamma.ndim == 2 else {name: tensor[0] for name, tensor in named.items()}

    @torch.no_grad()
    def load_official(self, state: Mapping[str, Tensor]) -> "HyperNetwork":
        """Take the weights of a `HyperNet` of hyperlight: `backbone.block{i}_lin.*` and `backbone.output.*`.

        Raises:
            ValueError: names or shapes are others.
        """
        linear = [layer for layer in self.backbone if isinstance(layer, nn.Linear)]
        names = {f"backbone.block{i}_lin.{kind}": getattr(layer, kind) for i, layer in enumerate(linear)
                 for kind in ("weight", "bias")}  # fmt: skip
        names |= {f"backbone.output.{kind}": value for kind, value in self.output.named_parameters()}
        if set(state) != set(names):
            raise ValueError(f"state: expected {sorted(names)}, given {sorted(state)}")
        for name, ours in names.items():
            check_shape(name, state[name], tuple(ours.shape))
            ours.copy_(state[name])
        return self

    @classmethod
    def example(cls) -> Example:
        """Weights of a net of two linear layers."""
        shapes = {"0.weight": (4, 3), "0.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
        return Example(cls(shapes, 2, (8, 8), bias_rows="official"), (torch.rand(3, 2),))


def initial_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """theta_0 where no network is at hand: Kaiming normal for matrices and kernels, zeros for vectors, as the authors'.

    A scale of a normalisation layer is a vector too; give `start_from` the network's own weights where there are such.
    """
    made = {}
    for name, shape in shapes.items():
        made[name] = torch.zeros(tuple(shape))
        if len(shape) > 1:
            nn.init.kaiming_normal_(made[name], nonlinearity="relu")
    return made


class HyperModel(nn.Module):
    """A primary network whose chosen parameters come from a hypernetwork; everything else of it trains as before.

    Made by `hypernetize`. The primary's modules are the user's own, so there is no `config.json` to write: save
    `state_dict()` with safetensors, and load it into a `HyperModel` made in the same way.
    """

    def __init__(self, primary: nn.Module, hyper: HyperNetwork, aliases: Mapping[str, Sequence[str]] | None = None):
        super().__init__()
        self.primary, self.hyper = primary, hyper
        self.aliases = {name: tuple(others) for name, others in (aliases or {}).items()}

    def _named(self, gamma: Tensor) -> dict[str, Tensor]:
        weights = self.hyper.weights(gamma)
        shared = {other: weights[name] for name, others in self.aliases.items() for other in others}
        return weights | shared

    def forward(self, *inputs: Any, gamma: Float[Tensor, "*many in_dim"]) -> Any:
        """The primary's output with the weights for gamma.

        gamma (in_dim,): one network for the whole batch. gamma (many, in_dim): `many` networks on the same inputs,
        whose outputs are stacked on a new first axis.
        """
        check_shape("gamma", gamma, ("...", self.hyper.in_dim))
        if gamma.ndim > 2:
            raise ValueError(f"gamma: expected shape ({self.hyper.in_dim},) or (many, {self.hyper.in_dim}), "
                             f"given {tuple(gamma.shape)}")  # fmt: skip
        named = self._named(gamma)
        if gamma.ndim == 1:
            return functional_call(self.primary, named, inputs)
        return vmap(lambda weights: functional_call(self.primary, weights, inputs), randomness="different")(named)

    @torch.no_grad()
    def freeze_at(self, gamma: Float[Tensor, " in_dim"]) -> nn.Module:
        """A plain copy of the primary with the weights for one gamma: no hypernetwork is left in it."""
        frozen, named = copy.deepcopy(self.primary), self._named(gamma)
        first: dict[str, nn.Parameter] = {}
        for name, tensor in named.items():
            owner, leaf = _owner(frozen, name)
            original = next((n for n, others in self.aliases.items() if name in others), name)
            first.setdefault(original, nn.Parameter(tensor.clone()))
            del owner._buffers[leaf]
            owner._non_persistent_buffers_set.discard(leaf)
            owner.register_parameter(leaf, first[original])
        return frozen

    def save_pretrained(self, *_: Any, **__: Any) -> None:
        """Not possible: the primary is a module of your own, which no configuration file describes.

        Raises:
            TypeError: always; it says what to do instead.
        """
        raise TypeError(
            "a HyperModel wraps a module of your own, which no config.json can describe. Save its weights with "
            "safetensors.torch.save_model(model, path) and load them into a HyperModel made by the same hypernetize "
            "call; or save_pretrained(model.hyper), or freeze_at(gamma)"
        )


def hypernetize(
    model: nn.Module,
    in_dim: int = 1,
    *,
    only: Iterable[str] | Callable[[str, nn.Parameter], bool] | None = None,
    hidden: Sequence[int] = (16, 64, 128),
    encoding: str = "cos_sin",
    residual: bool = True,
    **options: Any,
) -> HyperModel:
    """Put a hypernetwork around a network: its parameters become functions of gamma.

    The model itself is left as it is; its weights become theta_0, so that a trained network is the start. By default
    this is MIP; `encoding="none", residual=False` is the default hypernetwork that the paper starts from.

    Args:
        model: any module; buffers (running statistics) are kept and are shared by all gamma.
        in_dim: entries of gamma, each in [0, 1].
        only: names of the parameters to predict, or a function of name and parameter; default: all.
        hidden, encoding, residual, options: see `HyperNetwork`.

    Raises:
        ValueError: a name that is no parameter of the model, or none is left to predict.
    """
    primary = copy.deepcopy(model)
    groups: dict[int, list[str]] = {}
    found = dict(primary.named_parameters(remove_duplicate=False))
    for name, parameter in found.items():
        groups.setdefault(id(parameter), []).append(name)
    if only is None:
        chosen = list(found)
    elif callable(only):
        chosen = [name for name, parameter in found.items() if only(name, parameter)]
    else:
        chosen = list(only)
        unknown = sorted(set(chosen) - set(found))
        if unknown:
            raise ValueError(f"only: {unknown[0]!r} is no parameter of the model; there are {', '.join(found)}")
    names = {id(found[name]): groups[id(found[name])] for name in chosen}  # tied names are predicted once
    if not names:
        raise ValueError("only: no parameter is left to predict")
    weights = {tied[0]: found[tied[0]].detach().clone() for tied in names.values()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    hyper = HyperNetwork(shapes, in_dim, hidden, encoding, residual, **options)
    hyper = hyper.to(next(iter(weights.values())))
    if residual:
        hyper.start_from(weights)
    for tied in names.values():
        for name in tied:
            owner, leaf = _owner(primary, name)
            del owner._parameters[leaf]
            owner.register_buffer(leaf, torch.empty(0, device=weights[tied[0]].device), persistent=False)
    return HyperModel(primary, hyper, {tied[0]: tied[1:] for tied in names.values() if len(tied) > 1})


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, leaf = name.rpartition(".")
    return model.get_submodule(path), leaf


@torch.no_grad()
def proportionality(hyper: HyperNetwork, low: float = 0.1, high: float = 0.8) -> float:
    """Size of the predicted weights at gamma = high over that at gamma = low: high / low for the default
    hypernetwork, about 1 for MIP."""
    gamma = torch.tensor([[low], [high]]).expand(2, hyper.in_dim).to(hyper.output.weight)
    small, large = hyper(gamma).norm(dim=-1)
    return float(large / small)


CONV_SHAPES = {
    "conv1.weight": (16, 1, 5, 5), "conv1.bias": (16,), "conv2.weight": (32, 16, 3, 3), "conv2.bias": (32,),
    "conv3.weight": (64, 32, 3, 3), "conv3.bias": (64,), "conv4.weight": (64, 64, 3, 3), "conv4.bias": (64,),
}  # fmt: skip


@published_size(parameters=7_811_664)
def hypernetwork_readme() -> HyperNetwork:
    """The example of the authors' README: ten inputs, four convolutions of 16, 32, 64 and 64 channels."""
    return HyperNetwork(CONV_SHAPES, 10)


@published_size(parameters=7_811_376)
def hypernetwork_readme_scalar() -> HyperNetwork:
    """The same with one input."""
    return HyperNetwork(CONV_SHAPES, 1)
