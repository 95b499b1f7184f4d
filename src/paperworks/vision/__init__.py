"""Vision: images to labels and features."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .crossvit import CrossViT as CrossViT
    from .vit import VisionTransformer as VisionTransformer

__getattr__, __dir__, __all__ = lazy_exports(__name__, {"CrossViT": ".crossvit", "VisionTransformer": ".vit"})
