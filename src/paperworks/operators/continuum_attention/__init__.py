"""Continuum attention (arXiv 2406.06486): transformer operators whose attention is an integral over the domain."""

from .encoder import ContinuumAttention, scattered_weights
from .patch_operators import FourierAttentionNeuralOperator, ViTNeuralOperator
from .transformer_operator import TransformerNeuralOperator

__all__ = [
    "ContinuumAttention",
    "FourierAttentionNeuralOperator",
    "TransformerNeuralOperator",
    "ViTNeuralOperator",
    "scattered_weights",
]
