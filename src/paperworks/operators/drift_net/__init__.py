"""DRIFT-Net (arXiv 2509.24868): a U-shaped transformer whose attention is replaced by gated spectral mixing."""

from .losses import FrequencyWeightedLoss, GateDistillation, RelativeLpLoss, radial_spectrum
from .model import (
    DRIFTNet,
    drift_base,
    drift_small,
    drift_tiny,
    scot,
    scot_base,
    scot_small,
    scot_tiny,
)
from .norms import ConditionalLayerNorm
from .patches import PatchMerging, PatchUnmerging, fourier_resample
from .spectral_mixer import RadialBandGate, SpectralMixer2d
from .window_attention import WindowAttention

__all__ = [
    "ConditionalLayerNorm",
    "DRIFTNet",
    "FrequencyWeightedLoss",
    "GateDistillation",
    "PatchMerging",
    "PatchUnmerging",
    "RadialBandGate",
    "RelativeLpLoss",
    "SpectralMixer2d",
    "WindowAttention",
    "drift_base",
    "drift_small",
    "drift_tiny",
    "fourier_resample",
    "radial_spectrum",
    "scot",
    "scot_base",
    "scot_small",
    "scot_tiny",
]
