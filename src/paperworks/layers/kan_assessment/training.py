"""One way to train every family: several learning rates, the best by validation, the test rows looked at once."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.training import Batches, Fitted, fit

from .model import build
from .tasks import Task


class Trained(NamedTuple):
    """The network that validated best, its rate and validation loss, and the seconds that one step takes."""

    net: nn.Module
    lr: float
    val_loss: float
    step_seconds: float
    history: list[dict[str, float]]


def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Squared error, or cross-entropy where targets are classes."""
    x, y = batch
    return F.mse_loss(net(x), y) if y.is_floating_point() else F.cross_entropy(net(x), y)


def train(
    task: Task,
    family: str,
    width: int,
    seed: int,
    *,
    steps: int,
    batch_size: int,
    lrs: Sequence[float],
    low: float = -1.0,
    high: float = 1.0,
) -> Trained:
    """Adam with a cosine schedule, at every rate from the same start.

    Raises:
        ArithmeticError: every rate diverged.
    """
    best: Trained | None = None
    for lr in lrs:
        torch.manual_seed(seed)
        net = build(family, task.n_in, width, task.n_out, low, high)
        fitted: Fitted = fit(
            net,
            loss,
            Batches(task.train, batch_size, seed),
            steps=steps,
            lr=lr,
            schedule="cosine",
            validate=lambda net=net: {"val_loss": float(loss(net, task.val))},
            validate_every=max(1, steps // 20),
        )
        value = fitted.history[-1]["val_loss"] if fitted.history and not fitted.diverged else math.inf
        if math.isfinite(value) and (best is None or value < best.val_loss):
            best = Trained(net.eval(), lr, value, fitted.seconds / steps, fitted.history)
    if best is None:
        raise ArithmeticError(f"{family}: training diverged at every rate of {list(lrs)}")
    return best


@torch.no_grad()
def scores(net: nn.Module, part: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """`acc` for classes; `nrmse` and `mae` in standard deviations for a number."""
    x, y = part
    out = net(x)
    if not y.is_floating_point():
        return {"acc": float((out.argmax(1) == y).float().mean())}
    error = out - y
    return {"nrmse": float(error.square().mean().sqrt() / y.std()), "mae": float(error.abs().mean())}
