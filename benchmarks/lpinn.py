"""Training steps and inference of Eulerian and Lagrangian PINNs against DeepXDE's on the PyTorch backend: the same
networks, 512 collocation and 128 initial points, periodic embedding and optimiser; what is compared is how derivatives
are taken, and in inference what a call costs beside the network.
"""

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from paperworks.operators import EulerianPINN, LagrangianPINN
from paperworks.operators.pinn import grid_points
from timing import interleaved

WIDTH, W_DEPTH, X_DEPTH, INSIDE, AT_START, NU = 50, 4, 2, 512, 128, 0.05
PLACES, TIMES = 256, 101  # of the grid that is predicted on


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """One row a case."""
    os.environ["DDE_BACKEND"] = "pytorch"
    try:
        import deepxde as dde  # type: ignore[import-not-found]
    except ImportError as error:
        return [{"name": "all", "ratio": None, "why": f"DeepXDE cannot be imported: {error}", "peer": "DeepXDE"}]
    # One setting of its own would move every later tensor to the GPU, where there is one.
    torch.set_default_device("cpu")
    cases = []
    for name, nu in (("convection", 0.0), ("burgers", NU)):
        for lagrangian in (False, True):
            kind = "Lagrangian" if lagrangian else "Eulerian"
            net: Any = (LagrangianPINN if lagrangian else EulerianPINN)(name, speed=30.0, viscosity=nu)
            model = peers_model(dde, name, nu, lagrangian)
            step = peers_step(model)
            cases.append((f"{kind} {name}, train step, {INSIDE} + {AT_START} points", our_step(net), step))
            if not nu:  # the network is the same for both equations
                grid = grid_points(torch.linspace(0, 2 * math.pi, PLACES), torch.linspace(0, 1, TIMES))
                case = f"{kind}, inference, {PLACES} x {TIMES} points"
                cases.append((case, quiet(net, grid), lambda model=model, rows=grid.numpy(): model.predict(rows)))
    return interleaved(cases, rounds, peer="DeepXDE", peer_version=dde.__version__)


def quiet(net: Any, points: torch.Tensor) -> Callable[[], None]:
    """The network's outputs at all points, without gradients."""

    def forward() -> None:
        with torch.no_grad():
            net(points)

    return forward


def our_step(net: Any) -> Callable[[], None]:
    """A step of ours on one batch."""
    points = torch.rand(INSIDE, 2) * torch.tensor([2 * math.pi, 1.0])
    x0 = 2 * math.pi * torch.rand(AT_START)
    w0 = torch.sin(x0)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        net.loss(points, x0, w0).backward()
        optimizer.step()

    return train


def peers_model(dde: Any, name: str, nu: float, lagrangian: bool) -> Any:
    """DeepXDE's `Model` of the same network and equation, with one batch drawn."""

    def embed(z: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.cos(z[:, :1]), torch.sin(z[:, :1]), z[:, 1:]], 1)

    def net_of(depth: int) -> Any:
        return dde.nn.FNN([3, *[WIDTH] * depth, 1], "tanh", "Glorot normal")

    class Pair(dde.nn.NN):
        """w and X = xi + t D."""

        def __init__(self) -> None:
            super().__init__()
            self.w, self.d = net_of(W_DEPTH), net_of(X_DEPTH)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            inputs = embed(z)
            return torch.cat([self.w(inputs), z[:, :1] + z[:, 1:] * self.d(inputs)], 1)

    def speed(w: torch.Tensor) -> Any:
        return w if name == "burgers" else 30.0

    def eulerian_residual(z: torch.Tensor, w: torch.Tensor) -> Any:
        residual = dde.grad.jacobian(w, z, i=0, j=1) + speed(w) * dde.grad.jacobian(w, z, i=0, j=0)
        return residual - nu * dde.grad.hessian(w, z, i=0, j=0) if nu else residual

    def lagrangian_residual(z: torch.Tensor, out: torch.Tensor) -> Any:
        motion = dde.grad.jacobian(out, z, i=1, j=1) - speed(out[:, :1])
        w_t = dde.grad.jacobian(out, z, i=0, j=1)
        if not nu:
            return [motion, w_t]
        j = dde.grad.jacobian(out, z, i=1, j=0).clamp_min(0.01)
        flux = dde.grad.jacobian(out, z, i=0, j=0) / j
        return [motion, j * w_t - nu * dde.grad.jacobian(flux, z, i=0, j=0)]

    domain = dde.geometry.GeometryXTime(dde.geometry.Interval(0, 2 * math.pi), dde.geometry.TimeDomain(0, 1))
    start = dde.icbc.IC(domain, lambda z: np.sin(z[:, :1]), lambda _, at_start: at_start, component=0)
    # its residual is taken at the initial points too: together they are as many as ours
    data = dde.data.TimePDE(
        domain,
        lagrangian_residual if lagrangian else eulerian_residual,
        [start],
        num_domain=INSIDE - AT_START,
        num_initial=AT_START,
    )
    net = Pair() if lagrangian else net_of(W_DEPTH)
    if not lagrangian:
        net.apply_feature_transform(embed)
    model = dde.Model(data, net)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
    model.compile(optimizer, loss_weights=[1, 1, 100] if lagrangian else [1, 100], verbose=0)
    model.train_state.set_data_train(*data.train_next_batch())
    assert len(data.train_x_all) == INSIDE
    return model


def peers_step(model: Any) -> Callable[[], None]:
    """A step of it on its batch."""
    state = model.train_state
    return lambda: model._train_step(state.X_train, state.y_train, state.train_aux_vars)
