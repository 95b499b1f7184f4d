"""Studies made by a test, run as those of a paper outside the package."""

import pytest

from paperworks.lab import run, trials


@pytest.fixture
def run_study(tmp_path, monkeypatch):
    """Run one study at the laptop budget; calls of one test share a ledger."""
    (tmp_path / "study.py").write_text("")

    def run_it(study, **options):
        class Found:
            slug, folder, module, reference = "toy", tmp_path, None, "toy"
            studies = {study.name: study}  # noqa: RUF012

        monkeypatch.setattr(trials, "find_paper", lambda _: Found)
        return run(Found, runs=tmp_path / "runs", **options)  # type: ignore[arg-type]

    return run_it
