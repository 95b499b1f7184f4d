"""MgNO: neural operators whose linear maps are multigrid V-cycles.

He, Liu, Xu, arXiv 2310.19809; authors' code xlliu2017/MgNO. A layer computes u <- GELU(W u + B u): W is one V-cycle of
many channels, linear in u, B a 1x1 convolution with bias. No lifting, no projection but the last 1x1 convolution.

The cycle on levels 0 .. L-1, with 3x3 convolutions of their own at every place:

    down   u <- S f on the finest level, then, as often as the level says,  u <- u + S (f - A u)
           to the next level   f <- R f  (or R (f - A u), `restrict="residual"`),   u <- Pi u,   both of stride 2
    up     u <- u + P (u of the next level), P a transposed convolution of stride 2,  then  u <- u + S (f - A u)

Padding encodes the boundary condition: zeros for Dirichlet, wrapped for periodic, reflected for Neumann.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
CONVOLVE = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
CONVOLVE_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
BOUNDARIES = ("dirichlet", "periodic", "neumann")
ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}
NORMS = (None, "field", "grid")
Module = TypeVar("Module", bound=nn.Module)


def coarse_size(n: int, padded: bool = True) -> int:
    """Points of the next level: of n, every second; without padding, only those with both neighbours."""
    return (n + 1) // 2 if padded else (n - 1) // 2


def prolongation_kernels(n: int, n_levels: int, padded: bool = True) -> list[int]:
    """The authors' kernel of every prolongation for a grid of n points: 4 where n is even on a level, 3 where odd."""
    kernels = []
    for _ in range(n_levels - 1):
        kernels.append(4 - n % 2)
        n = coarse_size(n, padded)
    return kernels


def continued(u: Tensor, boundary: str) -> Tensor:
    """u with one more point beyond every end of every axis, as the boundary condition says; not for Dirichlet."""
    if boundary == "neumann":
        return F.pad(u, [1, 1] * (u.ndim - 2), mode="reflect")
    for axis in range(2, u.ndim):
        u = torch.cat([u.narrow(axis, -1, 1), u, u.narrow(axis, 0, 1)], axis)
    return u


