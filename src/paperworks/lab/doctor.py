"""What works on this machine, and what to install for the rest."""

import importlib.util
import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

EXTRAS = {"ray": ("cluster", "--on ray"), "deepxde": ("bench", "benchmarks"), "timm": ("bench", "benchmarks")}
DATA = ("mnist", "cifar10", "ett", "pde", "text")


def examine() -> list[dict[str, Any]]:
    """One finding a line: name, whether it works, what was found, and what to do where it does not."""
    import torch

    findings = [_finding("torch", True, f"{version('torch')}, {os.cpu_count()} cores")]
    gpu = torch.cuda.is_available()
    found = torch.cuda.get_device_name(0) if gpu else "no GPU; everything runs on the CPU"
    findings.append(_finding("device", True, found))
    for package, (extra, purpose) in EXTRAS.items():
        there = importlib.util.find_spec(package) is not None
        what = version(package) if there else "not installed"
        findings.append(
            _finding(package, there, f"{what} (for {purpose})", None if there else f"pip install 'paperworks[{extra}]'")
        )
    root = os.environ.get("PAPERWORKS_DATA")
    if root is None:
        findings.append(_finding("data", True, "PAPERWORKS_DATA is not set; studies use their embedded data"))
    elif not Path(root).is_dir():
        findings.append(_finding("data", False, f"PAPERWORKS_DATA={root} is no folder", "set it to a folder"))
    else:
        there = [name for name in DATA if (Path(root) / name).exists()]
        findings.append(_finding("data", True, f"{root}: {', '.join(there) or 'no known data set'}"))
    free = shutil.disk_usage(Path.cwd()).free
    findings.append(
        _finding("disk", free > 1e9, f"{free / 1e9:.1f} GB free here", None if free > 1e9 else "make room for results")
    )
    return findings


def _finding(name: str, ok: bool, found: str, do: str | None = None) -> dict[str, Any]:
    return {"name": name, "ok": ok, "found": found, "do": do}
