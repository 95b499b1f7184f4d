"""The plain (Eulerian) physics-informed network for w_t + f(x, t, w) w_x = g(x, t, w) w_xx, periodic in x.

Raissi, Perdikaris, Karniadakis, arXiv 1711.10561, with the strictly periodic embedding (cos kx, sin kx, t). It is the
baseline of the Lagrangian PINN (arXiv 2205.02902), whose equations, networks and losses are shared from here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import MLP, Example, Pretrained, check_shape

from .jets import mlp_jet, periodic_jet

Coefficient = Callable[[Tensor, Tensor, Tensor], Tensor]
EQUATIONS = ("convection", "burgers", "reaction")
LOSS_FORMS = ("mean_square", "norm")


@dataclass(frozen=True)
class TransportEquation:
    """w_t + velocity(x, t, w) w_x = diffusivity(x, t, w) w_xx; both take and give (batch,), no diffusivity means 0."""

    velocity: Coefficient
    diffusivity: Coefficient | None = None


def named_equation(name: str, speed: float = 1.0, viscosity: float = 0.0) -> TransportEquation:
    """`convection` at the constant `speed`, `burgers` at the speed w, `reaction` at the speed `speed` w (1 - w).

    The last is the authors' name for it; the equation has no source term. `viscosity` is constant.

    Raises:
        ValueError: another name, or a negative viscosity.
    """
    velocities: dict[str, Coefficient] = {
        "convection": lambda x, t, w: torch.full_like(w, speed),
        "burgers": lambda x, t, w: w,
        "reaction": lambda x, t, w: speed * w * (1 - w),
    }
    if name not in velocities:
        raise ValueError(f"equation {name!r}: one of {', '.join(EQUATIONS)}")
    if not viscosity >= 0:
        raise ValueError(f"viscosity: a number from 0, given {viscosity}")
    return TransportEquation(velocities[name], (lambda x, t, w: torch.full_like(w, viscosity)) if viscosity else None)


def tanh_network(inputs: int, width: int, depth: int) -> MLP:
    """`depth` tanh layers of `width` and a linear output, PyTorch's own initialisation, as in the authors' code."""
    net = MLP((inputs, *[width] * depth, 1), "tanh")
    for layer in net.layers:
        layer.reset_parameters()  # type: ignore[operator]
    return net


def check_sizes(**positive: float) -> None:
    """Raise a ValueError that names the first of these numbers that is not above 0."""
    for name, value in positive.items():
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name}: a number above 0, given {value}")


def embed(x: Tensor, t: Tensor, period: float, t_max: float) -> Tensor:
    """(batch,) twice -> (batch, 3): (cos kx, sin kx, t / t_max), k = 2 pi / period."""
    angle = 2 * math.pi / period * x
    return torch.stack([torch.cos(angle), torch.sin(angle), t / t_max], -1)


def size_of(residual: Tensor, form: str) -> Tensor:
    """The loss of a residual: its mean square, or its 2-norm as in the authors' code."""
    if form not in LOSS_FORMS:
        raise ValueError(f"form {form!r}: one of {', '.join(LOSS_FORMS)}")
    return residual.square().mean() if form == "mean_square" else torch.linalg.vector_norm(residual)


def grid_points(x: Tensor, t: Tensor) -> Tensor:
    """All pairs of x (n,) and t (m,), x running fastest: (m n, 2)."""
    return torch.stack([x.expand(len(t), -1), t[:, None].expand(-1, len(x))], -1).reshape(-1, 2)


@torch.no_grad()
def take_layers(net: MLP, state: Mapping[str, Tensor], names: Sequence[str], unused: Sequence[str] = ()) -> None:
    """Copy linear layers of these names, in order, into the network's; those `unused` may be there too.

    Raises:
        ValueError: a name is missing or no one's, or a shape is another.
    """
    known = {f"{name}.{kind}" for name in (*names, *unused) for kind in ("weight", "bias")}
    if set(state) - known:
        raise ValueError(f"state: expected {sorted(known)}, given {sorted(state)}")
    for layer, name in zip(net.layers, names, strict=True):
        for kind, ours in layer.named_parameters():
            if f"{name}.{kind}" not in state:
                raise ValueError(f"state: '{name}.{kind}' is missing, given {sorted(state)}")
            check_shape(f"{name}.{kind}", state[f"{name}.{kind}"], tuple(ours.shape))
            ours.copy_(state[f"{name}.{kind}"])