class GridConv(nn.Module):
    """A convolution with 3 taps an axis, on fields that go on beyond the boundary as its condition says.

    Args:
        padded: False: only where all taps are on the grid.
    """

    def __init__(
        self,
        before: int,
        after: int,
        ndim: int,
        boundary: str,
        stride: int = 1,
        padded: bool = True,
        bias: bool = False,
    ):
        super().__init__()
        conv = CONV[ndim](before, after, 3, bias=bias)
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.ndim = stride, ndim
        self.padding = int(padded and boundary == "dirichlet")
        self.boundary = boundary if padded and boundary != "dirichlet" else None

    def forward(self, u: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch after *coarse"]:
        """The convolved field, on every second point for a stride of 2."""
        u = continued(u, self.boundary) if self.boundary else u
        return CONVOLVE[self.ndim](u, self.weight, self.bias, self.stride, self.padding)


class Smoother(nn.Module):
    """u + S (f - A u), one step of a linear iteration for A u = f; the first, from u = 0, is S f and has no A."""

    def __init__(self, u_channels: int, f_channels: int, ndim: int, boundary: str, bias: bool, first: bool):
        super().__init__()
        self.A = None if first else GridConv(u_channels, f_channels, ndim, boundary, bias=bias)
        self.S = GridConv(f_channels, u_channels, ndim, boundary, bias=bias)

    def forward(
        self, u: Float[Tensor, "batch channels *space"] | None, f: Float[Tensor, "batch data *space"]
    ) -> Float[Tensor, "batch channels *space"]:
        """One step from u (None: from zero)."""
        if self.A is None or u is None:
            return self.S(f)
        return u + self.S(f - self.A(u))


class Prolongation(nn.Module):
    """P: a transposed convolution of stride 2 from a level's grid to the next finer one, of given size.

    Kernel 4 doubles a grid and is cropped for odd sizes; kernel 3 puts coarse points on fine ones, and gives the last
    point of an even grid as well. Unless `legacy`, the coarse field is first continued over the boundary as the
    convolutions continue it; the released layer does not, so its periodic cycle is not periodic at the edges.
    """

    def __init__(self, coarse: int, fine: int, ndim: int, kernel: int, padded: bool, boundary: str, legacy: bool):
        super().__init__()
        self.boundary = boundary if padded and not legacy and boundary != "dirichlet" else None
        self.kernel, self.padding, self.ndim = kernel, int(padded), ndim
        self.weight = TRANSPOSED[ndim](coarse, fine, kernel, bias=False).weight

    def forward(
        self, u: Float[Tensor, "batch channels *coarse"], sizes: Sequence[int]
    ) -> Float[Tensor, "batch fine *space"]:
        """u on the finer grid."""
        padding = self.padding
        if self.boundary:
            u = continued(u, self.boundary)
            padding += 2
        made = [2 * (n - 1) + self.kernel - 2 * padding for n in u.shape[2:]]
        extra = [max(0, n - m) for n, m in zip(sizes, made, strict=True)]
        u = CONVOLVE_TRANSPOSED[self.ndim](u, self.weight, None, 2, padding, extra)
        for axis, n in enumerate(sizes):
            if u.shape[2 + axis] > n:
                u = u.narrow(2 + axis, 0, n)
        return u


class MgConv(nn.Module, Pretrained, tags=["operator-learning", "multigrid", "arxiv:2310.19809"]):
    """One multigrid V-cycle: (batch, in_channels, *space) -> (batch, out_channels, *space) on a grid of any size.

    Linear in its input with `bias=False, norm=None`; in place of any convolution, it sees the whole grid.

    Args:
        smoothing: (pre, post) smoothing steps of every level, the finest first; the coarsest has no post steps.
        boundary: dirichlet, periodic or neumann.
        restrict: what the coarser level is given: the `data` f, as the authors' code does, or the `residual` f - A u,
            as classical multigrid does.
        bias: give S and A biases.
        norm: of u after a prolongation was added: None, `field` (over channels and space, scale and shift a channel:
            any grid) or `grid` (scale and shift a pixel: the authors' LayerNorm, for grids of `grid_size` only).
        growth: level l has l + 1 times the channels (the authors' Helmholtz nets).
        padded: pad R, Pi and P (n points to half, rounded up); without (Helmholtz), n points go to (n - 1) / 2.
        kernels: 3 or 4 for every prolongation, the finest first; default 4. See `prolongation_kernels`.
        legacy: do not continue the coarse field over the boundary before P, as released.
        ndim: axes of space, 1 to 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        smoothing: Sequence[Sequence[int]] = ((1, 0),) * 5,
        boundary: str = "dirichlet",
        restrict: str = "data",
        bias: bool = False,
        norm: str | None = None,
        grid_size: Sequence[int] | None = None,
        growth: bool = False,
        padded: bool = True,
        kernels: Sequence[int] | None = None,
        legacy: bool = False,
        ndim: int = 2,
    ):
        super().__init__()
        levels = len(smoothing)
        kernels = [4] * (levels - 1) if kernels is None else kernels
        _check(smoothing, boundary, restrict, norm, grid_size, kernels, ndim)
        self.in_channels, self.ndim, self.n_levels = in_channels, ndim, levels
        self.boundary, self.residual, self.padded = boundary, restrict == "residual", padded
        self.grid_size = tuple(grid_size) if norm == "grid" and grid_size is not None else None
        f = [in_channels * (level + 1 if growth else 1) for level in range(levels)]
        u = [out_channels * (level + 1 if growth else 1) for level in range(levels)]

        def smoothers(level: int, count: int, first: bool = False) -> nn.ModuleList:
            made = (Smoother(u[level], f[level], ndim, boundary, bias, first and i == 0) for i in range(count))
            return nn.ModuleList(made)

        def down(channels: list[int]) -> nn.ModuleList:
            steps = pairwise(channels)
            return nn.ModuleList(GridConv(*step, ndim, boundary, stride=2, padded=padded) for step in steps)

        finer = range(levels - 1)
        self.pre = nn.ModuleList(smoothers(level, pre, level == 0) for level, (pre, _) in enumerate(smoothing))
        self.post = nn.ModuleList(smoothers(level, post) for level, (_, post) in enumerate(smoothing[:-1]))
        self.A = nn.ModuleList(
            GridConv(u[level], f[level], ndim, boundary, bias=bias) for level in (finer if self.residual else ())
        )
        self.R, self.Pi = down(f), down(u)
        self.P = nn.ModuleList(
            Prolongation(u[level + 1], u[level], ndim, kernels[level], padded, boundary, legacy) for level in finer
        )
        self.norm = nn.ModuleList()
        sizes = self.grid_size
        for level in finer if norm else ():
            self.norm.append(_norm(u[level], sizes))
            sizes = tuple(coarse_size(n, padded) for n in sizes) if sizes else None
        _channels_last(self, ndim, boundary)

    def forward(self, f: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch out *space"]:
        """W f."""
        _check_field("f", f, self)
        u: Tensor | None = None
        data, fields = [], []
        for level in range(self.n_levels):
            for smooth in self.pre[level]:  # type: ignore[union-attr]
                u = smooth(u, f)
            data.append(f)
            fields.append(u)
            if level < self.n_levels - 1:
                f = self.R[level](f - self.A[level](u) if self.residual else f)
                u = self.Pi[level](u)
        for level in range(self.n_levels - 2, -1, -1):
            u = fields[level] + self.P[level](u, fields[level].shape[2:])
            if len(self.norm):
                u = self.norm[level](u)
            for smooth in self.post[level]:  # type: ignore[union-attr]
                u = smooth(u, data[level])
        assert u is not None
        return u

    def load_official(self, state: Mapping[str, Tensor]) -> "MgConv":
        """Load the state dict of one of the authors' MgConv classes, strictly; see `MgNO.load_official`."""
        return _load(self, _official_cycle(state, self))

    @classmethod
    def example(cls) -> Example:
        """Two channels to three on a 9x8 grid, three levels, all parts."""
        return Example(cls(2, 3, ((1, 1), (2, 1), (2, 0)), "neumann", "residual", True, "field"), _field(3, 2, 9, 8))


class MgNO(nn.Module, Pretrained, tags=["operator-learning", "multigrid", "arxiv:2310.19809"]):
    """Functions on a regular grid to functions on it: (batch, in_channels, *space) -> (batch, out_channels, *space).

    Any grid size is taken; the convolutions have a support of fixed pixels, so a net trained on one resolution is not
    thereby trained for another.

    Args:
        hidden_channels: of every layer.
        smoothing, boundary, restrict, bias, growth, padded, kernels, legacy, ndim: of the cycles, see `MgConv`.
        pointwise_skip: add a 1x1 convolution with bias to every cycle.
        residual_output: the net predicts the increment over its input (as many output channels as input ones).
        cycle_norm, layer_norm: norms inside the cycles and after each: None, `field` or `grid`, see `MgConv`.
        grid_size: for `grid` norms.
        head: the last linear map: `pointwise`, a 1x1 convolution without bias, or `cycle`.
        head_hidden: hidden channels of a pointwise head of two layers; 0: one layer.
        activation: gelu, relu, tanh or silu.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        hidden_channels: int = 24,
        n_layers: int = 4,
        smoothing: Sequence[Sequence[int]] = ((1, 0), (1, 0), (1, 0), (1, 0), (1, 0), (2, 0)),
        boundary: str = "dirichlet",
        restrict: str = "data",
        bias: bool = False,
        pointwise_skip: bool = True,
        residual_output: bool = False,
        cycle_norm: str | None = None,
        layer_norm: str | None = None,
        grid_size: Sequence[int] | None = None,
        head: str = "pointwise",
        head_hidden: int = 0,
        activation: str = "gelu",
        growth: bool = False,
        padded: bool = True,
        kernels: Sequence[int] | None = None,
        legacy: bool = False,
        ndim: int = 2,
    ):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r}: one of {', '.join(ACTIVATIONS)}")
        if head not in ("pointwise", "cycle"):
            raise ValueError(f"head {head!r}: pointwise or cycle")
        if residual_output and in_channels != out_channels:
            raise ValueError(
                f"residual_output: out_channels must be {in_channels} as in_channels, given {out_channels}"
            )
        if layer_norm not in NORMS or (layer_norm == "grid" and grid_size is None):
            raise ValueError(f"layer_norm {layer_norm!r}: None, field, or grid with a grid_size")
        self.in_channels, self.ndim, self.residual_output = in_channels, ndim, residual_output

        def cycle(before: int, after: int) -> MgConv:
            return MgConv(
                before,
                after,
                smoothing,
                boundary=boundary,
                restrict=restrict,
                bias=bias,
                norm=cycle_norm,
                grid_size=grid_size,
                growth=growth,
                padded=padded,
                kernels=kernels,
                legacy=legacy,
                ndim=ndim,
            )

        widths = [in_channels] + [hidden_channels] * n_layers
        pairs = list(pairwise(widths))
        self.cycles = nn.ModuleList(cycle(before, after) for before, after in pairs)
        self.skips = nn.ModuleList(CONV[ndim](before, after, 1) for before, after in pairs if pointwise_skip)
        self.norms = nn.ModuleList(
            _norm(hidden_channels, grid_size if layer_norm == "grid" else None) for _ in pairs if layer_norm
        )
        self.activation = ACTIVATIONS[activation]()
        if head == "cycle":
            self.head: nn.Module = cycle(hidden_channels, out_channels)
        elif head_hidden:
            self.head = nn.Sequential(
                CONV[ndim](hidden_channels, head_hidden, 1),
                nn.GELU(),
                CONV[ndim](head_hidden, out_channels, 1, bias=False),
            )
        else:
            self.head = CONV[ndim](hidden_channels, out_channels, 1, bias=False)
        _channels_last(self, ndim, boundary)

    def forward(self, u: Float[Tensor, "batch channels *space"]) -> Float[Tensor, "batch out *space"]:
        """Output functions on the input's grid."""
        check_shape("u", u, ("batch", self.in_channels, *(f"n{i}" for i in range(self.ndim))))
        given = u
        for i, cycle in enumerate(self.cycles):
            v = cycle(u)
            if len(self.skips):
                v = v + self.skips[i](u)
            if len(self.norms):
                v = self.norms[i](v)
            u = self.activation(v)
        u = self.head(u)
        return u + given if self.residual_output else u

    def load_official(self, state: Mapping[str, Tensor]) -> "MgNO":
        """Load the state dict of the authors' MgNO_DC, MgNO_DC_smooth, MgNO_NS or MgNO_helm, strictly.

        Weights that their forward pass never uses are left out: post-smoothing on the coarsest level, the A of the
        Helmholtz nets' first smoothing. So is their output normaliser (`normalizer.mean`, `normalizer.std`): it is
        `u * (std + 1e-5) + mean`, applied to the output.

        Raises:
            ValueError: names or shapes are others.
        """
        renamed: dict[str, Tensor] = {}
        for i, cycle in enumerate(self.cycles):
            assert isinstance(cycle, MgConv)
            renamed |= _prefixed(f"cycles.{i}.", _official_cycle(_below(f"conv_list.{i}.", state), cycle))
        head = _below("last_layer.", state) or _below("linear.", state)
        if isinstance(self.head, MgConv):
            head = _official_cycle(head, self.head)
        renamed |= _prefixed("head.", head)
        renamed |= _prefixed("skips.", _below("linear_list.", state)) | _prefixed(
            "norms.", _below("norm_layer_list.", state)
        )
        known = ("conv_list.", "last_layer.", "linear.", "linear_list.", "norm_layer_list.", "normalizer.")
        return _load(self, renamed | {name: state[name] for name in state if not name.startswith(known)})

    @classmethod
    def example(cls) -> Example:
        """Two channels to three on a 9x8 grid, two layers of three levels."""
        made = cls(2, 3, 4, 2, ((1, 0), (1, 1), (2, 0)), cycle_norm="field")
        return Example(made, _field(3, 2, 9, 8))


def _channels_last(module: nn.Module, ndim: int, boundary: str) -> None:
    """Channels innermost in memory, in which a CPU's and a GPU's convolutions are faster; wrapping is slower then."""
    if ndim == 2 and boundary != "periodic":
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _field(*shape: int) -> tuple[Tensor]:
    return (torch.randn(*shape),)


def _norm(channels: int, sizes: Sequence[int] | None) -> nn.Module:
    return nn.GroupNorm(1, channels) if sizes is None else nn.LayerNorm([channels, *sizes])


def _check(
    smoothing: Sequence[Sequence[int]],
    boundary: str,
    restrict: str,
    norm: str | None,
    grid_size: Sequence[int] | None,
    kernels: Sequence[int],
    ndim: int,
) -> None:
    if not smoothing or any(len(each) != 2 or min(each) < 0 for each in smoothing) or smoothing[0][0] < 1:
        raise ValueError(
            f"smoothing: (pre, post) for every level, at least one pre step on the finest, given {smoothing}"
        )
    if smoothing[-1][1] and len(smoothing) > 1:
        raise ValueError(f"smoothing: the coarsest level has no post steps; end in ({smoothing[-1][0]}, 0)")
    if len(smoothing) == 1 and smoothing[0][1]:
        raise ValueError("smoothing: a single level has pre steps only; give ((n, 0),)")
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary {boundary!r}: one of {', '.join(BOUNDARIES)}")
    if restrict not in ("data", "residual"):
        raise ValueError(f"restrict {restrict!r}: data or residual")
    if norm not in NORMS or (norm == "grid" and grid_size is None):
        raise ValueError(f"norm {norm!r}: None, field, or grid with a grid_size")
    if len(kernels) != len(smoothing) - 1 or any(kernel not in (3, 4) for kernel in kernels):
        raise ValueError(f"kernels: 3 or 4 for each of {len(smoothing) - 1} prolongations, given {list(kernels)}")
    if ndim not in CONV:
        raise ValueError(f"ndim: 1, 2 or 3, given {ndim}")


def _check_field(name: str, f: Tensor, cycle: MgConv) -> None:
    sizes = cycle.grid_size or tuple(f"n{i}" for i in range(cycle.ndim))
    check_shape(name, f, ("batch", cycle.in_channels, *sizes))
    least = 2 if cycle.boundary == "neumann" else 1
    for n in f.shape[2:]:
        for _ in range(cycle.n_levels - 1):
            n = coarse_size(n, cycle.padded)
        if n < least:
            raise ValueError(
                f"{name}: {cycle.n_levels} levels leave {n} points of an axis, at least {least} are needed; "
                f"given {tuple(f.shape)}: take fewer levels"
            )


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _prefixed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def _official_cycle(state: Mapping[str, Tensor], cycle: MgConv) -> dict[str, Tensor]:
    """The authors' names of one V-cycle's weights as ours; unknown names are kept, so that strict loading tells them.

    `layer{l}` begins with the transfer from level l - 1, except on the finest level, and goes on with smoothers.
    """
    renamed = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        if part == "RTlayers":
            level, _, leaf = rest.partition(".")
            name = f"P.{level}.{leaf}"
        elif part == "norm_layer_list":
            name = f"norm.{rest}"
        elif part.startswith("post_smooth_layer"):
            level = part.removeprefix("post_smooth_layer")
            if level == str(cycle.n_levels - 1):
                continue  # never run
            name = f"post.{level}.{rest}"
        elif part.startswith("layer"):
            level, (place, _, leaf) = int(part.removeprefix("layer")), rest.partition(".")
            if level == 0:
                if place == "0" and leaf.startswith("A."):
                    continue  # never run
                name = f"pre.0.{place}.{leaf}"
            elif place == "0":
                kind, _, leaf = leaf.partition(".")
                name = f"{kind}.{level - 1}.{leaf}"
            else:
                name = f"pre.{level}.{int(place) - 1}.{leaf}"
        renamed[name] = tensor
    return renamed


def _load(module: Module, state: Mapping[str, Tensor]) -> Module:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"state: not the weights of this configuration: {error}") from error
    return module


