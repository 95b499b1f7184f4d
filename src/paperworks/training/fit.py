"""One plain function that fits any model. Read it in one sitting."""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint


@dataclass
class Fitted:
    """What a fit did: steps taken, training seconds, last loss, validation history, all that was logged, divergence."""

    steps: int
    seconds: float
    loss: float
    history: list[dict[str, float]] = field(default_factory=list)
    logged: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] | None = None
    diverged: bool = False


def fit(
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    batches: Callable[[int], Any],
    *,
    steps: int,
    lr: float = 1e-3,
    optimizer: str | Callable[[Iterable[Any]], torch.optim.Optimizer] = "adam",
    weight_decay: float = 0.0,
    no_decay: Callable[[str, nn.Parameter], bool] | None = None,
    momentum: float = 0.9,
    betas: tuple[float, float] = (0.9, 0.999),
    schedule: str | Callable[[int], float] = "constant",
    warmup: int = 0,
    clip: float | None = None,
    log: Callable[..., None] | None = None,
    log_every: int | None = None,
    checkpoint: Checkpoint | None = None,
    validate: Callable[[], dict[str, float]] | None = None,
    validate_every: int = 0,
    keep_best: tuple[str, str] | None = None,
    mixed_precision: str | None = None,
) -> Fitted:
    """Train `model` for `steps` optimiser steps.

    Args:
        loss: `(model, batch) -> scalar`.
        batches: `step -> batch`, a pure function of the step, so that a killed fit goes on bit for bit.
        optimizer: `adam`, `adamw`, `sgd` (with `momentum`), or a function of the parameters.
        no_decay: `(name, parameter) -> True` for parameters without weight decay.
        schedule: factor on `lr`: `constant`, `cosine` or `linear` down to 0, or a function of the step.
        warmup: steps of linear warm-up before the schedule.
        clip: largest gradient norm.
        log: called as `log(step, steps, seconds=..., loss=..., **validation metrics)`, about 100 times.
        checkpoint: where the state is kept, and found again.
        validate: metrics, computed every `validate_every` steps and at the end; off the clock.
        keep_best: `(metric, "lower" or "higher")`: end with the weights that validated best.
        mixed_precision: `bf16` or `fp16`, through accelerate, as are several processes (`accelerate launch`): the
            batch is then the global one, each process takes its share, and gradients are averaged.

    Returns:
        `Fitted`; `diverged` is True when the loss was not finite, and training stopped there.
    """
    accelerator = _accelerator(mixed_precision)
    ranks, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    make = _make_optimizer(optimizer, lr, weight_decay, momentum, betas)
    optimiser = make(_groups(model, weight_decay, no_decay))
    rates = [group["lr"] for group in optimiser.param_groups]
    factor = _schedule(schedule, warmup, steps)
    if accelerator:
        model.to(accelerator.device)
        optimiser = accelerator.prepare(optimiser)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fitted, first, best_weights = Fitted(0, 0.0, math.nan), 0, None
    state = checkpoint.load() if checkpoint else None
    if state:
        first, fitted, best_weights = _restore(state, model, optimiser)
        for entry in fitted.logged:  # so that curves are whole after a resume
            if log and rank == 0:
                log(entry["step"], steps, **{name: value for name, value in entry.items() if name != "step"})
    log_every = log_every or max(1, steps // 100)
    model.train()
    began = time.perf_counter()

    def off_the_clock() -> None:
        nonlocal began
        fitted.seconds += time.perf_counter() - began

    for step in range(first, steps):
        scale = factor(step)
        for group, rate in zip(optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * scale
        batch = batches(step)
        share = 1.0
        if ranks > 1:
            batch, share = _share(batch, rank, ranks)
        if accelerator:
            with accelerator.autocast():
                value = loss(model, _to(batch, accelerator.device))
            accelerator.backward(value * share if ranks > 1 else value)
            if ranks > 1:
                _average_gradients(parameters, accelerator)
        else:
            value = loss(model, batch)
            value.backward()
        if clip:
            accelerator.clip_grad_norm_(parameters, clip) if accelerator else nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        last = step + 1 == steps
        look = last or (step + 1) % log_every == 0
        validating = validate is not None and (last or (validate_every and (step + 1) % validate_every == 0))
        # A clock differs between processes, and all must reach the reduction below together.
        saving = checkpoint is not None and (ranks == 1 or look) and checkpoint.due()
        if not (look or validating or saving):
            continue
        number = _mean_over_ranks(value.detach() * share, accelerator)
        fitted.loss, fitted.steps, fitted.diverged = number, step + 1, not math.isfinite(number)
        off_the_clock()
        metrics = {}
        if validating and validate is not None and not fitted.diverged:
            model.eval()
            with torch.no_grad():
                metrics = {name: float(metric) for name, metric in validate().items()}
            model.train()
            fitted.history.append({"step": step + 1, **metrics})
            if keep_best and _better(metrics[keep_best[0]], fitted.best, keep_best):
                fitted.best = {"step": step + 1, **metrics}
                best_weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        if log and rank == 0 and (look or metrics):
            entry = {"seconds": fitted.seconds, "loss": number, **metrics}
            fitted.logged.append({"step": step + 1, **entry})
            log(step + 1, steps, **entry)
        if fitted.diverged:
            break
        if checkpoint and saving and not last and rank == 0:
            checkpoint.save(step + 1, _state(model, optimiser, fitted, best_weights))
        began = time.perf_counter()
    if best_weights is not None and not fitted.diverged:
        model.load_state_dict(best_weights)
    return fitted


def _accelerator(mixed_precision: str | None) -> Any:
    """accelerate where there are several processes or mixed precision; else None, and nothing of it is imported."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 and mixed_precision in (None, "no"):
        return None
    from accelerate import Accelerator

    return Accelerator(mixed_precision=mixed_precision, cpu=not torch.cuda.is_available())


def _groups(model: nn.Module, weight_decay: float, no_decay: Any) -> Any:
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not weight_decay or no_decay is None:
        return [parameter for _, parameter in named]
    decayed = [parameter for name, parameter in named if not no_decay(name, parameter)]
    spared = [parameter for name, parameter in named if no_decay(name, parameter)]
    return [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]


def _make_optimizer(kind: Any, lr: float, weight_decay: float, momentum: float, betas: tuple[float, float]) -> Any:
    if callable(kind):
        return kind
    if kind == "sgd":
        return lambda groups: torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay)
    classes = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if kind not in classes:
        raise ValueError(f"optimizer {kind!r}: one of adam, adamw, sgd, or a function of the parameters")
    # The fused kernel updates all tensors in one call, which is most of a small network's step on a CPU.
    return lambda groups: classes[kind](groups, lr=lr, weight_decay=weight_decay, betas=betas, fused=True)


def _schedule(kind: str | Callable[[int], float], warmup: int, steps: int) -> Callable[[int], float]:
    shape: Callable[[int], float]
    if callable(kind):
        shape = kind
    elif kind == "constant":
        shape = lambda _: 1.0  # noqa: E731
    elif kind in ("cosine", "linear"):
        length = max(1, steps - warmup)

        def shape(step: int, /) -> float:
            done = min(1.0, max(0, step - warmup) / length)
            return 0.5 * (1 + math.cos(math.pi * done)) if kind == "cosine" else 1 - done
    else:
        raise ValueError(f"schedule {kind!r}: one of constant, cosine, linear, or a function of the step")
    return lambda step: shape(step) * (min(1.0, (step + 1) / warmup) if warmup else 1.0)


def _share(batch: Any, rank: int, ranks: int) -> tuple[Any, float]:
    """This process's rows of a global batch, and the weight that makes the average over processes that over rows."""
    size = len(batch[0]) if isinstance(batch, tuple | list) else len(batch)
    low, high = size * rank // ranks, size * (rank + 1) // ranks
    rows = slice(low, max(high, low + 1))  # a process without rows takes one of weight 0, as the mean of none is NaN
    part = type(batch)(tensor[rows] for tensor in batch) if isinstance(batch, tuple | list) else batch[rows]
    return part, (high - low) * ranks / size


@torch.no_grad()
def _average_gradients(parameters: list[nn.Parameter], accelerator: Any) -> None:
    """All gradients averaged over processes in one message.

    Not by wrapping the model: the loss may call any of the model's methods, which a wrapper would hide.
    """
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    flat = accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
    sizes = [p.numel() for p in parameters]
    for parameter, part in zip(parameters, flat.split(sizes), strict=True):
        parameter.grad = part.view_as(parameter).clone()


def _to(batch: Any, device: Any) -> Any:
    if isinstance(batch, tuple | list):
        return type(batch)(tensor.to(device) for tensor in batch)
    return batch.to(device)


def _mean_over_ranks(value: Tensor, accelerator: Any) -> float:
    return float(accelerator.reduce(value, "mean") if accelerator else value)


def _better(value: float, best: dict[str, float] | None, keep: tuple[str, str]) -> bool:
    if not math.isfinite(value):
        return False
    return best is None or (value < best[keep[0]] if keep[1] == "lower" else value > best[keep[0]])


def _state(model: nn.Module, optimiser: Any, fitted: Fitted, best_weights: Any) -> dict[str, Any]:
    return {
        "model": dict(model.state_dict()),
        "optimizer": optimiser.state_dict(),
        "random": torch.get_rng_state(),
        "fitted": vars(fitted),
        "best": best_weights,
    }


def _restore(state: dict[str, Any], model: nn.Module, optimiser: Any) -> tuple[int, Fitted, Any]:
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["random"])
    return state["step"], Fitted(**state["fitted"]), state["best"]
