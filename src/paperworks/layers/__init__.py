"""Layers: blocks and parametrisations that go into a network of your own."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .mip import HyperModel as HyperModel
    from .mip import HyperNetwork as HyperNetwork
    from .mip import QuantileNetwork as QuantileNetwork
    from .mip import hypernetize as hypernetize

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "HyperModel": ".mip",
        "HyperNetwork": ".mip",
        "QuantileNetwork": ".mip",
        "hypernetize": ".mip",
    },
)
