"""What all tests share: one thread, and no deadline for generated examples on a busy machine."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile("paperworks", deadline=None, derandomize=True)
hypothesis.settings.load_profile("paperworks")


@pytest.fixture(autouse=True)
def _seeded(monkeypatch):
    """Every test draws the same numbers, alone or in company, and sees no data folder but its own."""
    torch.manual_seed(0)
    monkeypatch.delenv("PAPERWORKS_DATA", raising=False)
