"""Lagrangian PINN: the solution as a family of characteristics X(xi, t) that carry w(xi, t).

Mojgani, Balajewicz, Hassanzadeh, arXiv 2205.02902 (CMAME 404:115810, 2023); authors' code rmojgani/LPINNs. For
w_t + f(x, t, w) w_x = g(x, t, w) w_xx, periodic in x, and labels xi, the initial positions:

    X_t = f(X, t, w),   w_t at fixed xi = g w_xx,   X(xi, 0) = xi,   w(xi, 0) = w0(xi).

The second x-derivative along the labels is w_xx = (1/J) d/dxi (w_xi / J) with J = X_xi. The authors' code takes
d^2 w / dxi^2 instead, which is the same only where the speed is constant (J = 1); both are here.
"""

import math
import warnings
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, check_shape, published_size

from ..jets import mlp_jet, periodic_jet
from ..pinn import (
    EulerianPINN,
    TransportPINN,
    check_sizes,
    embed,
    grid_points,
    named_equation,
    size_of,
    take_layers,
    tanh_network,
)

DIFFUSION = ("eulerian", "label")
X_PARAM = ("displacement", "raw")
BISECTIONS, NEWTON_STEPS = 8, 2  # from a period to a label, before the step that carries gradients
UNUSED = ("hidden3", "hidden4", "hidden5", "hiddenae", "hiddennnn", "outpuaetttt")  # allocated by the authors


