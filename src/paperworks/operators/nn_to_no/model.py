"""Networks with function-space layers: the residual net of the study, and the paper's FNO with local kernels.

Berner, Liu-Schiaffini, Kossaifi, Duruisseaux, Bonev, Azizzadenesheli, Anandkumar, arXiv 2506.10973; authors' code
neuraloperator/NNs-to-NOs (configurations) and neuraloperator/neuraloperator (layers). The paper's U-Net is in
`unet_model.py`, its transformers in `transformer_models.py`, the layers in files named after what they hold.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.operators.fno import Pointwise, SpectralConv

from .differential_convs import DifferentialConv
from .disc_convs import PolarIntegralConv2d
from .function_layers import grid_coordinates
from .local_convs import LocalIntegralConv

TAGS = ["operator-learning", "arxiv:2506.10973"]
PIXEL = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class LocalIntegralAndDifferential(nn.Module):
    """The sum of a local integral and a differential convolution."""

    def __init__(self, integral: LocalIntegralConv, differential: DifferentialConv):
        super().__init__()
        self.integral, self.differential = integral, differential

    def forward(self, x: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out_channels *grid"]:
        """Both, added."""
        return self.integral(x) + self.differential(x)


class ResidualOperator(nn.Module, Pretrained, tags=TAGS):
    """Functions to functions on a periodic grid: pointwise lift, blocks x + GELU(conv(x)), two pointwise layers out.

    Args:
        conv: `pixel` (the counter-example), `integral`, `differential` (integral plus differential), `spectral`.
        kernel_size: taps of the pixel kernel, nodes of the integral's; 2 fewer nodes where 3 differential taps join.
        spacing: physical distance of the integral's nodes on a domain of length 1, for all axes or one each.
        base_resolution: grid on which a finite difference is not scaled.
        n_modes: of the spectral convolution, an axis.
        pointwise: add a pointwise linear map to every convolution; what the kernel cannot resolve still passes.
        coordinates: append the places of the grid's points to the input: on a domain with a boundary values depend on
            where they are. Not for a circle, where a coordinate would jump.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 32,
        n_blocks: int = 6,
        conv: str = "integral",
        kernel_size: int = 9,
        spacing: float | Sequence[float] = 1 / 64,
        base_resolution: int | Sequence[int] = 64,
        n_modes: int = 16,
        ndim: int = 1,
        padding_mode: str = "circular",
        pointwise: bool = False,
        coordinates: bool = False,
    ):
        super().__init__()
        if conv not in ("pixel", "integral", "differential", "spectral"):
            raise ValueError(f"conv {conv!r}: pixel, integral, differential or spectral")
        self.in_channels, self.ndim, self.coordinates = in_channels, ndim, coordinates

        def made() -> nn.Module:
            if conv == "pixel":
                return PIXEL[ndim](width, width, kernel_size, padding=kernel_size // 2, padding_mode=padding_mode)
            if conv == "spectral":
                return SpectralConv(width, width, (n_modes,) * ndim)
            options = dict(ndim=ndim, padding_mode=padding_mode)
            if conv == "integral":
                return LocalIntegralConv(width, width, kernel_size, spacing, **options)  # type: ignore[arg-type]
            return LocalIntegralAndDifferential(
                LocalIntegralConv(width, width, kernel_size - 2, spacing, **options),  # type: ignore[arg-type]
                DifferentialConv(width, width, 3, base_resolution=base_resolution, **options),  # type: ignore[arg-type]
            )

        self.lift = Pointwise(in_channels + ndim * coordinates, width)
        self.convs = nn.ModuleList(made() for _ in range(n_blocks))
        self.pointwise = nn.ModuleList(Pointwise(width, width) for _ in range(n_blocks if pointwise else 0))
        self.project = nn.ModuleList([Pointwise(width, width), Pointwise(width, out_channels)])

    def forward(self, u: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch out *grid"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid), for any grid."""
        check_shape("u", u, ("batch", self.in_channels, *[f"n{a + 1}" for a in range(self.ndim)]))
        if self.coordinates:
            u = torch.cat([u, grid_coordinates(u.shape[2:], like=u).expand(len(u), *[-1] * (1 + self.ndim))], 1)
        u = self.lift(u)
        for i, conv in enumerate(self.convs):
            y = conv(u)
            u = u + F.gelu(y + self.pointwise[i](u) if self.pointwise else y)
        return self.project[1](F.gelu(self.project[0](u)))

    @classmethod
    def example(cls) -> Example:
        """Integral and differential kernels on twice the base grid."""
        made = cls(2, 1, width=6, n_blocks=2, conv="differential", kernel_size=5, spacing=1 / 8, base_resolution=8)
        return Example(made, (torch.randn(3, 2, 16),))


class LocalNO(nn.Module, Pretrained, tags=[*TAGS, "arxiv:2402.16845"]):
    """A Fourier neural operator whose layers may add differential and local integral kernels (2D, periodic).

    Layer: y = spectral(x) + b [+ differential(x)] [+ integral(x)] + W x; y = GELU(y); y = MLP(y) + g * x; GELU(y).
    The last GELU is left out in the last layer, and, where no layer is local, the first one as well.

    Args:
        n_modes: Fourier modes an axis, both signs counted, as neuraloperator counts.
        differential, integral: which layers have these kernels.
        local: whether the first GELU is applied in the last layer too; default where any layer is local.
        lifting_ratio: hidden channels of lifting and projection over `width`; mlp_ratio: of the channel MLP.
        kernel_shape, radius, domain_length: of the local integral, see `PolarIntegralConv2d`.
        base_resolution: grid on which differences are not scaled.
        freeze_kernel: keep the local integral's kernel of the base grid on all grids, and pad with zeros, as the
            released code does: its radius then shrinks with the grid.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        width: int = 99,
        n_modes: Sequence[int] = (40, 40),
        n_layers: int = 4,
        differential: Sequence[bool] = (False, False, False, False),
        integral: Sequence[bool] = (False, False, False, False),
        local: bool | None = None,
        lifting_ratio: float = 2.59,
        mlp_ratio: float = 0.5,
        kernel_shape: Sequence[int] = (2, 4),
        radius: float = 1 / 32,
        domain_length: float = 2.0,
        base_resolution: int = 128,
        freeze_kernel: bool = False,
    ):
        super().__init__()
        if len(differential) != n_layers or len(integral) != n_layers:
            raise ValueError(f"differential, integral: {n_layers} entries each, given {differential} and {integral}")
        if n_modes[0] % 2 or len(n_modes) != 2:
            raise ValueError(f"n_modes: two numbers, the first even, given {tuple(n_modes)}")
        self.in_channels = in_channels
        self.activate_last = any(differential) or any(integral) if local is None else local
        hidden, narrow = int(lifting_ratio * width), round(mlp_ratio * width)
        kept = (n_modes[0] // 2, n_modes[1] // 2 + 1)
        self.lifting = nn.ModuleList([Pointwise(in_channels + 2, hidden), Pointwise(hidden, width)])
        self.spectral = nn.ModuleList(SpectralConv(width, width, kept) for _ in range(n_layers))
        deviation = width**-0.5
        for layer in self.spectral:  # neuraloperator's start; transforms are normalised forwards there
            nn.init.normal_(layer.weight, std=deviation * 0.5**0.5)  # type: ignore[arg-type]
        self.biases = nn.ParameterList(deviation * torch.randn(width) for _ in range(n_layers))
        self.skips = nn.ParameterList(
            torch.empty(width, width).uniform_(-deviation, deviation) for _ in range(n_layers)
        )
        self.differential = nn.ModuleDict(
            {str(i): DifferentialConv(width, width, 3, base_resolution=base_resolution) for i in _set(differential)}
        )
        self.integral = nn.ModuleDict(
            {
                str(i): PolarIntegralConv2d(
                    width,
                    width,
                    kernel_shape,
                    radius,
                    domain_length=domain_length,
                    padding_mode="zeros" if freeze_kernel else "circular",
                    released_layout=True,
                    base_resolution=base_resolution if freeze_kernel else None,
                )
                for i in _set(integral)
            }
        )
        self.mlps = nn.ModuleList(
            nn.ModuleList([Pointwise(width, narrow), Pointwise(narrow, width)]) for _ in range(n_layers)
        )
        self.gates = nn.ParameterList(torch.ones(width) for _ in range(n_layers))
        self.projection = nn.ModuleList([Pointwise(width, hidden), Pointwise(hidden, out_channels)])

    def forward(self, u: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out rows columns"]:
        """(batch, in_channels, *grid) -> (batch, out_channels, *grid), for any grid."""
        check_shape("u", u, ("batch", self.in_channels, "rows", "columns"))
        positions = grid_coordinates(u.shape[2:], like=u).expand(len(u), -1, -1, -1)
        u = self.lifting[1](F.gelu(self.lifting[0](torch.cat([u, positions], 1))))
        last = len(self.spectral) - 1
        for i, (spectral, mlp) in enumerate(zip(self.spectral, self.mlps, strict=True)):
            skip = F.conv1d(u.flatten(2), self.skips[i][..., None], self.biases[i])
            y = spectral(u) + skip.unflatten(2, u.shape[2:])
            if str(i) in self.differential:
                y = y + self.differential[str(i)](u)
            if str(i) in self.integral:
                y = y + self.integral[str(i)](u)
            if i < last or self.activate_last:
                y = F.gelu(y)
            y = mlp[1](F.gelu(mlp[0](y))) + self.gates[i][:, None, None] * u  # type: ignore[index]
            u = F.gelu(y) if i < last else y
        return self.projection[1](F.gelu(self.projection[0](u)))

    def load_official(self, state: Mapping[str, Tensor]) -> "LocalNO":
        """Load the state dict of neuraloperator's `FNO` or `LocalNO` of this configuration, strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        todo = {name: value for name, value in state.items() if name != "_metadata"}
        block = "local_no_blocks" if any(name.startswith("local_no_blocks") for name in todo) else "fno_blocks"
        skips, mlps = ("local_no_skips", "mlp") if block == "local_no_blocks" else ("fno_skips", "channel_mlp")
        renamed: dict[str, Tensor] = {}

        def pointwise(ours: str, theirs: str) -> None:
            renamed[f"{ours}.weight"] = todo.pop(f"{theirs}.weight").flatten(1)
            renamed[f"{ours}.bias"] = todo.pop(f"{theirs}.bias")

        try:
            for i in range(len(self.spectral)):
                renamed[f"spectral.{i}.weight"] = spectral_weight(todo.pop(f"{block}.convs.{i}.weight.tensor"))
                renamed[f"biases.{i}"] = todo.pop(f"{block}.convs.{i}.bias").flatten()
                renamed[f"skips.{i}"] = todo.pop(f"{block}.{skips}.{i}.conv.weight").flatten(1)
                renamed[f"gates.{i}"] = todo.pop(f"{block}.channel_mlp_skips.{i}.weight").flatten()
                for j in (0, 1):
                    pointwise(f"mlps.{i}.{j}", f"{block}.{mlps}.{i}.fcs.{j}")
            for place, i in enumerate(self.differential):
                renamed[f"differential.{i}.weight"] = todo.pop(f"{block}.differential.{place}.weight")
                todo.pop(f"{block}.differential.{place}.conv.weight")  # the same tensor by another name
            for place, i in enumerate(self.integral):
                for name in ("weight", "bias"):
                    renamed[f"integral.{i}.{name}"] = todo.pop(f"{block}.local_convs.{place}.{name}")
            for j in (0, 1):
                pointwise(f"lifting.{j}", f"lifting.fcs.{j}")
                pointwise(f"projection.{j}", f"projection.fcs.{j}")
            self.load_state_dict(renamed | todo, strict=True)
        except (KeyError, RuntimeError, IndexError) as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """Two layers, the second with all three kernels."""
        local = (False, True)
        options = dict(n_modes=(4, 4), n_layers=2, differential=local, integral=local, radius=0.3, base_resolution=8)
        made = cls(2, 1, width=6, **options)  # type: ignore[arg-type]
        return Example(made, (torch.randn(3, 2, 12, 12),))


def _set(flags: Sequence[bool]) -> list[int]:
    return [index for index, flag in enumerate(flags) if flag]


def spectral_weight(weight: Tensor) -> Tensor:
    """neuraloperator's spectral weight (in, out, modes, half modes), complex, zero mode in the middle, as ours."""
    rolled = torch.roll(weight, -(weight.shape[2] // 2), dims=2)
    return torch.view_as_real(rolled.permute(2, 3, 0, 1).contiguous())


@published_size(parameters=65_013_187)
def nn_to_no_fno() -> LocalNO:
    """The paper's FNO (authors' fno.yaml)."""
    return LocalNO(width=62, n_modes=(64, 64), lifting_ratio=4.13)


@published_size(parameters=66_083_445)
def nn_to_no_fno_differential() -> LocalNO:
    """FNO with a differential kernel in its last layer (fno_diffconv.yaml)."""
    return LocalNO(differential=(False, False, False, True))


@published_size(parameters=66_191_652)
def nn_to_no_fno_local_integral() -> LocalNO:
    """FNO with a local integral kernel in every layer (fno_localconv.yaml)."""
    return LocalNO(integral=(True,) * 4)
