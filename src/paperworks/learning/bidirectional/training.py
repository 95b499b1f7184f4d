"""Bidirectional propagation of errors and hybrid adversarial networks (arXiv 1805.08006), step by step.

An iteration steps the classifier, then (hybrid networks only) the discriminator, then the generator. Each has an Adam
of its own, so the shared weights W are stepped twice, with two sets of moments, and each step sees the one before.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.training import Fitted, fit

from .model import BidirectionalNet

MODES = ("bp", "bl", "bl_then_bp")


def generator_loss(model: BidirectionalNet, v: Tensor, x: Tensor) -> Tensor:
    """Binary cross-entropy of generated pixels against x in [0, 1], the mean over pixels and rows."""
    return F.binary_cross_entropy_with_logits(model.generate(v), x)


def real_or_not(discriminator: nn.Module, x: Tensor, real: float) -> Tensor:
    """Binary cross-entropy of the discriminator's logits on x against `real`, 1 or 0."""
    logits = discriminator(x)
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, real))


class Iteration:
    """The steps of one iteration, in the form of a loss and an optimiser that `paperworks.training.fit` can drive.

    Args:
        model: the network whose weights both directions share.
        steps: iterations in all; `bl_then_bp` steps the classifier alone from the middle on.
        mode: `bp` (classifier only: plain back-propagation), `bl`, or `bl_then_bp`.
        discriminator: given one, the generator is trained against it from noise in (-1, 1): a hybrid adversarial
            network. Else from one-hot labels towards the images.
        lr, generator_lr, discriminator_lr: of the three Adams; by default all `lr`, the discriminator's a fifth of it.
        betas: by default Adam's own, and (0.5, 0.999) with a discriminator.
        joint: one Adam on the sum of both losses instead: another algorithm, for comparison.
        condition: labels (rows,) -> the generator's input (rows, classes); default: one-hot.
    """

    def __init__(
        self,
        model: BidirectionalNet,
        *,
        steps: int,
        mode: str = "bl",
        discriminator: nn.Module | None = None,
        lr: float = 1e-3,
        generator_lr: float | None = None,
        discriminator_lr: float | None = None,
        betas: tuple[float, float] | None = None,
        weight_decay: float = 0.0,
        joint: bool = False,
        condition: Callable[[Tensor], Tensor] | None = None,
    ):
        if mode not in MODES:
            raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
        if joint and (discriminator is not None or mode != "bl"):
            raise ValueError("joint: for mode bl without a discriminator")
        self.model, self.discriminator, self.joint, self.condition = model, discriminator, joint, condition
        self.until = {"bp": 0, "bl": steps, "bl_then_bp": steps // 2}[mode]
        self.done = 0
        self.batch: tuple[Tensor, Tensor] | None = None
        betas = betas or ((0.9, 0.999) if discriminator is None else (0.5, 0.999))

        def adam(parameters: Any, rate: float) -> torch.optim.Optimizer:
            return torch.optim.Adam(parameters, lr=rate, betas=betas, weight_decay=weight_decay, fused=True)

        self.generator_own = model.generator_parameters()
        own = list(model.parameters()) if joint else model.classifier_parameters()
        self.optimizers = {"classifier": adam(own, lr)}
        if self.until and not joint:
            self.optimizers["generator"] = adam(self.generator_own, generator_lr or lr)
        if self.until and discriminator is not None:
            self.optimizers["discriminator"] = adam(discriminator.parameters(), discriminator_lr or lr / 5)
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def _labels(self, y: Tensor) -> Tensor:
        if self.condition is not None:
            return self.condition(y)
        return F.one_hot(y, self.model.num_classes).to(self.model.weights()[0].dtype)

    def noise(self, rows: int) -> Tensor:
        """The hybrid generator's input: uniform in (-1, 1), as wide as there are classes."""
        return 2 * torch.rand(rows, self.model.num_classes, device=self.model.weights()[0].device) - 1

    def loss(self, model: Any, batch: tuple[Tensor, ...]) -> Tensor:
        """The classifier's cross-entropy, whose gradient `step` expects to find."""
        x, y = batch
        self.batch = (x, y)
        value = F.cross_entropy(model.classify(x), y)
        return value + generator_loss(model, self._labels(y), x) if self.joint else value

    def all_losses(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The sum of everything that a full iteration differentiates, to count what it costs."""
        x, y = batch
        value = self.loss(self.model, batch)
        if self.until == 0 or self.joint:
            return value
        if self.discriminator is None:
            return value + generator_loss(self.model, self._labels(y), x)
        judge = self.discriminator
        with torch.no_grad():
            fake = self.model.generate(self.noise(len(x))).sigmoid()
        value = value + real_or_not(judge, x, 1.0) + real_or_not(judge, fake, 0.0)
        return value + real_or_not(judge, self.model.generate(self.noise(len(x))).sigmoid(), 1.0)

    def step(self) -> None:
        """Step the classifier with the gradient that is there, then the others with their own."""
        self.optimizers["classifier"].step()
        self.done += 1
        if self.done > self.until or self.joint:
            return
        assert self.batch is not None
        x, y = self.batch
        if self.discriminator is None:
            value = generator_loss(self.model, self._labels(y), x)
        else:
            judge, optimizer = self.discriminator, self.optimizers["discriminator"]
            with torch.no_grad():
                fake = self.model.generate(self.noise(len(x))).sigmoid()
            (real_or_not(judge, x, 1.0) + real_or_not(judge, fake, 0.0)).backward()
            optimizer.step()
            optimizer.zero_grad()
            value = real_or_not(judge, self.model.generate(self.noise(len(x))).sigmoid(), 1.0)
        self.optimizers["generator"].zero_grad()
        torch.autograd.backward(value, inputs=self.generator_own)
        self.optimizers["generator"].step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """As of an optimiser."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """Moments of every Adam, the discriminator's weights, and how many iterations were done."""
        state: dict[str, Any] = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        if self.discriminator is not None:
            state["judge"] = dict(self.discriminator.state_dict())
        return state | {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])
        if self.discriminator is not None:
            self.discriminator.load_state_dict(state["judge"])
        self.done = state["done"]
        self.param_groups = [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]


def fit_bidirectional(
    model: BidirectionalNet,
    batches: Callable[[int], Any],
    *,
    steps: int,
    mode: str = "bl",
    discriminator: nn.Module | None = None,
    lr: float = 1e-3,
    generator_lr: float | None = None,
    discriminator_lr: float | None = None,
    betas: tuple[float, float] | None = None,
    joint: bool = False,
    condition: Callable[[Tensor], Tensor] | None = None,
    **options: Any,
) -> Fitted:
    """Train a network in both directions.

    Args:
        batches: `step -> (x in [0, 1], y)`.
        steps, mode, discriminator, lr, generator_lr, discriminator_lr, betas, joint, condition: see `Iteration`.
        options: of `paperworks.training.fit` (log, checkpoint, validate, schedule, ...).
    """
    iteration = Iteration(
        model, steps=steps, mode=mode, discriminator=discriminator, lr=lr, generator_lr=generator_lr,
        discriminator_lr=discriminator_lr, betas=betas, joint=joint, condition=condition,
    )  # fmt: skip
    if discriminator is not None:
        discriminator.train()
    return fit(model, iteration.loss, batches, steps=steps, optimizer=lambda _: iteration, **options)  # type: ignore[arg-type, return-value]
