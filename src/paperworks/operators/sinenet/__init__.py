"""SineNet (arXiv 2403.19507): U-Nets in sequence, each of which moves the state by a part of the time step."""

from .model import NAMED_SIZES, ConvBlock, SineNet, match_growth, sinenet_8, unet_mod_64
from .training import FieldNormalizer, rollout, scaled_l2, windows
from .upsampling import Upsample2d

__all__ = [
    "NAMED_SIZES",
    "ConvBlock",
    "FieldNormalizer",
    "SineNet",
    "Upsample2d",
    "match_growth",
    "rollout",
    "scaled_l2",
    "sinenet_8",
    "unet_mod_64",
    "windows",
]
