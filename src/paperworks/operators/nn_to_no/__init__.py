"""From networks to operators (arXiv 2506.10973): function-space layers, and the conversion of a user's own network."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .convert import to_operator as to_operator
    from .converted_layers import set_quadrature as set_quadrature
    from .differential_convs import DifferentialConv as DifferentialConv
    from .disc_convs import PolarIntegralConv2d as PolarIntegralConv2d
    from .function_layers import CoordinateEmbedding as CoordinateEmbedding
    from .function_layers import IntegralNorm as IntegralNorm
    from .function_layers import QuadratureAttention as QuadratureAttention
    from .function_layers import grid_coordinates as grid_coordinates
    from .function_layers import rotary as rotary
    from .local_convs import LocalIntegralConv as LocalIntegralConv
    from .local_convs import LocalIntegralConvTranspose as LocalIntegralConvTranspose
    from .model import LocalNO as LocalNO
    from .model import ResidualOperator as ResidualOperator
    from .model import nn_to_no_fno as nn_to_no_fno
    from .model import nn_to_no_fno_differential as nn_to_no_fno_differential
    from .model import nn_to_no_fno_local_integral as nn_to_no_fno_local_integral
    from .point_integrals import KernelIntegral as KernelIntegral
    from .point_integrals import ball_neighbours as ball_neighbours
    from .refinement import Refinement as Refinement
    from .refinement import discretization_report as discretization_report
    from .refinement import relative_l2 as relative_l2
    from .resized_convs import InterpolatedConv as InterpolatedConv
    from .spectral_convs import InterpolateInOut as InterpolateInOut
    from .spectral_convs import Resample as Resample
    from .spectral_convs import TransferConv as TransferConv
    from .spectral_convs import fourier_resample as fourier_resample
    from .transformer_models import FieldViT as FieldViT
    from .transformer_models import OFormer as OFormer
    from .transformer_models import nn_to_no_oformer as nn_to_no_oformer
    from .transformer_models import nn_to_no_vit as nn_to_no_vit
    from .unet_model import KernelUNet as KernelUNet
    from .unet_model import nn_to_no_unet as nn_to_no_unet
    from .unet_model import nn_to_no_unet_interpolated as nn_to_no_unet_interpolated

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "CoordinateEmbedding": ".function_layers",
        "DifferentialConv": ".differential_convs",
        "FieldViT": ".transformer_models",
        "IntegralNorm": ".function_layers",
        "InterpolateInOut": ".spectral_convs",
        "InterpolatedConv": ".resized_convs",
        "KernelIntegral": ".point_integrals",
        "KernelUNet": ".unet_model",
        "LocalIntegralConv": ".local_convs",
        "LocalIntegralConvTranspose": ".local_convs",
        "LocalNO": ".model",
        "OFormer": ".transformer_models",
        "PolarIntegralConv2d": ".disc_convs",
        "QuadratureAttention": ".function_layers",
        "Refinement": ".refinement",
        "Resample": ".spectral_convs",
        "ResidualOperator": ".model",
        "TransferConv": ".spectral_convs",
        "ball_neighbours": ".point_integrals",
        "discretization_report": ".refinement",
        "fourier_resample": ".spectral_convs",
        "grid_coordinates": ".function_layers",
        "nn_to_no_fno": ".model",
        "nn_to_no_fno_differential": ".model",
        "nn_to_no_fno_local_integral": ".model",
        "nn_to_no_oformer": ".transformer_models",
        "nn_to_no_unet": ".unet_model",
        "nn_to_no_unet_interpolated": ".unet_model",
        "nn_to_no_vit": ".transformer_models",
        "relative_l2": ".refinement",
        "rotary": ".function_layers",
        "set_quadrature": ".converted_layers",
        "to_operator": ".convert",
    },
)
