"""The block-parallel trainer of NoProp-DT: one batched step for all blocks, T steps for the head."""

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from paperworks.training import Checkpoint, Fitted

from .model import NoPropDT


def fit_blocks(
    model: NoPropDT,
    batches: Callable[[int], tuple[Tensor, ...]],
    *,
    steps: int,
    lr: float = 1e-3,
    weight_decay: float = 1e-3,
    log: Callable[..., None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fitted:
    """Train with AdamW for `steps` minibatches, each of which steps every block once and the head T times.

    Algorithm 1 (arXiv 2503.24322) visits the blocks one after another and steps the head with each, so a pass over all
    of them steps it T times; with fewer steps the head is left untrained while the blocks are ready. Learned label
    vectors are stepped once a minibatch, by the sum of the blocks' gradients.

    Args:
        batches: `step -> (x, y)`, a pure function of the step.
        log, checkpoint: as in `paperworks.training.fit`.
    """
    head = list(model.head.parameters())
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("head.")]
    optimizers = {
        name: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        for name, parameters in (("blocks", rest), ("head", head))
    }
    fitted, first = Fitted(0, 0.0, math.nan), 0
    state = checkpoint.load() if checkpoint else None
    if state:
        model.load_state_dict(state["model"])
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        first, fitted.seconds = state["step"], state["seconds"]
    log_every = max(1, steps // 100)
    model.train()
    began = time.perf_counter()
    for step in range(first, steps):
        x, y = batches(step)
        value = model.loss(x, y)
        value.backward()
        optimizers["blocks"].step()
        optimizers["head"].step()
        for _ in range(model.T - 1):
            optimizers["head"].zero_grad()
            torch.autograd.backward(model.head_loss(y), inputs=head)
            optimizers["head"].step()
        model.zero_grad()
        fitted.steps, last = step + 1, step + 1 == steps
        if last or (step + 1) % log_every == 0:
            fitted.loss = float(value.detach())
            fitted.diverged = not math.isfinite(fitted.loss)
            if log:
                log(step + 1, steps, seconds=fitted.seconds + time.perf_counter() - began, loss=fitted.loss)
            if fitted.diverged:
                break
        if checkpoint and not last and checkpoint.due():
            checkpoint.save(step + 1, {
                "model": dict(model.state_dict()), "random": torch.get_rng_state(),
                "seconds": fitted.seconds + time.perf_counter() - began,
                **{name: optimizer.state_dict() for name, optimizer in optimizers.items()},
            })  # fmt: skip
    fitted.seconds += time.perf_counter() - began
    return fitted
