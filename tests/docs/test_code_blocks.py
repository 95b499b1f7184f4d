"""Every code block of the README and the docs runs, in page order, in one folder a page."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paperworks import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RUN = ("bash", "python")
SHOWN = ("text", "")  # output, or what needs hardware that is not here
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_known_kinds(page):
    assert {kind for kind, _ in blocks(page)} <= {*RUN, *SHOWN}


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if any(k in RUN for k, _ in blocks(p))], ids=lambda page: page.name)
def test_page_runs(page, tmp_path, monkeypatch, capsys):
    """Commands run in this process; `laptop` is run at `smoke`, which is the same code with smaller settings."""
    monkeypatch.chdir(tmp_path)
    own_files(tmp_path)
    names: dict = {}
    for kind, text in blocks(page):
        if kind == "python":
            exec(compile(text.replace('"laptop"', '"smoke"'), f"{page.name}", "exec"), names)
        elif kind == "bash":
            for line in text.strip().splitlines():
                command(line.split("  #")[0].strip(), monkeypatch)


def command(line: str, monkeypatch) -> None:
    words = shlex.split(line)
    if not words or line.startswith("#"):
        return
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, check=True, capture_output=True)
        return
    if words[0] in ("git", "cd"):
        return
    assert words[0] == "paperworks", f"{line!r} is neither paperworks nor make"
    if "--record" not in words:  # a smoke run is not recorded
        words = ["smoke" if word == "laptop" else word for word in words]
    if words[1] in ("run", "compare") and "--budget" not in words:
        words += ["--budget", "smoke"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (0, None), line


def own_files(folder: Path) -> None:
    """What the pages call `pairs.npz`, `photos` and `table.csv`."""
    rng = np.random.default_rng(0)
    u, x = rng.normal(size=(40, 12)), np.linspace(0, 1, 9)[:, None]
    np.savez(folder / "pairs.npz", u=u, x=x, s=np.cumsum(u, 1)[:, :9])
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(8):
            shade = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(shade).save(folder / "photos" / label / f"{index}.png")
    rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in rng.normal(size=(60, 2))]
    (folder / "table.csv").write_text("a,b,answer\n" + "\n".join(rows) + "\n")
    operations = [f"{a},{b},{(a + b) % 7}" for a in range(7) for b in range(7)]
    (folder / "operation.csv").write_text("a,b,c\n" + "\n".join(operations) + "\n")


def test_readme_table_is_that_of_the_recorded_results():
    script = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "readme.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert script.returncode == 0, script.stderr


def test_no_measured_number_is_typed_into_a_card():
    """A card may name a published number with its table; a decimal without a source nearby is a typed measurement."""
    for card in (ROOT / "src" / "paperworks").glob("*/*/card.md"):
        measured = card.read_text(encoding="utf-8").split("## What we measured")[-1].split("\n## ")[0]
        prose = re.sub(r"\{\{.*?\}\}|`[^`]*`", "", measured, flags=re.DOTALL)
        numbers = re.findall(r"\d+\.\d+", prose)
        sources = re.findall(r"[Tt]able|[Ff]igure|[Ss]ection|published|README|Theorem|paper", prose)
        assert not numbers or sources, f"{card}: {numbers}"


def test_results_are_json():
    for path in (ROOT / "src" / "paperworks").glob("*/*/results/*.json"):
        json.loads(path.read_text(encoding="utf-8"))
