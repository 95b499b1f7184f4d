"""What a model costs and how it holds out: parameters, operations, energy, activation bytes; widths that match two
budgets; attacks and noise. torch only."""

from .counting import add_operations, count_operations, count_parameters, match_width, saved_bytes
from .energy import EnergyPerOperation, SynapticWork, count_synaptic_work
from .robustness import Robustness, add_noise, fgsm, margin_pgd, pgd, robustness_report, zero_gradient_rows

__all__ = [
    "EnergyPerOperation",
    "Robustness",
    "SynapticWork",
    "add_noise",
    "add_operations",
    "count_operations",
    "count_parameters",
    "count_synaptic_work",
    "fgsm",
    "margin_pgd",
    "match_width",
    "pgd",
    "robustness_report",
    "saved_bytes",
    "zero_gradient_rows",
]
