"""KAN or perceptron (arXiv 2407.11075): the same budget for both, and an answer with intervals."""

from .model import BSplineMLP, build, kanbefair_count, match_budget
from .tasks import Task, class_incremental, formula_task, table_task

__all__ = [
    "BSplineMLP",
    "Task",
    "build",
    "class_incremental",
    "formula_task",
    "kanbefair_count",
    "match_budget",
    "table_task",
]
