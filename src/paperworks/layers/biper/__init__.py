"""BiPer (arXiv 2404.01278): binary networks whose weights are signs of a sine, and how they are trained and packed."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .layers import BiPerConv2d as BiPerConv2d
    from .layers import BiPerLinear as BiPerLinear
    from .layers import biper_regularizer as biper_regularizer
    from .layers import biper_weight as biper_weight
    from .layers import set_stage as set_stage
    from .model import NAMED_SIZES as NAMED_SIZES
    from .model import BiPerResNet as BiPerResNet
    from .model import BiPerVGG as BiPerVGG
    from .packed import export_binary as export_binary
    from .packed import load_binary as load_binary
    from .packed import pack as pack
    from .quantization import gaussian_error as gaussian_error
    from .quantization import laplace_error as laplace_error
    from .quantization import quantization_error as quantization_error
    from .quantization import sign_error as sign_error
    from .training import fit_two_stage as fit_two_stage
    from .wrap import binarize as binarize

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "NAMED_SIZES": ".model",
        "BiPerConv2d": ".layers",
        "BiPerLinear": ".layers",
        "BiPerResNet": ".model",
        "BiPerVGG": ".model",
        "binarize": ".wrap",
        "biper_regularizer": ".layers",
        "biper_weight": ".layers",
        "export_binary": ".packed",
        "fit_two_stage": ".training",
        "gaussian_error": ".quantization",
        "laplace_error": ".quantization",
        "load_binary": ".packed",
        "pack": ".packed",
        "quantization_error": ".quantization",
        "set_stage": ".layers",
        "sign_error": ".quantization",
    },
)
