"""What a NOBLE branch does between its two matrices: CosNet, and the other nonlinearities the authors compared.

arXiv 2603.06492. Each module that holds parameters with a learning rate of their own names them in `lr_multipliers`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FREQUENCY_INITS = ("constant", "linear", "log", "uniform", "log_uniform")
LEAKY_SLOPE = 0.01


class CosActivation(nn.Module):
    """cos(w * h + p), a frequency w and a phase p for every dimension.

    The cosine and its argument are computed in float32 at least, since a phase is lost in bfloat16 where |h| is large.

    Args:
        dim: dimensions of h.
        freq_range: lowest and highest frequency at the start.
        freq_init: `uniform` or `log_uniform` draws them; `linear` and `log` space them, both ends included; `constant`
            is the middle of the range (1.0 by default).
        freq_trainable: frequencies that are not are a buffer.
        phase_std: phases are drawn from a normal distribution of this deviation, or with `phase_init="uniform"` from
            [0, 2 pi).
        freq_multiplier, phase_multiplier: of the learning rate.
    """

    def __init__(
        self,
        dim: int,
        freq_range: Sequence[float] = (0.8, 1.2),
        freq_init: str = "uniform",
        freq_trainable: bool = True,
        phase_std: float = 0.1,
        phase_init: str = "normal",
        freq_multiplier: float = 2.0,
        phase_multiplier: float = 4.0,
    ):
        super().__init__()
        low, high = freq_range
        if freq_init not in FREQUENCY_INITS:
            raise ValueError(f"freq_init: {freq_init!r}; one of {', '.join(FREQUENCY_INITS)}")
        if phase_init not in ("normal", "uniform"):
            raise ValueError(f"phase_init: {phase_init!r}; one of normal, uniform")
        if not 0 < low <= high:
            raise ValueError(f"freq_range: two numbers above 0, the lower one first, given {low}, {high}")
        self.dim, self.freq_range, self.freq_init, self.phase_std = dim, (low, high), freq_init, phase_std
        self.phase_init, self.freq_trainable = phase_init, freq_trainable
        self.freq_multiplier, self.phase_multiplier = freq_multiplier, phase_multiplier
        frequency = torch.empty(dim)
        if freq_trainable:
            self.frequency = nn.Parameter(frequency)
        else:
            self.register_buffer("frequency", frequency)
        self.phase = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw frequencies and phases anew."""
        low, high = self.freq_range
        w = self.frequency
        if self.freq_init == "constant":
            w.fill_((low + high) / 2)
        elif self.freq_init == "uniform":
            w.uniform_(low, high)
        elif self.freq_init == "log_uniform":
            w.uniform_(math.log(low), math.log(high)).exp_()
        elif self.freq_init == "linear":
            w.copy_(torch.linspace(low, high, self.dim))
        else:
            w.copy_(torch.linspace(math.log(low), math.log(high), self.dim).exp())
        if self.phase_init == "uniform":
            self.phase.uniform_(0, 2 * math.pi)
        else:
            self.phase.normal_(0, self.phase_std).fmod_(2 * math.pi)

    def lr_multipliers(self) -> dict[str, float]:
        """Of the frequencies and phases."""
        return {"frequency": self.freq_multiplier, "phase": self.phase_multiplier}

    def forward(self, h: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """In the type of h."""
        exact = h.float() if h.dtype.itemsize < 4 else h
        return (self.frequency * exact).add_(self.phase).cos().to(h.dtype)


class MixedNet(nn.Module):
    """act(M act(h) + b_M): activations with a square matrix between each and the next.

    Args:
        activations: as many as wanted, in order; a matrix stands before each but the first.
        dim: dimensions of h.
        full_dim: the smaller side of the layer whose branch this is; (full_dim / dim) ** lr_power multiplies the rate
            of M. None: no multiplier.
        mix_init: c draws M with deviation c / sqrt(dim); "xavier" draws it uniformly by Xavier's rule.
        mix_bias: whether there is a b_M; drawn as torch draws a linear layer's.
        gated: activations halve the width (SwiGLU); h and what M gives are then 2 dim wide.
        residual_matrix: add h after each matrix.
        residual_end: add h at the end.
    """

    def __init__(
        self,
        activations: Sequence[nn.Module],
        dim: int,
        *,
        full_dim: int | None = None,
        lr_power: float = 0.5,
        mix_init: float | str = 0.5,
        mix_bias: bool = True,
        gated: bool = False,
        residual_matrix: bool = False,
        residual_end: bool = False,
    ):
        super().__init__()
        if isinstance(mix_init, str) and mix_init != "xavier":
            raise ValueError(f"mix_init: {mix_init!r}; a number or 'xavier'")
        if gated and (residual_matrix or residual_end):
            raise ValueError("residual_matrix, residual_end: a gated net has no width in common with its input")
        self.dim, self.mix_init = dim, mix_init
        self.multiplier = 1.0 if full_dim is None else (full_dim / dim) ** lr_power
        self.residual_matrix, self.residual_end = residual_matrix, residual_end
        self.activations = nn.ModuleList(activations)
        wide = 2 * dim if gated else dim
        self.mixes = nn.ModuleList(nn.Linear(dim, wide, bias=mix_bias) for _ in activations[1:])
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw matrices and biases anew, and what the activations hold."""
        for mix in self.mixes:
            assert isinstance(mix, nn.Linear)
            mix.reset_parameters()
            if self.mix_init == "xavier":
                nn.init.xavier_uniform_(mix.weight)
            else:
                mix.weight.normal_(0, float(self.mix_init) / math.sqrt(self.dim))
        for activation in self.activations:
            if isinstance(activation, CosActivation):
                activation.reset_parameters()

    def lr_multipliers(self) -> dict[str, float]:
        """Of the matrices, not of their biases."""
        return {f"mixes.{place}.weight": self.multiplier for place in range(len(self.mixes))}

    def forward(self, h: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """As wide as `dim`."""
        out = self.activations[0](h)
        for place, mix in enumerate(self.mixes, 1):
            out = mix(out)
            out = self.activations[place](out + h if self.residual_matrix else out)
        return out + h if self.residual_end else out


class CosNet(MixedNet):
    """cos(w2 * (M cos(w1 * h + p1) + b_M) + p2), the paper's nonlinearity; `layers=3` is the authors' double CosNet.

    Args:
        rank: dimensions of h.
        full_dim, lr_power, mix_init, mix_bias, residual_matrix, residual_end: see `MixedNet`.
        cosine: see `CosActivation`.
    """

    def __init__(
        self,
        rank: int,
        *,
        layers: int = 2,
        full_dim: int | None = None,
        lr_power: float = 0.5,
        mix_init: float | str = 0.5,
        mix_bias: bool = True,
        residual_matrix: bool = False,
        residual_end: bool = False,
        **cosine: Any,
    ):
        super().__init__(
            [CosActivation(rank, **cosine) for _ in range(layers)],
            rank,
            full_dim=full_dim,
            lr_power=lr_power,
            mix_init=mix_init,
            mix_bias=mix_bias,
            residual_matrix=residual_matrix,
            residual_end=residual_end,
        )


class ScaleShift(nn.Module):
    """act(h) * s + t by dimension, starting at s = 1, t = 0."""

    def __init__(self, activation: nn.Module, dim: int, scale: bool = True, shift: bool = True):
        super().__init__()
        self.activation = activation
        self.scale = nn.Parameter(torch.ones(dim)) if scale else None
        self.shift = nn.Parameter(torch.zeros(dim)) if shift else None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """s = 1, t = 0."""
        if self.scale is not None:
            self.scale.fill_(1)
        if self.shift is not None:
            self.shift.fill_(0)

    def lr_multipliers(self) -> dict[str, float]:
        """Of s and t."""
        return {name: rate for name, rate in (("scale", 5.0), ("shift", 3.0)) if getattr(self, name) is not None}

    def forward(self, h: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Same shape."""
        out = self.activation(h)
        out = out if self.scale is None else out * self.scale
        return out if self.shift is None else out + self.shift


class Flipped(nn.Module):
    """-act(h), or with `inside` -act(-h)."""

    def __init__(self, activation: nn.Module, inside: bool):
        super().__init__()
        self.activation, self.inside = activation, inside

    def forward(self, h: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Same shape."""
        return -self.activation(-h if self.inside else h)


class SwiGLU(nn.Module):
    """silu(gate) * value, the two halves of h."""

    def forward(self, h: Float[Tensor, "*batch twice"]) -> Float[Tensor, "*batch dim"]:
        """Half as wide."""
        gate, value = h.chunk(2, dim=-1)
        return F.silu(gate) * value


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
}
NONLINEARITIES = (
    "cosnet",
    "double_cosnet",
    "cos",
    "identity",
    *PLAIN,
    *(f"{name}_net" for name in PLAIN),
    *(f"{name}_scale" for name in PLAIN),
    "silu_shift",
    *(f"{kind}_{name}" for kind in ("neg", "flip") for name in ("gelu", "silu")),
    "swiglu",
    "swiglu_net",
)


def branch_nonlinearity(
    name: str, rank: int, full_dim: int | None = None, lr_power: float = 0.5, **options: Any
) -> nn.Module:
    """A nonlinearity for a branch of this rank, by its name in `NONLINEARITIES`.

    Args:
        full_dim, lr_power: the learning-rate multiplier of matrices inside; see `MixedNet`.
        options: of `CosActivation` for the cosines, of `MixedNet` for the nets.

    Raises:
        ValueError: an unknown name, or options that it does not have.
    """
    if name not in NONLINEARITIES:
        raise ValueError(f"nonlinearity: {name!r}; one of {', '.join(NONLINEARITIES)}")
    mixed = {"full_dim": full_dim, "lr_power": lr_power, **options}
    kind, _, form = name.partition("_")
    if name.startswith("leaky_relu"):
        kind, form = "leaky_relu", name.removeprefix("leaky_relu").lstrip("_")
    try:
        if name == "cosnet":
            return CosNet(rank, **mixed)
        if name == "double_cosnet":
            return CosNet(rank, layers=3, **{"mix_init": 1.0, **mixed})
        if name == "cos":
            return CosActivation(rank, **options)
        if name == "swiglu_net":
            return MixedNet([SwiGLU(), SwiGLU()], rank, gated=True, **mixed)
        if form == "net":
            return MixedNet([PLAIN[kind](), PLAIN[kind]()], rank, **mixed)
    except TypeError as error:
        raise ValueError(f"options: {name} does not take {', '.join(sorted(options))} ({error})") from error
    if options:
        raise ValueError(f"options: {name} has none, given {', '.join(sorted(options))}")
    if name == "identity":
        return nn.Identity()
    if name == "swiglu":
        return SwiGLU()
    if form == "scale":
        return ScaleShift(PLAIN[kind](), rank)
    if form == "shift":
        return ScaleShift(PLAIN[kind](), rank, scale=False)
    if kind in ("neg", "flip"):
        return Flipped(PLAIN[form](), inside=kind == "flip")
    return PLAIN[name]()
