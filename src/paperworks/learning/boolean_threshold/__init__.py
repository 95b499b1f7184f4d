"""Networks of Boolean threshold functions found by reflect-reflect-relax: arXiv 2602.17493."""

from .formats import Items, read_dat, read_net, read_wth, write_dat, write_net, write_wth
from .instances import (
    all_inputs,
    cellular_automaton,
    code_words,
    multiplier_table,
    random_logic_network,
    wiring_of,
)
from .logic import Gate, LogicCircuit, circuit_of
from .model import BooleanThresholdClassifier, BooleanThresholdNetwork, BoolearnTrainer, Solutions
from .projections import project_bilinear, project_boolean_threshold, rrr, weighted_concur
from .search import Attempt, Problem, State, find_networks
from .wiring import Block, Wiring

__all__ = [
    "Attempt",
    "Block",
    "BooleanThresholdClassifier",
    "BooleanThresholdNetwork",
    "BoolearnTrainer",
    "Gate",
    "Items",
    "LogicCircuit",
    "Problem",
    "Solutions",
    "State",
    "Wiring",
    "all_inputs",
    "cellular_automaton",
    "circuit_of",
    "code_words",
    "find_networks",
    "multiplier_table",
    "project_bilinear",
    "project_boolean_threshold",
    "random_logic_network",
    "read_dat",
    "read_net",
    "read_wth",
    "rrr",
    "weighted_concur",
    "wiring_of",
    "write_dat",
    "write_net",
    "write_wth",
]
