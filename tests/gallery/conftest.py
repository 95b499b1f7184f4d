"""The generator of plausible results, as a fixture."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def plausible() -> ModuleType:
    """The module `plausible.py` beside this file."""
    spec = importlib.util.spec_from_file_location("plausible", Path(__file__).with_name("plausible.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
