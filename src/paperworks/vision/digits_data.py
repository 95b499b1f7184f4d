"""Digits at many scales on a canvas: a task with two genuine scales, made from scikit-learn's bundled 8x8 digits."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Canvas:
    """Images (n, 1, side, side), labels (n,) and the size of each digit in pixels (n,)."""

    images: Tensor
    labels: Tensor
    sizes: Tensor


@lru_cache(maxsize=1)
def glyphs() -> tuple[Tensor, Tensor]:
    """All 1797 digits (n, 1, 8, 8) in [0, 1] and their labels."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.from_numpy((x / 16).astype(np.float32)).view(-1, 1, 8, 8), torch.from_numpy(y).long()


def split_glyphs(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of training, validation and test glyphs (50, 15 and 35 %), so that no test glyph is seen in training."""
    order = torch.randperm(len(glyphs()[0]), generator=torch.Generator().manual_seed(seed))
    first, second = int(0.5 * len(order)), int(0.65 * len(order))
    return order[:first], order[first:second], order[second:]


def place(images: Tensor, sizes: Tensor, corners: Tensor, side: int) -> Tensor:
    """Square images resized bilinearly to `sizes` (n,) pixels, their upper left corners at `corners` (n, 2) = (row,
    column), on canvases of `side` pixels: one sampling operation for all.
    """
    at = torch.arange(side) + 0.5
    scale = 2 / sizes[:, None]
    rows = (at - corners[:, :1]) * scale - 1
    columns = (at - corners[:, 1:]) * scale - 1
    grid = torch.stack([columns[:, None, :].expand(-1, side, -1), rows[:, :, None].expand(-1, -1, side)], dim=-1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def cluttered_digits(
    n: int,
    chosen: Tensor,
    generator: torch.Generator,
    *,
    side: int = 32,
    sizes: tuple[int, int] = (20, 32),
    clutter: int = 0,
    noise: float = 0.05,
) -> Canvas:
    """n canvases with one digit each, of a random size in `sizes` (inclusive) at a random place.

    Args:
        chosen: indices of the glyphs to draw from.
        clutter: 4x4 crops of other digits, resized to 5 to 9 pixels at 0.6 of their brightness.
        noise: standard deviation of the noise added.
    """
    all_images, all_labels = glyphs()

    def uniform(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=generator)

    def corners_for(size: Tensor) -> Tensor:
        room = (side - size + 1).clamp_min(1)[:, None]
        return (torch.rand(len(size), 2, generator=generator) * room).floor()

    pick = chosen[uniform(0, len(chosen) - 1, n)]
    size = uniform(*sizes, n).float()
    canvas = place(all_images[pick], size, corners_for(size), side)
    for _ in range(clutter):
        other = all_images[chosen[uniform(0, len(chosen) - 1, n)]]
        row, column = uniform(0, 4, 2, n)
        crop = other.unfold(2, 4, 1).unfold(3, 4, 1)[torch.arange(n), :, row, column]
        small = uniform(5, 9, n).float()
        canvas = torch.maximum(canvas, 0.6 * place(crop, small, corners_for(small), side))
    canvas = canvas + noise * torch.randn(canvas.shape, generator=generator)
    return Canvas(canvas, all_labels[pick], size)
