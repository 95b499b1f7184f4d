"""Networks of Boolean threshold functions found by reflect-reflect-relax: arXiv 2602.17493."""

from typing import TYPE_CHECKING

from paperworks.lazy import lazy_exports

if TYPE_CHECKING:
    from .formats import Items as Items
    from .formats import read_dat as read_dat
    from .formats import read_net as read_net
    from .formats import read_wth as read_wth
    from .formats import write_dat as write_dat
    from .formats import write_net as write_net
    from .formats import write_wth as write_wth
    from .instances import all_inputs as all_inputs
    from .instances import cellular_automaton as cellular_automaton
    from .instances import code_words as code_words
    from .instances import multiplier_table as multiplier_table
    from .instances import random_logic_network as random_logic_network
    from .instances import wiring_of as wiring_of
    from .logic import Gate as Gate
    from .logic import LogicCircuit as LogicCircuit
    from .logic import circuit_of as circuit_of
    from .model import BooleanThresholdClassifier as BooleanThresholdClassifier
    from .model import BooleanThresholdNetwork as BooleanThresholdNetwork
    from .model import BoolearnTrainer as BoolearnTrainer
    from .model import Solutions as Solutions
    from .projections import project_bilinear as project_bilinear
    from .projections import project_boolean_threshold as project_boolean_threshold
    from .projections import rrr as rrr
    from .projections import weighted_concur as weighted_concur
    from .search import Attempt as Attempt
    from .search import Problem as Problem
    from .search import State as State
    from .search import find_networks as find_networks
    from .wiring import Block as Block
    from .wiring import Wiring as Wiring

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Attempt": ".search",
        "Block": ".wiring",
        "BooleanThresholdClassifier": ".model",
        "BooleanThresholdNetwork": ".model",
        "BoolearnTrainer": ".model",
        "Gate": ".logic",
        "Items": ".formats",
        "LogicCircuit": ".logic",
        "Problem": ".search",
        "Solutions": ".model",
        "State": ".search",
        "Wiring": ".wiring",
        "all_inputs": ".instances",
        "cellular_automaton": ".instances",
        "circuit_of": ".logic",
        "code_words": ".instances",
        "find_networks": ".search",
        "multiplier_table": ".instances",
        "project_bilinear": ".projections",
        "project_boolean_threshold": ".projections",
        "random_logic_network": ".instances",
        "read_dat": ".formats",
        "read_net": ".formats",
        "read_wth": ".formats",
        "rrr": ".projections",
        "weighted_concur": ".projections",
        "wiring_of": ".instances",
        "write_dat": ".formats",
        "write_net": ".formats",
        "write_wth": ".formats",
    },
)
