"""How any model is fitted: one plain `fit`, batches, checkpoints; and recipes for a user's own files."""

from .batches import Batches
from .checkpoint import Checkpoint
from .fit import Fitted, fit

__all__ = ["Batches", "Checkpoint", "Fitted", "fit"]
