"""What a model costs: parameters, operations, activation bytes; and widths that match two budgets. torch only."""

from .counting import add_operations, count_operations, count_parameters, match_width, saved_bytes

__all__ = ["add_operations", "count_operations", "count_parameters", "match_width", "saved_bytes"]
