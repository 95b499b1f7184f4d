"""Shape checks at a model's door, so that a wrong input is refused in words and not by a matrix product further in."""

from collections.abc import Sequence

import torch


def check_shape(name: str, tensor: torch.Tensor, expected: Sequence[int | str]) -> None:
    """Raise unless `tensor` has the `expected` shape.

    `expected` gives one entry an axis: an integer is required exactly, a string names an axis of any size
    (``("batch", 100)``). A leading ``"..."`` admits any number of leading axes.

    Raises:
        ValueError: names the argument, the expected and the given shape.
    """
    given = tuple(tensor.shape)
    wanted = tuple(expected)
    if wanted and wanted[0] == "...":
        tail = wanted[1:]
        fits = len(given) >= len(tail) and _matches(given[len(given) - len(tail) :], tail)
    else:
        fits = len(given) == len(wanted) and _matches(given, wanted)
    if not fits:
        shown = ", ".join(str(size) for size in wanted)
        raise ValueError(f"{name}: expected shape ({shown}), given {given}")


def _matches(given: Sequence[int], wanted: Sequence[int | str]) -> bool:
    return all(isinstance(want, str) or size == want for size, want in zip(given, wanted, strict=True))
