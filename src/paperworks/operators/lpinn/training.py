"""Fitting a PINN, Lagrangian or Eulerian: collocation points drawn anew each step, Adam, then L-BFGS."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from paperworks.training import Fitted, fit

from ..pinn import EulerianPINN
from .model import LagrangianPINN

Initial = Callable[[Tensor], Tensor]


class CollocationSampler:
    """`sampler(step) -> (points, x0, w0)`: uniform random points of [0, period] x [0, t_max] and of the initial line.

    A pure function of the step, so that a killed fit goes on bit for bit.

    Args:
        initial: w0(x), (n,) -> (n,).
        n_points, n_initial: points inside and at t = 0.
    """

    def __init__(
        self, initial: Initial, *, period: float, t_max: float, n_points: int = 512, n_initial: int = 128, seed: int = 0
    ):
        if n_points < 1 or n_initial < 1:
            raise ValueError(f"n_points and n_initial: at least 1, given {n_points} and {n_initial}")
        self.initial, self.seed = initial, seed
        self.n_points, self.n_initial = n_points, n_initial
        self.scale = torch.tensor([period, t_max])
        self._drawn = torch.Generator()

    def __call__(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """points (n_points, 2), x0 (n_initial,), w0 (n_initial,)."""
        self._drawn.manual_seed((self.seed * 1_000_003 + step) % 2**63)
        points = torch.rand(self.n_points, 2, generator=self._drawn) * self.scale
        x0 = torch.rand(self.n_initial, generator=self._drawn) * self.scale[0]
        return points, x0, self.initial(x0)


def fit_pinn(
    net: LagrangianPINN | EulerianPINN,
    initial: Initial,
    *,
    steps: int,
    lr: float = 5e-3,
    n_points: int = 512,
    n_initial: int = 128,
    lbfgs_steps: int = 0,
    seed: int = 0,
    form: str = "mean_square",
    initial_weight: float = 100.0,
    measured: Tensor | None = None,
    measured_weight: float = 100.0,
    **options: Any,
) -> Fitted:
    """Train with Adam, the rate falling to 0 as a cosine, then with `lbfgs_steps` iterations of L-BFGS.

    Args:
        initial: w0(x), (n,) -> (n,).
        n_points, n_initial: points drawn anew for each step.
        form, initial_weight: of the loss.
        measured, measured_weight: measurements (x, t, w), (m, 3), all of them in the loss of every step.
        options: of `paperworks.training.fit`: log, checkpoint, validate ...
    """
    sampler = CollocationSampler(
        initial, period=net.period, t_max=net.t_max, n_points=n_points, n_initial=n_initial, seed=seed
    )

    weighed: dict[str, Any] = dict(form=form, initial_weight=initial_weight)
    weighed |= dict(measured=measured, measured_weight=measured_weight)

    def loss(model: LagrangianPINN | EulerianPINN, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return model.loss(*batch, **weighed)

    fitted = fit(net, loss, sampler, steps=steps, lr=lr, **{"schedule": "cosine", **options})
    if lbfgs_steps and not fitted.diverged:
        fitted.loss = polish(net, sampler(steps), lbfgs_steps, **weighed)
    return fitted


def polish(
    net: LagrangianPINN | EulerianPINN, batch: tuple[Tensor, Tensor, Tensor], iterations: int, **options: Any
) -> float:
    """L-BFGS with a strong Wolfe line search on one fixed batch; returns the last loss.

    At the authors' fixed step of 0.01 without a line search it barely moves.
    """
    optimizer = torch.optim.LBFGS(net.parameters(), max_iter=iterations, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = net.loss(*batch, **options)
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[arg-type]
    with torch.no_grad():
        return float(net.loss(*batch, **options))
