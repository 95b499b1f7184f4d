"""Operator learning: maps from functions to functions."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .continuum_attention import ContinuumAttention as ContinuumAttention
    from .continuum_attention import FourierAttentionNeuralOperator as FourierAttentionNeuralOperator
    from .continuum_attention import TransformerNeuralOperator as TransformerNeuralOperator
    from .continuum_attention import ViTNeuralOperator as ViTNeuralOperator
    from .deeponet import FNN as FNN
    from .deeponet import DeepONet as DeepONet
    from .deeponet import MIONet as MIONet
    from .deeponet import PODDeepONet as PODDeepONet
    from .drift_net import DRIFTNet as DRIFTNet
    from .drift_net import SpectralMixer2d as SpectralMixer2d
    from .drift_net import WindowAttention as WindowAttention
    from .drift_net import scot as scot
    from .field_files import open_fields as open_fields
    from .field_writing import save_fields as save_fields
    from .fno import FNO as FNO
    from .fno import SpectralConv as SpectralConv
    from .function_spaces import GRF as GRF
    from .function_spaces import Chebyshev as Chebyshev
    from .function_spaces import PowerSeries as PowerSeries
    from .lpinn import LagrangianPINN as LagrangianPINN
    from .lpinn import fit_pinn as fit_pinn
    from .mgno import MgConv as MgConv
    from .mgno import MgNO as MgNO
    from .nn_to_no import CoordinateEmbedding as CoordinateEmbedding
    from .nn_to_no import DifferentialConv as DifferentialConv
    from .nn_to_no import FieldViT as FieldViT
    from .nn_to_no import IntegralNorm as IntegralNorm
    from .nn_to_no import InterpolateInOut as InterpolateInOut
    from .nn_to_no import KernelIntegral as KernelIntegral
    from .nn_to_no import KernelUNet as KernelUNet
    from .nn_to_no import LocalIntegralConv as LocalIntegralConv
    from .nn_to_no import LocalNO as LocalNO
    from .nn_to_no import OFormer as OFormer
    from .nn_to_no import PolarIntegralConv2d as PolarIntegralConv2d
    from .nn_to_no import QuadratureAttention as QuadratureAttention
    from .nn_to_no import ResidualOperator as ResidualOperator
    from .nn_to_no import discretization_report as discretization_report
    from .nn_to_no import set_quadrature as set_quadrature
    from .nn_to_no import to_operator as to_operator
    from .on_grid import DeepONetOnGrid as DeepONetOnGrid
    from .pde_data import Fields as Fields
    from .pde_data import simulate as simulate
    from .pinn import EulerianPINN as EulerianPINN
    from .pinn import TransportEquation as TransportEquation
    from .sinenet import SineNet as SineNet
    from .unet import UNet as UNet
    from .unet_mod import UNetMod as UNetMod

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Chebyshev": ".function_spaces",
        "ContinuumAttention": ".continuum_attention",
        "CoordinateEmbedding": ".nn_to_no",
        "DRIFTNet": ".drift_net",
        "DeepONet": ".deeponet",
        "DeepONetOnGrid": ".on_grid",
        "DifferentialConv": ".nn_to_no",
        "EulerianPINN": ".pinn",
        "FNN": ".deeponet",
        "FNO": ".fno",
        "FieldViT": ".nn_to_no",
        "Fields": ".pde_data",
        "FourierAttentionNeuralOperator": ".continuum_attention",
        "GRF": ".function_spaces",
        "IntegralNorm": ".nn_to_no",
        "InterpolateInOut": ".nn_to_no",
        "KernelIntegral": ".nn_to_no",
        "KernelUNet": ".nn_to_no",
        "LocalIntegralConv": ".nn_to_no",
        "LocalNO": ".nn_to_no",
        "LagrangianPINN": ".lpinn",
        "MIONet": ".deeponet",
        "MgConv": ".mgno",
        "MgNO": ".mgno",
        "OFormer": ".nn_to_no",
        "PODDeepONet": ".deeponet",
        "PolarIntegralConv2d": ".nn_to_no",
        "PowerSeries": ".function_spaces",
        "QuadratureAttention": ".nn_to_no",
        "ResidualOperator": ".nn_to_no",
        "SineNet": ".sinenet",
        "SpectralConv": ".fno",
        "SpectralMixer2d": ".drift_net",
        "TransformerNeuralOperator": ".continuum_attention",
        "UNet": ".unet",
        "WindowAttention": ".drift_net",
        "TransportEquation": ".pinn",
        "fit_pinn": ".lpinn",
        "open_fields": ".field_files",
        "save_fields": ".field_writing",
        "UNetMod": ".unet_mod",
        "ViTNeuralOperator": ".continuum_attention",
        "discretization_report": ".nn_to_no",
        "scot": ".drift_net",
        "set_quadrature": ".nn_to_no",
        "simulate": ".pde_data",
        "to_operator": ".nn_to_no",
    },
)
