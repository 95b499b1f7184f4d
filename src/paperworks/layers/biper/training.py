"""BiPer's two stages (arXiv 2404.01278, section 3.4): a sine first, then its sign, each with a cosine of its own.

Authors' code: edmav4/BiPer, `main.py` and `main_stage2.py`. Stage 2 goes on from the weights and running statistics of
stage 1 with an optimiser whose momentum is empty.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.training.fit import Fitted, fit

from .layers import biper_regularizer, set_stage


def fit_two_stage(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    batches: Callable[[int], Any],
    *,
    steps: int,
    stage1: float = 0.5,
    lr: float = 0.05,
    lr2: float | None = None,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    weight_decay2: float | None = None,
    tau: float = 0.0,
    tau2: float | None = None,
    warmup: int = 0,
    set_stage: Callable[[nn.Module, int], Any] = set_stage,
    **options: Any,
) -> Fitted:
    """Train a network with periodic layers by SGD, first in stage 1, then in stage 2; it ends in stage 2.

    Args:
        loss, batches: as in `paperworks.training.fit`; steps are counted through both stages.
        steps: of both stages together.
        stage1: share of the steps in stage 1; 0 trains in stage 2 from the start.
        lr, weight_decay, tau: rate, decay and weight of the regulariser in stage 1.
        lr2, weight_decay2, tau2: of stage 2; None: 0.4 of the rate, the same decay, the same weight.
        warmup: steps of linear warm-up at the start of each stage.
        set_stage: how the stage is changed, where the layers are others.
        options: of `paperworks.training.fit`: log, checkpoint, validate ... A killed fit goes on bit for bit.

    Raises:
        ValueError: `stage1` is no share, or `keep_best`, which would mix weights of both stages.
    """
    if not 0 <= stage1 <= 1:
        raise ValueError(f"stage1: a share of the steps from 0 to 1, given {stage1}")
    if options.get("keep_best"):
        raise ValueError("keep_best: the best of stage 1 has real weights; leave it out")
    first = round(stage1 * steps)
    lr2 = 0.4 * lr if lr2 is None else lr2
    decays = (weight_decay, weight_decay if weight_decay2 is None else weight_decay2)
    taus = (tau, tau if tau2 is None else tau2)
    optimisers: list[torch.optim.Optimizer] = []

    def make(groups: Any) -> torch.optim.Optimizer:
        optimisers.append(torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=decays[0], fused=True))
        return optimisers[-1]

    def entering(step: int) -> Any:
        """The step's batch; on the way, whatever changes with the stage."""
        stage = 1 if step < first else 2
        set_stage(model, stage)
        for group in optimisers[-1].param_groups:
            group["weight_decay"] = decays[stage - 1]
        if step == first:
            optimisers[-1].state.clear()
        return batches(step)

    def factor(step: int) -> float:
        begun, length, rate = (0, first, 1.0) if step < first else (first, steps - first, lr2 / lr)
        return rate * warm_cosine(step - begun, length, warmup)

    def regularised(net: Any, batch: Any) -> Tensor:
        value = loss(net, batch)
        weight = taus[0 if stage_of(net) == 1 else 1] if any(taus) else 0.0
        return value + biper_regularizer(net, weight) if weight else value

    fitted = fit(model, regularised, entering, steps=steps, lr=lr, optimizer=make, schedule=factor, **options)
    set_stage(model, 2)
    return fitted


def stage_of(model: nn.Module) -> int:
    """The stage of a network's first periodic layer."""
    return next(module.stage for module in model.modules() if hasattr(module, "stage"))  # type: ignore[return-value]


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """The authors' rate by the step, as a share: (step + 1) / warmup, then half a cosine from its end to the last step.

    With `warmup` > 0 the cosine counts from warmup - 1, so that the first full rate is that of the last warm-up step.
    """
    if step < warmup:
        return (step + 1) / warmup
    begun = max(0, warmup - 1)
    return 0.5 * (1 + math.cos(math.pi * (step - begun) / max(1, steps - begun)))
