"""Multitasking Hebbian network (arXiv 2308.04106): several sparse patterns recalled at once."""

from .model import (
    MultitaskingHebbian,
    Recall,
    dataset_entropy,
    dilute_patterns,
    hierarchical_state,
    noisy_examples,
    overlaps,
    pattern_losses,
    ternarise,
)
from .theory import (
    examples_needed,
    hierarchical_overlaps,
    hierarchical_threshold,
    one_step_overlap,
    phase_diagram,
    solve_self_consistency,
)

__all__ = [
    "MultitaskingHebbian",
    "Recall",
    "dataset_entropy",
    "dilute_patterns",
    "examples_needed",
    "hierarchical_overlaps",
    "hierarchical_state",
    "hierarchical_threshold",
    "noisy_examples",
    "one_step_overlap",
    "overlaps",
    "pattern_losses",
    "phase_diagram",
    "solve_self_consistency",
    "ternarise",
]
