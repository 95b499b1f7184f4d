"""Operator learning: maps from functions to functions."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .deeponet import FNN as FNN
    from .deeponet import DeepONet as DeepONet
    from .deeponet import MIONet as MIONet
    from .deeponet import PODDeepONet as PODDeepONet
    from .field_files import open_fields as open_fields
    from .field_writing import save_fields as save_fields
    from .function_spaces import GRF as GRF
    from .function_spaces import Chebyshev as Chebyshev
    from .function_spaces import PowerSeries as PowerSeries
    from .lpinn import LagrangianPINN as LagrangianPINN
    from .lpinn import fit_pinn as fit_pinn
    from .pde_data import Fields as Fields
    from .pde_data import simulate as simulate
    from .pinn import EulerianPINN as EulerianPINN
    from .pinn import TransportEquation as TransportEquation

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Chebyshev": ".function_spaces",
        "DeepONet": ".deeponet",
        "EulerianPINN": ".pinn",
        "FNN": ".deeponet",
        "Fields": ".pde_data",
        "GRF": ".function_spaces",
        "LagrangianPINN": ".lpinn",
        "MIONet": ".deeponet",
        "PODDeepONet": ".deeponet",
        "PowerSeries": ".function_spaces",
        "TransportEquation": ".pinn",
        "fit_pinn": ".lpinn",
        "open_fields": ".field_files",
        "save_fields": ".field_writing",
        "simulate": ".pde_data",
    },
)