@published_size(parameters=572_661)
def mgno_darcy_rough() -> MgNO:
    """Darcy flow with rough and with multiscale coefficients, 256x256 (authors' README)."""
    return MgNO()


@published_size(parameters=678_093)
def mgno_darcy_smooth() -> MgNO:
    """Darcy flow with smooth coefficients, 211x211: the prolongations' kernels follow 211, 106, 53, 27, 14, 7."""
    return MgNO(n_layers=5, kernels=prolongation_kernels(211, 6))


@published_size(parameters=783_876)
def mgno_pipe() -> MgNO:
    """Pipe flow, 128x128, from the two coordinates of the mesh points."""
    return MgNO(in_channels=2, n_layers=5, smoothing=((1, 0),) * 4 + ((1, 1), (2, 0)))


@published_size(parameters=2_885_194)
def mgno_navier_stokes() -> MgNO:
    """One time step of the Navier-Stokes equations at viscosity 1e-5, 64x64 only, as released."""
    return MgNO(
        hidden_channels=32,
        n_layers=5,
        smoothing=((1, 0),) * 3 + ((2, 0),) * 2,
        boundary="periodic",
        bias=True,
        pointwise_skip=False,
        residual_output=True,
        cycle_norm="grid",
        grid_size=(64, 64),
        legacy=True,
    )


@published_size(parameters=5_340_565)
def mgno_helmholtz() -> MgNO:
    """Helmholtz equation, 101x101 only. The authors' own count has 11,241 parameters more that are never used."""
    return MgNO(
        hidden_channels=20,
        n_layers=4,
        smoothing=((1, 0),) * 4 + ((2, 0),),
        boundary="neumann",
        bias=True,
        pointwise_skip=False,
        layer_norm="grid",
        grid_size=(101, 101),
        head="cycle",
        growth=True,
        padded=False,
        kernels=prolongation_kernels(101, 5, padded=False),
    )


def mgno_laptop() -> MgNO:
    """The laptop study's size, 114,811 parameters."""
    return MgNO(hidden_channels=16, n_layers=3, smoothing=((1, 0),) * 3 + ((2, 0),))


NAMED_SIZES = {
    build.__name__: build
    for build in (
        mgno_laptop,
        mgno_darcy_rough,
        mgno_darcy_smooth,
        mgno_pipe,
        mgno_navier_stokes,
        mgno_helmholtz,
    )
}
