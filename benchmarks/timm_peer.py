"""Importing timm beside a CPU build of torch: torchvision's wheel is built for CUDA and misses its operators there."""

from typing import Any

_LIBRARY: list[Any] = []  # kept alive: the definitions go with the object
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_timm() -> Any:
    """timm, with the operators that torchvision describes but cannot load declared first.

    Raises:
        ImportError: timm or torchvision is not installed.
    """
    import torch

    if not _LIBRARY:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            name = schema.partition("(")[0]
            if not hasattr(torch.ops.torchvision, name):
                library.define(schema)
        _LIBRARY.append(library)
    import timm  # type: ignore[import-not-found]

    return timm
