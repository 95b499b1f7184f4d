"""Batched reflect-reflect-relax against the authors' C program: iterations, and problems solved, a core-second.

Set PAPERWORKS_OFFICIAL to a folder that holds a checkout of veitelser/boolearn as `boolearn`; a C compiler is needed.
Their program is built as their makefile builds it (-O3) and run unmodified, one start after another, in double
precision; ours runs starts side by side in single precision. A call of either side makes as many iterations of as many
starts; theirs includes the start of a process, some milliseconds.
"""

import math
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paperworks.learning.boolean_threshold import (
    Items,
    Problem,
    Wiring,
    code_words,
    find_networks,
    multiplier_table,
    random_logic_network,
    write_dat,
    write_net,
)
from paperworks.learning.boolean_threshold.search import activations
from timing import interleaved

NAME = "authors' C program"
STARTS, MOST = 128, 10_000  # of the comparison by problems solved


def instances() -> dict[str, tuple[list[int], Tensor, Tensor, int, int]]:
    """Name -> widths, inputs, outputs (bits), starts and iterations of a call."""
    x, y = multiplier_table(2)
    drawn = torch.Generator().manual_seed(0)
    words, wide = code_words(8, drawn), [16, 16, 16, 16]
    bits = torch.randint(0, 2, (150, 16), generator=drawn)
    rule = random_logic_network(wide, drawn)
    labels = (activations(Wiring.layered(wide), rule[:, None], 2.0 * bits - 1)[..., 0].T > 0).long()
    return {
        "2x2 multiplier, 128 starts": ([4, 4, 4, 4], x, y, 128, 50),
        "2x2 multiplier, 16 starts": ([4, 4, 4, 4], x, y, 16, 200),
        "8-3-8-8 autoencoder, 128 starts": ([8, 3, 8, 8], words, words, 128, 50),
        "And/Or circuit 16-16-16-16, 150 items, 1 start": (wide, bits, labels, 1, 60),
    }


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """Iterations on four instances, and starts solved on one."""
    source = Path(os.environ.get("PAPERWORKS_OFFICIAL", "")) / "boolearn"
    compiler = shutil.which("cc") or shutil.which("gcc")
    found = sorted(source.rglob("train.c"))
    if not found or compiler is None:
        why = f"no {source}/.../train.c; set PAPERWORKS_OFFICIAL" if compiler else "no C compiler"
        return [{"name": "an iteration", "ratio": None, "why": why, "peer": NAME}]
    asked = ["git", "-C", str(source), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()[:10]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        program = folder / "train"
        files = [str(found[0]), str(found[0].with_name("net.c"))]
        # -fcommon: their header defines its globals, which compilers share between files only if told so since GCC 10
        command = [compiler, "-O3", "-fcommon", "-w", "-I", str(found[0].parent), "-o", str(program), *files, "-lm"]
        subprocess.run(command, check=True)
        cases = []
        for name, (widths, x, y, starts, steps) in instances().items():
            pair = (ours(widths, x, y, starts, steps), theirs(program, folder, widths, x, y, starts, steps))
            cases.append((f"{name}, {steps} iterations", *pair))
        rows = interleaved(cases, rounds, peer=NAME, peer_version=commit)
        return [*rows, solved(program, folder, commit)]


def ours(widths: list[int], x: Tensor, y: Tensor, starts: int, steps: int) -> Callable[[], Any]:
    """A search that does not end before its last iteration."""
    problem = Problem(Wiring.layered(widths), 2.0 * x - 1, 2.0 * y - 1)
    return lambda: find_networks(problem, range(starts), gap_stop=1e-9, max_iterations=steps, check_every=steps)


def theirs(
    program: Path, folder: Path, widths: list[int], x: Tensor, y: Tensor, starts: int, steps: int, stop: float = 1e-9
) -> Callable[[], Any]:
    """Their program on the same table, looking at its accuracy once."""
    name = f"i{len(list(folder.iterdir()))}"
    write_net(folder / f"{name}.net", Wiring.layered(widths))
    write_dat(folder / f"{name}.dat", Items(x.numpy(), y.numpy(), "boolean", 0))
    numbers = [str(value) for value in (len(x), 3.0, 0.2, 1e-3, 1, steps, stop, starts)]
    command = [str(program), f"{name}.net", f"{name}.dat", *numbers, name]
    return lambda: subprocess.run(command, cwd=folder, check=True)


def solved(program: Path, folder: Path, commit: str) -> dict[str, Any]:
    """Starts solved a second of processor time, of many starts once; the interval is that of the two counts."""
    x, y = multiplier_table(2)
    widths = [4, 4, 4, 4]
    torch.set_num_threads(1)
    began = resource.getrusage(resource.RUSAGE_SELF)
    found = find_networks(Problem(Wiring.layered(widths), 2.0 * x - 1, 2.0 * y - 1), range(STARTS), max_iterations=MOST)
    own_seconds = _spent(began, resource.getrusage(resource.RUSAGE_SELF))
    call = theirs(program, folder, widths, x, y, STARTS, MOST, 0.01)
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    call()
    peer_seconds = _spent(began, resource.getrusage(resource.RUSAGE_CHILDREN))
    lines = max(folder.glob("*.run"), key=lambda path: path.stat().st_mtime).read_text().splitlines()
    counts = [sum(a.solved for a in found), sum(int(line.split()[1]) > 0 for line in lines[:STARTS])]
    ratio = (counts[0] / own_seconds) / (counts[1] / peer_seconds)
    spread = math.sqrt(sum((1 - count / STARTS) / count for count in counts))
    return {
        "name": f"2x2 multiplier, a solved start ({counts[0]} and {counts[1]} of {STARTS}, processor time)",
        "ours_ms": 1e3 * own_seconds / counts[0],
        "peer_ms": 1e3 * peer_seconds / counts[1],
        "ratio": ratio,
        "ratio_low95": ratio * math.exp(-1.96 * spread),
        "ratio_high95": ratio * math.exp(1.96 * spread),
        "rounds": 1,
        "peer": NAME,
        "peer_version": commit,
    }


def _spent(before: Any, after: Any) -> float:
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
