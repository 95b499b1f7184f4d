"""Operator learning: maps from functions to functions."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .deeponet import FNN as FNN
    from .deeponet import DeepONet as DeepONet
    from .deeponet import MIONet as MIONet
    from .deeponet import PODDeepONet as PODDeepONet
    from .function_spaces import GRF as GRF
    from .function_spaces import Chebyshev as Chebyshev
    from .function_spaces import PowerSeries as PowerSeries
    from .pde_data import Fields as Fields
    from .pde_data import simulate as simulate

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Chebyshev": ".function_spaces",
        "DeepONet": ".deeponet",
        "FNN": ".deeponet",
        "Fields": ".pde_data",
        "GRF": ".function_spaces",
        "MIONet": ".deeponet",
        "PODDeepONet": ".deeponet",
        "PowerSeries": ".function_spaces",
        "simulate": ".pde_data",
    },
)
