"""Modular addition (arXiv 2602.16849): the network, its Fourier decoding, the exact solution, the lottery."""

from .fourier import (
    FourierRows,
    dominant_frequency,
    flawed_indicator,
    fourier_basis,
    fourier_decode,
    fourier_encode,
    frequency_histogram,
    inverse_participation,
    largest_coefficient_frequency,
    phase_misalignment,
    phase_symmetry,
)
from .lottery import blow_up_time, lottery_rates, predict_winner
from .model import (
    ModularAdditionMLP,
    construct_exact_solution,
    modular_addition_23,
    modular_addition_31,
    modular_addition_97,
)
from .task import ModularTask, grokking_stages

__all__ = [
    "FourierRows",
    "ModularAdditionMLP",
    "ModularTask",
    "blow_up_time",
    "construct_exact_solution",
    "dominant_frequency",
    "flawed_indicator",
    "fourier_basis",
    "fourier_decode",
    "fourier_encode",
    "frequency_histogram",
    "grokking_stages",
    "inverse_participation",
    "largest_coefficient_frequency",
    "lottery_rates",
    "modular_addition_23",
    "modular_addition_31",
    "modular_addition_97",
    "phase_misalignment",
    "phase_symmetry",
    "predict_winner",
]