class TransportPINN(Pretrained):
    """What networks that solve a `TransportEquation` share: equations of the user's own, grids, measurements.

    A class beside `nn.Module` whose constructor sets `equation`, and which offers `values_at`.
    """

    equation: TransportEquation
    own_equation = False

    @classmethod
    def from_equation(cls, equation: TransportEquation, **options: Any) -> Self:
        """A network for coefficients of your own; it cannot be saved by `save_pretrained`, save its state dict."""
        made = cls(**options)
        made.equation, made.own_equation = equation, True
        return made

    def _save_pretrained(self, save_directory: Any) -> None:
        if self.own_equation:
            raise ValueError("a PINN from_equation cannot be saved as a configuration; save its state_dict")
        super()._save_pretrained(save_directory)

    def values_at(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """w at places and times (x, t), with gradients."""
        raise NotImplementedError

    def misfit(self, measured: Float[Tensor, "m 3"] | None, form: str) -> Tensor | float:
        """Size of w(x, t) - w over measurements (x, t, w), which may lie anywhere; 0 without any."""
        if measured is None:
            return 0.0
        check_shape("measured", measured, ("m", 3))
        return size_of(self.values_at(measured[:, :2]) - measured[:, 2], form)

    def on_grid(self, x: Tensor, t: Tensor) -> Tensor:
        """The network's outputs at all pairs of x (n,) and t (m,): (m, n, outputs)."""
        rows = max(1, 100_000 // max(1, len(x)))
        return torch.cat([self(grid_points(x, part)).unflatten(0, (-1, len(x))) for part in t.split(rows)])  # type: ignore[operator]


class EulerianPINN(nn.Module, TransportPINN, tags=["physics-informed", "arxiv:1711.10561"]):
    """w(x, t) = offset + N(cos kx, sin kx, t / t_max), trained on the equation's residual and the initial condition.

    Args:
        equation: `convection`, `burgers` or `reaction`; for coefficients of your own see `from_equation`.
        speed: of convection and reaction.
        viscosity: constant; 0 leaves out second derivatives.
        period: of x.
        t_max: end of the time interval [0, t_max].
        width, depth: of the network; `depth` counts its tanh layers.
        offset: a constant that the network need not learn, such as the mean of the initial condition.
        frame_speed: a known speed s: the network sees x - s t, that is, works in the frame that moves along.
    """

    def __init__(
        self,
        equation: str = "convection",
        speed: float = 1.0,
        viscosity: float = 0.0,
        period: float = 2 * math.pi,
        t_max: float = 1.0,
        width: int = 50,
        depth: int = 4,
        offset: float = 0.0,
        frame_speed: float = 0.0,
    ):
        super().__init__()
        check_sizes(period=period, t_max=t_max, width=width, depth=depth)
        self.equation = named_equation(equation, speed, viscosity)
        self.period, self.t_max, self.offset, self.frame_speed = period, t_max, offset, frame_speed
        self.net = tanh_network(3, width, depth)

    def load_official(self, state: Mapping[str, Tensor]) -> "EulerianPINN":
        """Take the weights of the authors' `PINN_POLAR`, whose layers beyond its depth are never used.

        Raises:
            ValueError: names or shapes are others.
        """
        used = ["input", *(f"hidden{i}" for i in range(1, len(self.net.layers) - 1)), "output"]
        take_layers(self.net, state, used, unused=[f"hidden{i}" for i in range(1, 6)])
        return self

    def forward(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 1"]:
        """w at points (x, t)."""
        check_shape("points", points, ("batch", 2))
        x, t = points.unbind(-1)
        return self.offset + self.net(embed(x - self.frame_speed * t, t, self.period, self.t_max))

    def derivatives(self, points: Float[Tensor, "batch 2"]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(w, w_x, w_t, w_xx), each (batch,); no second derivative where the equation has no diffusivity."""
        x, t = points.unbind(-1)
        second = self.equation.diffusivity is not None
        start = periodic_jet(x - self.frame_speed * t, t, self.period, self.t_max, "xt", second)
        w, w_x, w_t, *rest = mlp_jet(self.net, start, second)
        if self.frame_speed:
            w_t = w_t - self.frame_speed * w_x
        return self.offset + w, w_x, w_t, rest[0] if second else None

    def residual(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """w_t + f w_x - g w_xx at points (x, t)."""
        check_shape("points", points, ("batch", 2))
        x, t = points.unbind(-1)
        w, w_x, w_t, w_xx = self.derivatives(points)
        residual = w_t + self.equation.velocity(x, t, w) * w_x
        if self.equation.diffusivity is not None and w_xx is not None:
            residual = residual - self.equation.diffusivity(x, t, w) * w_xx
        return residual

    def values_at(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """w at places and times (x, t), with gradients."""
        return self(points)[:, 0]

    def loss(
        self,
        points: Tensor,
        x0: Tensor,
        w0: Tensor,
        *,
        initial_weight: float = 100.0,
        form: str = "mean_square",
        measured: Tensor | None = None,
        measured_weight: float = 100.0,
    ) -> Tensor:
        """The loss: size of the residual + initial_weight * size of w(x0, 0) - w0 (+ measured_weight * the misfit).

        Args:
            points: (batch, 2) collocation points (x, t).
            x0, w0: (n,) the initial condition; n = 0 where it is not known.
            measured: (m, 3) measurements (x, t, w), anywhere in space and time.
        """
        found = size_of(self.residual(points), form) + measured_weight * self.misfit(measured, form)
        if len(x0) == 0:
            return found
        at_start = self.values_at(torch.stack([x0, torch.zeros_like(x0)], -1)) - w0
        return found + initial_weight * size_of(at_start, form)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, " n"], t: Float[Tensor, " m"]) -> Float[Tensor, "m n"]:
        """w on a grid."""
        check_shape("x", x, ("n",))
        check_shape("t", t, ("m",))
        return self.on_grid(x, t)[..., 0]

    @classmethod
    def example(cls) -> Example:
        """Burgers, eight wide."""
        return Example(cls("burgers", viscosity=0.1, width=8, depth=2, offset=1.0), (torch.rand(5, 2),))
