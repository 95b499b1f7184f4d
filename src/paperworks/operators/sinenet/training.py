"""Training on one step and rolling out many: windows of frames, the scaled loss, standardised fields."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def windows(
    fields: Float[Tensor, "n time channels height width"], history: int = 1, step: int = 1
) -> tuple[Tensor, Tensor]:
    """All training pairs of trajectories: `history` frames laid into the channels, and the frame `step` after them.

    Frames of an input are `step` apart as well.
    """
    n, time, channels, *space = fields.shape
    count = time - history * step
    if count < 1:
        raise ValueError(f"fields: expected more than {history * step} frames, given {tuple(fields.shape)}")
    inputs = torch.stack([fields[:, i * step : i * step + count] for i in range(history)], dim=2)
    return inputs.reshape(n * count, history * channels, *space), fields[:, history * step :].flatten(0, 1)


def scaled_l2(
    guess: Float[Tensor, "*batch channels height width"],
    truth: Float[Tensor, "*batch channels height width"],
    floor: float = 0.0,
) -> Float[Tensor, "*batch channels"]:
    """||guess - truth|| / ||truth|| of every sample and channel: the paper's loss before its mean is taken.

    Args:
        floor: least root mean square that a channel is divided by. The authors have none, so that a channel which is
            zero at the start (a fluid at rest) gives infinity.
    """
    error = torch.linalg.vector_norm(guess - truth, dim=(-2, -1))
    size = torch.linalg.vector_norm(truth, dim=(-2, -1))
    return error / size.clamp_min(floor * (truth.shape[-1] * truth.shape[-2]) ** 0.5)


def rollout(
    model: Callable[[Tensor], Tensor], frames: Float[Tensor, "batch history channels height width"], steps: int
) -> Float[Tensor, "batch steps channels height width"]:
    """Predict `steps` frames, each from the last `history` ones, its own predictions among them."""
    batch, history, _, height, width = frames.shape
    made = []
    for _ in range(steps):
        following = model(frames.reshape(batch, -1, height, width))
        made.append(following)
        frames = torch.cat([frames, following[:, None]], dim=1)[:, -history:]
    return torch.stack(made, dim=1)


class FieldNormalizer(nn.Module):
    """Standardises every channel of (..., channels, height, width) by the mean and deviation over training data."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    @classmethod
    def fit(cls, fields: Float[Tensor, "*batch channels height width"]) -> "FieldNormalizer":
        """Of these fields. A channel without variation is only centred."""
        made = cls(fields.shape[-3])
        channels = fields.movedim(-3, 0).flatten(1)
        made.mean.copy_(channels.mean(1)[:, None, None])
        deviation = channels.std(1)
        made.std.copy_(torch.where(deviation > 0, deviation, torch.ones_like(deviation))[:, None, None])
        return made

    def forward(self, fields: Tensor) -> Tensor:
        """Standardised."""
        return (fields - self.mean) / self.std

    def inverse(self, fields: Tensor) -> Tensor:
        """In the data's units again."""
        return fields * self.std + self.mean
