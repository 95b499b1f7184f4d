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
    from .mgno import MgConv as MgConv
    from .mgno import MgNO as MgNO
    from .pde_data import Fields as Fields
    from .pde_data import simulate as simulate
    from .sinenet import SineNet as SineNet
    from .unet import UNet as UNet
    from .unet_mod import UNetMod as UNetMod
    from .pde_data import Fields as Fields
    from .pde_data import simulate as simulate
    from .unet import UNet as UNet

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Chebyshev": ".function_spaces",
        "ContinuumAttention": ".continuum_attention",
        "FourierAttentionNeuralOperator": ".continuum_attention",
        "TransformerNeuralOperator": ".continuum_attention",
        "ViTNeuralOperator": ".continuum_attention",
        "DRIFTNet": ".drift_net",
        "DeepONet": ".deeponet",
        "FNN": ".deeponet",
        "FNO": ".fno",
        "Fields": ".pde_data",
        "GRF": ".function_spaces",
        "MIONet": ".deeponet",
        "MgConv": ".mgno",
        "MgNO": ".mgno",
        "PODDeepONet": ".deeponet",
        "PowerSeries": ".function_spaces",
        "SineNet": ".sinenet",
        "SpectralConv": ".fno",
        "SpectralMixer2d": ".drift_net",
        "UNet": ".unet",
        "WindowAttention": ".drift_net",
        "open_fields": ".field_files",
        "save_fields": ".field_writing",
        "UNetMod": ".unet_mod",
        "scot": ".drift_net",
        "simulate": ".pde_data",
    },
)
