"""What a model costs: parameters, operations, activation bytes; and widths that match two budgets. torch only."""

from .counting import add_operations, count_operations, count_parameters, match_width, saved_bytes
from .energy import EnergyPerOperation, SynapticWork, count_synaptic_work

__all__ = [
    "EnergyPerOperation",
    "SynapticWork",
    "add_operations",
    "count_operations",
    "count_parameters",
    "count_synaptic_work",
    "match_width",
    "saved_bytes",
]
