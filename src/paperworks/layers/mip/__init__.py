"""Magnitude-invariant parametrisations (arXiv 2304.07645): hypernetworks whose weights keep their size."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .model import HyperModel as HyperModel
    from .model import HyperNetwork as HyperNetwork
    from .model import encode as encode
    from .model import hypernetize as hypernetize
    from .model import initial_weights as initial_weights
    from .model import proportionality as proportionality
    from .quantiles import QuantileNetwork as QuantileNetwork

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "HyperModel": ".model",
        "HyperNetwork": ".model",
        "QuantileNetwork": ".quantiles",
        "encode": ".model",
        "hypernetize": ".model",
        "initial_weights": ".model",
        "proportionality": ".model",
    },
)
