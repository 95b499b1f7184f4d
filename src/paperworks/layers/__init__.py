"""Layers: blocks and parametrisations that go into a network of your own."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .af_kan import AFKAN as AFKAN
    from .af_kan import AFKANLayer as AFKANLayer
    from .kan import KAN as KAN
    from .kan import BSplineActivation as BSplineActivation
    from .kan import BSplineKANLayer as BSplineKANLayer
    from .kan import ChebyKANLayer as ChebyKANLayer
    from .kan import RBFKANLayer as RBFKANLayer
    from .kan import ReLUKANLayer as ReLUKANLayer
    from .kan_assessment import BSplineMLP as BSplineMLP
    from .mip import HyperModel as HyperModel
    from .mip import HyperNetwork as HyperNetwork
    from .mip import QuantileNetwork as QuantileNetwork
    from .mip import hypernetize as hypernetize

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BSplineMLP": ".kan_assessment",
        "AFKAN": ".af_kan",
        "AFKANLayer": ".af_kan",
        "KAN": ".kan",
        "BSplineActivation": ".kan",
        "BSplineKANLayer": ".kan",
        "ChebyKANLayer": ".kan",
        "RBFKANLayer": ".kan",
        "ReLUKANLayer": ".kan",
        "HyperModel": ".mip",
        "HyperNetwork": ".mip",
        "QuantileNetwork": ".mip",
        "hypernetize": ".mip",
    },
)
