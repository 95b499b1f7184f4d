"""NoProp (arXiv 2503.24322): blocks that learn to denoise the label, each by itself."""

from .blocks import DenoisingBlock, TimeConditionedBlock
from .model import BackpropChain, LabelEmbedding, NoPropCT, NoPropDT, NoPropFM
from .training import fit_blocks

__all__ = [
    "BackpropChain",
    "DenoisingBlock",
    "LabelEmbedding",
    "NoPropCT",
    "NoPropDT",
    "NoPropFM",
    "TimeConditionedBlock",
    "fit_blocks",
]
