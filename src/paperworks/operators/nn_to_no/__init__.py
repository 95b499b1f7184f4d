"""From networks to operators (arXiv 2506.10973): function-space layers, and the conversion of a user's own network."""

from .convert import Refinement, discretization_report, relative_l2, set_quadrature, to_operator
from .function_layers import CoordinateEmbedding, IntegralNorm, QuadratureAttention, grid_coordinates, rotary
from .local_convs import (
    DifferentialConv,
    InterpolatedConv,
    LocalIntegralConv,
    LocalIntegralConvTranspose,
    PolarIntegralConv2d,
)
from .model import (
    LocalNO,
    ResidualOperator,
    nn_to_no_fno,
    nn_to_no_fno_differential,
    nn_to_no_fno_local_integral,
)
from .point_integrals import KernelIntegral, ball_neighbours
from .spectral_convs import InterpolateInOut, Resample, TransferConv, fourier_resample
from .transformer_models import FieldViT, OFormer, nn_to_no_oformer, nn_to_no_vit
from .unet_model import KernelUNet, nn_to_no_unet, nn_to_no_unet_interpolated

__all__ = [
    "CoordinateEmbedding",
    "DifferentialConv",
    "FieldViT",
    "IntegralNorm",
    "InterpolateInOut",
    "InterpolatedConv",
    "KernelIntegral",
    "KernelUNet",
    "LocalIntegralConv",
    "LocalIntegralConvTranspose",
    "LocalNO",
    "OFormer",
    "PolarIntegralConv2d",
    "QuadratureAttention",
    "Refinement",
    "Resample",
    "ResidualOperator",
    "TransferConv",
    "ball_neighbours",
    "discretization_report",
    "fourier_resample",
    "grid_coordinates",
    "nn_to_no_fno",
    "nn_to_no_fno_differential",
    "nn_to_no_fno_local_integral",
    "nn_to_no_oformer",
    "nn_to_no_unet",
    "nn_to_no_unet_interpolated",
    "nn_to_no_vit",
    "relative_l2",
    "rotary",
    "set_quadrature",
    "to_operator",
]
