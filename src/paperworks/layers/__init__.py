"""Layers: blocks and parametrisations that go into a network of your own."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .af_kan import AFKAN as AFKAN
    from .af_kan import AFKANLayer as AFKANLayer
    from .biper import BiPerConv2d as BiPerConv2d
    from .biper import BiPerLinear as BiPerLinear
    from .biper import BiPerResNet as BiPerResNet
    from .biper import BiPerVGG as BiPerVGG
    from .biper import binarize as binarize
    from .biper import export_binary as export_binary
    from .biper import fit_two_stage as fit_two_stage
    from .biper import load_binary as load_binary
    from .biper import set_stage as set_stage
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
    from .noble import CosActivation as CosActivation
    from .noble import CosNet as CosNet
    from .noble import NobleGPT as NobleGPT
    from .noble import NobleLinear as NobleLinear
    from .noble import add_noble as add_noble
    from .noble import lr_multiplier_groups as lr_multiplier_groups
    from .noble import noble_overhead as noble_overhead

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BSplineMLP": ".kan_assessment",
        "AFKAN": ".af_kan",
        "AFKANLayer": ".af_kan",
        "BiPerConv2d": ".biper",
        "BiPerLinear": ".biper",
        "BiPerResNet": ".biper",
        "BiPerVGG": ".biper",
        "binarize": ".biper",
        "export_binary": ".biper",
        "fit_two_stage": ".biper",
        "load_binary": ".biper",
        "set_stage": ".biper",
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
        "CosActivation": ".noble",
        "CosNet": ".noble",
        "NobleGPT": ".noble",
        "NobleLinear": ".noble",
        "add_noble": ".noble",
        "lr_multiplier_groups": ".noble",
        "noble_overhead": ".noble",
    },
)
