"""Pictures that several recipes offer of a fitted model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

LARGEST = 40  # classes of a confusion table


def confusion_picture(truth: Tensor, guess: Tensor, classes: Sequence[Any]) -> dict[str, Any]:
    """How often rows of each class (downwards) were given each label (across), as shares of the class's rows.

    Args:
        truth, guess: (rows,) places among `classes`; of very many classes the first are shown.
    """
    count = min(len(classes), LARGEST)
    kept = (truth < count) & (guess < count) & (truth >= 0)
    pairs = truth[kept].long().cpu() * count + guess[kept].long().cpu()
    table = torch.bincount(pairs, minlength=count * count).reshape(count, count).double()
    shares = table / table.sum(1, keepdim=True)
    named = ", ".join(f"{index} {name}" for index, name in enumerate(classes[: min(count, 12)]))
    return {
        "title": "Confusion",
        "kind": "heatmap",
        "caption": f"Share of each class's rows by the label they were given. Classes: {named}"
        + (f", and {len(classes) - 12} more." if len(classes) > 12 else "."),
        "x_label": "given",
        "y_label": "true class",
        "values": [[round(v, 4) if v == v else None for v in row] for row in shares.tolist()],
    }