class LagrangianPINN(nn.Module, TransportPINN, tags=["physics-informed", "arxiv:2205.02902"]):
    """Two tanh networks of (cos k xi, sin k xi, t / t_max): one for w(xi, t), one for the characteristics X(xi, t).

    Args:
        equation: `convection`, `burgers` or `reaction`; for coefficients of your own see `from_equation`.
        speed: of convection and reaction.
        viscosity: constant; 0 leaves out second derivatives.
        period: of x.
        t_max: end of the time interval [0, t_max].
        width: of both networks.
        depth: tanh layers of the w-network and of the X-network.
        offset: a constant that the w-network need not learn, such as the mean of the initial condition.
        diffusion: `eulerian`, the diffusion term of the equation; `label`, that of the authors' code.
        x_param: `displacement`, X = xi + t D(xi, t), exact at t = 0 and across the period; `raw`, X is the network's
            output as in the authors' code, which as a periodic function cannot be xi at t = 0.
        shared: share the first, second and last layer between the networks and one matrix between the w-network's
            deeper layers, as in the authors' code.
        least_jacobian: J is kept from falling below it in the eulerian diffusion term.
    """

    def __init__(
        self,
        equation: str = "convection",
        speed: float = 1.0,
        viscosity: float = 0.0,
        period: float = 2 * math.pi,
        t_max: float = 1.0,
        width: int = 50,
        depth: Sequence[int] = (4, 2),
        offset: float = 0.0,
        diffusion: str = "eulerian",
        x_param: str = "displacement",
        shared: bool = False,
        least_jacobian: float = 0.01,
    ):
        super().__init__()
        check_sizes(period=period, t_max=t_max, width=width, least_jacobian=least_jacobian)
        if len(depth) != 2 or min(depth) < 1:
            raise ValueError(f"depth: tanh layers of the w-network and of the X-network, given {depth}")
        if diffusion not in DIFFUSION:
            raise ValueError(f"diffusion {diffusion!r}: one of {', '.join(DIFFUSION)}")
        if x_param not in X_PARAM:
            raise ValueError(f"x_param {x_param!r}: one of {', '.join(X_PARAM)}")
        if shared and (depth[0] < 3 or depth[1] != 2):
            raise ValueError(f"depth: (3 or more, 2) where layers are shared, given {tuple(depth)}")
        self.equation = named_equation(equation, speed, viscosity)
        self.period, self.t_max, self.offset = period, t_max, offset
        self.diffusion, self.x_param, self.shared = diffusion, x_param, shared
        self.least_jacobian = least_jacobian
        self.w_net, self.x_net = tanh_network(3, width, depth[0]), tanh_network(3, width, depth[1])
        if shared:
            w_layers, x_layers = self.w_net.layers, self.x_net.layers
            x_layers[0], x_layers[1], x_layers[2] = w_layers[0], w_layers[1], w_layers[-1]
            for deeper in range(3, depth[0]):
                w_layers[deeper] = w_layers[2]

    def load_official(self, state: Mapping[str, Tensor]) -> "LagrangianPINN":
        """Take the weights of the authors' `LPINN_POLAR`; the layers that it allocates and never uses are left.

        Raises:
            ValueError: this model does not share layers as theirs does, or names or shapes are others.
        """
        if not (self.shared and self.x_param == "raw"):
            raise ValueError("load_official: build the model with shared=True and x_param='raw', as the authors' is")
        deeper = ["hidden2"] * (len(self.w_net.layers) - 3)
        take_layers(self.w_net, state, ["input", "hidden1", *deeper, "output"], UNUSED)
        return self

    def forward(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, "batch 2"]:
        """(X, w) at points (xi, t)."""
        check_shape("points", points, ("batch", 2))
        xi, t = points.unbind(-1)
        inputs = embed(xi, t, self.period, self.t_max)
        return torch.stack([self._place(inputs, xi, t), self.offset + self.w_net(inputs)[:, 0]], -1)

    def _place(self, inputs: Tensor, xi: Tensor, t: Tensor) -> Tensor:
        x = self.x_net(inputs)[:, 0]
        return xi + t * x if self.x_param == "displacement" else x

    def _w_jet(self, xi: Tensor, t: Tensor, directions: str, second: bool) -> list[Tensor]:
        """w and its derivatives in `directions` (and w_xixi), each (batch,)."""
        start = periodic_jet(xi, t, self.period, self.t_max, directions, second)
        w, *rest = mlp_jet(self.w_net, start, second)
        return [self.offset + w, *rest]

    def _x_jet(self, xi: Tensor, t: Tensor, directions: str, second: bool) -> list[Tensor]:
        """X and its derivatives in `directions` (and X_xixi), each (batch,)."""
        start = periodic_jet(xi, t, self.period, self.t_max, directions, second)
        channels = list(mlp_jet(self.x_net, start, second))
        if self.x_param == "raw":
            return channels
        d = channels[0]
        channels = [t * channel for channel in channels]
        channels[0] = xi + channels[0]
        for index, direction in enumerate(directions, start=1):
            channels[index] = channels[index] + (1 if direction == "x" else d)
        return channels

    def residuals(self, points: Float[Tensor, "batch 2"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
        """(X_t - f, R) at points (xi, t).

        R = w_t without diffusion; J w_t - g (w_xi / J)_xi for `eulerian`, in which no small J divides w_t; and
        w_t - g w_xixi for `label`.
        """
        check_shape("points", points, ("batch", 2))
        xi, t = points.unbind(-1)
        diffusive, eulerian = self.equation.diffusivity is not None, self.diffusion == "eulerian"
        directions = "xt" if diffusive else "t"
        w, *rest = self._w_jet(xi, t, directions, diffusive)
        if not (diffusive and eulerian):
            x, x_t = self._x_jet(xi, t, "t", False)
            along = rest[0] if not diffusive else rest[1]
            if self.equation.diffusivity is not None:
                along = along - self.equation.diffusivity(x, t, w) * rest[2]
            return x_t - self.equation.velocity(x, t, w), along
        assert self.equation.diffusivity is not None
        w_xi, w_t, w_xixi = rest
        x, j, x_t, j_xi = self._x_jet(xi, t, "xt", True)
        j = j.clamp_min(self.least_jacobian)
        flux_xi = (w_xixi - w_xi * j_xi / j) / j
        return x_t - self.equation.velocity(x, t, w), j * w_t - self.equation.diffusivity(x, t, w) * flux_xi

    def labels_at(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """The label xi whose characteristic passes place x at time t: X(xi, t) = x up to periods.

        Over one period of labels X goes on by one period, so bisection comes near a root and Newton's steps to it, the
        last of which carries gradients to the X-network. Where characteristics have crossed there are several roots.

        Raises:
            ValueError: `raw` characteristics, which are periodic in the label and need not pass x at all.
        """
        check_shape("points", points, ("batch", 2))
        if self.x_param == "raw":
            raise ValueError("points: raw characteristics need not pass a place; build with x_param='displacement'")
        x, t = points.unbind(-1)
        place = lambda xi: self._place(embed(xi, t, self.period, self.t_max), xi, t)  # noqa: E731
        with torch.no_grad():
            xi, width = torch.zeros_like(x), self.period
            start = place(xi)
            sought = start + torch.remainder(x - start, self.period)
            for _ in range(BISECTIONS):
                width = width / 2
                xi = torch.where(place(xi + width) <= sought, xi + width, xi)
            for _ in range(NEWTON_STEPS):
                reached, slope = self._x_jet(xi, t, "x", False)[:2]
                slope = slope.clamp_min(self.least_jacobian)
                xi = xi - ((reached - sought) / slope).clamp(-width, width)
            slope = self._x_jet(xi, t, "x", False)[1].clamp_min(self.least_jacobian)
        return xi - ((place(xi) - sought) / slope).clamp(-width, width)

    def values_at(self, points: Float[Tensor, "batch 2"]) -> Float[Tensor, " batch"]:
        """w at places and times (x, t), along the characteristics that pass there; with gradients."""
        xi = self.labels_at(points)
        return self(torch.stack([xi, points[:, 1]], -1))[:, 1]

    def loss(
        self,
        points: Tensor,
        x0: Tensor,
        w0: Tensor,
        *,
        initial_weight: float = 100.0,
        position_weight: float = 1.0,
        form: str = "mean_square",
        measured: Tensor | None = None,
        measured_weight: float = 100.0,
    ) -> Tensor:
        """The loss: size of R + position_weight * size of X_t - f + initial_weight * size of the initial errors.

        Args:
            points: (batch, 2) collocation points (xi, t).
            x0, w0: (n,) the initial condition; n = 0 where it is not known.
            measured: (m, 3) measurements (x, t, w), anywhere in space and time; measured_weight * the size of
                w(x, t) - w is added.
        """
        motion, along = self.residuals(points)
        found = size_of(along, form) + position_weight * size_of(motion, form)
        found = found + measured_weight * self.misfit(measured, form)
        if len(x0) == 0:
            return found
        x_start, w_start = self(torch.stack([x0, torch.zeros_like(x0)], -1)).unbind(-1)
        initial = size_of(w_start - w0, form)
        if self.x_param == "raw":  # the displacement is exact at t = 0
            initial = initial + size_of(x_start - x0, form)
        return found + initial_weight * initial

    @torch.no_grad()
    def characteristics(self, xi: Float[Tensor, " n"], t: Float[Tensor, " m"]) -> Float[Tensor, "m n"]:
        """X, not wrapped into the period."""
        check_shape("xi", xi, ("n",))
        check_shape("t", t, ("m",))
        return self.on_grid(xi, t)[..., 0]

    @torch.no_grad()
    def jacobian(self, xi: Float[Tensor, " n"], t: Float[Tensor, " m"]) -> Float[Tensor, "m n"]:
        """J = X_xi; warns where it is not above 0, that is, where characteristics have crossed."""
        check_shape("xi", xi, ("n",))
        check_shape("t", t, ("m",))
        labels, times = grid_points(xi, t).unbind(-1)
        j = self._x_jet(labels, times, "x", False)[1].reshape(len(t), len(xi))
        crossed = (j <= 0).any(1)
        if crossed.any():
            warnings.warn(
                f"characteristics cross from t = {float(t[crossed].min()):.3g} on: there the solution has several "
                "values at one place; take a shorter t_max or a larger viscosity",
                stacklevel=2,
            )
        return j

    @torch.no_grad()
    def predict(self, x: Float[Tensor, " n"], t: Float[Tensor, " m"], n_labels: int = 1024) -> Float[Tensor, "m n"]:
        """w on a grid of places and times, interpolated between `n_labels` characteristics."""
        check_shape("x", x, ("n",))
        check_shape("t", t, ("m",))
        labels = torch.arange(n_labels, dtype=x.dtype, device=x.device) * (self.period / n_labels)
        found = self.on_grid(labels, t)
        return periodic_interpolation(found[..., 0], found[..., 1], x, self.period)

    @classmethod
    def example(cls) -> Example:
        """Burgers, eight wide."""
        return Example(cls("burgers", viscosity=0.1, width=8, depth=(3, 2), offset=1.0), (torch.rand(5, 2),))


def periodic_interpolation(
    positions: Float[Tensor, "m labels"], values: Float[Tensor, "m labels"], x: Float[Tensor, " n"], period: float
) -> Float[Tensor, "m n"]:
    """Piecewise linear interpolation to x, row by row, of values at positions anywhere on the line, period by period.

    Positions are wrapped and sorted, and the first and last are repeated one period away.
    """
    places, order = torch.sort(torch.remainder(positions, period), dim=-1)
    found = torch.gather(values, -1, order)
    places = torch.cat([places[:, -1:] - period, places, places[:, :1] + period], -1).contiguous()
    found = torch.cat([found[:, -1:], found, found[:, :1]], -1)
    asked = torch.remainder(x, period).expand(len(places), -1).contiguous()
    right = torch.searchsorted(places, asked, right=True).clamp(1, places.shape[-1] - 1)
    low, high = torch.gather(places, -1, right - 1), torch.gather(places, -1, right)
    share = (asked - low) / (high - low).clamp_min(torch.finfo(places.dtype).tiny)
    left = torch.gather(found, -1, right - 1)
    return left + share * (torch.gather(found, -1, right) - left)


@published_size(10_702)
def lpinn_parallel(**equation: object) -> LagrangianPINN:
    """Two parallel networks as the abstract has them: four tanh layers of 50 for w, two for X."""
    return LagrangianPINN(width=50, depth=(4, 2), **equation)  # type: ignore[arg-type]


@published_size(5_351)
def lpinn_released(**equation: object) -> LagrangianPINN:
    """What the authors' default net uses of the 20,651 parameters that it allocates."""
    options = {"diffusion": "label", "x_param": "raw", "shared": True, **equation}
    return LagrangianPINN(width=50, depth=(5, 2), **options)  # type: ignore[arg-type]


@published_size(7_901)
def pinn_parallel(**equation: object) -> EulerianPINN:
    """The Eulerian network that is the w-network of `lpinn_parallel`."""
    return EulerianPINN(width=50, depth=4, **equation)  # type: ignore[arg-type]


@published_size(10_451)
def pinn_released(**equation: object) -> EulerianPINN:
    """What the authors' default Eulerian baseline uses of the 13,001 parameters that it allocates."""
    return EulerianPINN(width=50, depth=5, **equation)  # type: ignore[arg-type]
