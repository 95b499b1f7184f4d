"""Compare with the authors' program: `python benchmarks/parity/boolean_threshold.py --official PATH [--record]`.

PATH is a checkout of veitelser/boolearn; a C compiler is needed. Two comparisons:

- Trajectories. Their `train.c` is compiled with another `main`, which takes over a start and a metric drawn here and
  writes out the state after some iterations: copies, outputs, metric, shared weights and gap, in double precision.
- Statistics. Their unmodified program and our search, in the single precision it is used in, from many random starts of
  the same instance: shares solved (Fisher's exact test) and iterations, those given up counted as the most
  (Kolmogorov-Smirnov and Mann-Whitney tests). Their program takes its seed from the clock.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent))
from paperworks.learning.boolean_threshold import (
    Items,
    Problem,
    Wiring,
    code_words,
    find_networks,
    multiplier_table,
    write_dat,
    write_net,
)
from parity import arguments, finish

SIGMA, BETA, GAMMA, MOST, STOP = 3.0, 0.2, 1e-3, 10_000, 0.01
STARTS = 40
DRIVER = r"""
#define main authors_main
#include "train.c"
#undef main

/* net, data, items, sigma, beta, gamma, iterations, start, out: w x y g by item, then per iteration what follows it */
int main(int argc, char *argv[]) {
  int i, steps; double gw, gx, gy, gap; FILE *in, *out;
  netfile = argv[1]; datafile = argv[2]; items = atoi(argv[3]);
  sig = atof(argv[4]); beta = atof(argv[5]); gam = atof(argv[6]); steps = atoi(argv[7]);
  if (argc != 10 || !getnet()) return 1;
  allocvars();
  if (!getdata()) return 1;
  init();
  in = fopen(argv[8], "rb");
  for (i = 0; i < items; ++i) {
    if (fread(w[i], 8, edges, in) != edges || fread(x[i], 8, edges, in) != edges) return 2;
    if (fread(y[i], 8, nodes, in) != nodes || fread(gnode[i], 8, nodes, in) != nodes) return 2;
  }
  fclose(in);
  out = fopen(argv[9], "wb");
  while (steps--) { gap = RRR(&gw, &gx, &gy); fwrite(&gap, 8, 1, out); }
  fwrite(wB, 8, edges, out);
  for (i = 0; i < items; ++i) {
    fwrite(w[i], 8, edges, out); fwrite(x[i], 8, edges, out);
    fwrite(y[i], 8, nodes, out); fwrite(gnode[i], 8, nodes, out);
  }
  fclose(out);
  return 0;
}
"""


def compiled(official: Path, folder: Path) -> dict[str, Path]:
    """Their program as their makefile builds it, and the driver; both need common symbols since GCC 10."""
    source = next(path.parent for path in official.rglob("train.c"))
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise SystemExit("no C compiler: install gcc or clang")
    (folder / "driver.c").write_text(DRIVER)
    programs = {}
    for name, main in (("train", source / "train.c"), ("driver", folder / "driver.c")):
        programs[name] = folder / name
        command = [compiler, "-O3", "-fcommon", "-w", "-I", str(source), "-o", str(programs[name]), str(main)]
        subprocess.run([*command, str(source / "net.c"), "-lm"], check=True)
    return programs


def trajectory(programs: dict[str, Path], folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """The same start in both; largest difference of anything over the largest value of its kind."""
    wiring, items, steps = Wiring.layered(case["widths"]), case["items"], case["steps"]
    write_net(folder / "t.net", wiring)
    write_dat(folder / "t.dat", items)
    n_items, n_edges, nodes = len(items.outputs), len(wiring.edges), wiring.n_nodes
    first = 1 + wiring.n_inputs
    drawn = torch.Generator().manual_seed(case["seed"])
    w, x = 2 * torch.rand(2, n_items, n_edges, generator=drawn, dtype=torch.float64) - 1
    hidden = nodes - first - wiring.n_outputs
    free = 2 * torch.rand(n_items, hidden, generator=drawn, dtype=torch.float64) - 1
    g = torch.ones(n_items, nodes, dtype=torch.float64)
    if case["metric"]:
        g[:, first:] = 0.2 + 2 * torch.rand(n_items, nodes - first, generator=drawn, dtype=torch.float64)
    assert items.inputs is not None
    data = 2 * torch.as_tensor(items.inputs, dtype=torch.float64) - 1
    bits = np.eye(items.n_classes)[items.outputs] if items.n_classes else items.outputs
    labels = 2 * torch.as_tensor(np.asarray(bits), dtype=torch.float64) - 1
    y = torch.cat([-torch.ones(n_items, 1, dtype=torch.float64), data, free, labels], 1)
    torch.cat([w, x, y, g], 1).numpy().tofile(folder / "start.bin")
    numbers = [str(value) for value in (n_items, case["sigma"], BETA, case["gamma"], steps)]
    files = [str(folder / name) for name in ("t.net", "t.dat", "start.bin", "out.bin")]
    subprocess.run([str(programs["driver"]), *files[:2], *numbers, *files[2:]], check=True)
    raw = np.fromfile(folder / "out.bin")
    gaps, shared, rest = np.split(raw, [steps, steps + n_edges])
    theirs = np.split(rest.reshape(n_items, -1), [n_edges, 2 * n_edges, 2 * n_edges + nodes], axis=1)
    problem = Problem(wiring, data, labels, case["sigma"], dtype=torch.float64, newton_steps=12)
    state = problem.state(w.T[..., None], x.T[..., None], free.T[..., None], g.T[first:, :, None])
    own_gaps, weights = [], []
    for _ in range(steps):
        weights, gap, _ = problem.step(state, BETA, case["gamma"])
        own_gaps.append(float(gap))
    ours = [tensor[..., 0].T.numpy() for tensor in problem.copies(state)]
    theirs[3] = theirs[3][:, first:]
    pairs = [*zip(ours, theirs, strict=True), (problem.listed(weights)[:, 0].numpy(), shared), (own_gaps, gaps)]
    worst = max(float(np.abs(np.asarray(a) - b).max() / np.abs(b).max()) for a, b in pairs)
    result = {"name": f"{case['name']}, {steps} iterations", "max_relative_error": worst}
    if case.get("keep"):
        kept = {"widths": case["widths"], "sigma": case["sigma"], "beta": BETA, "gamma": case["gamma"]}
        kept |= {"x": data.tolist(), "y": labels.tolist(), "gaps": gaps.tolist(), "weights": shared.tolist()}
        kept["start"] = {"w": w.tolist(), "x": x.tolist(), "free": free.tolist()}
        Path(case["keep"]).write_text(json.dumps(kept) + "\n", encoding="utf-8")
    return result


def statistics(programs: dict[str, Path], folder: Path, name: str, widths: list[int], x: Any, y: Any) -> dict[str, Any]:
    """Many starts of both on one instance."""
    wiring = Wiring.layered(widths)
    write_net(folder / "s.net", wiring)
    write_dat(folder / "s.dat", Items(x.numpy(), y.numpy(), "boolean", 0))
    numbers = [str(value) for value in (len(x), SIGMA, BETA, GAMMA, 1, MOST, STOP, STARTS)]
    subprocess.run([str(programs["train"]), "s.net", "s.dat", *numbers, "s"], check=True, cwd=folder)
    lines = (folder / "s.run").read_text().splitlines()
    theirs = np.array([int(line.split()[1]) for line in lines[:STARTS]])
    problem = Problem(wiring, 2.0 * x - 1, 2.0 * y - 1, SIGMA)
    found = find_networks(
        problem, range(STARTS), beta=BETA, gamma=GAMMA, gap_stop=STOP, max_iterations=MOST, check_every=MOST
    )
    ours = np.array([attempt.iterations if attempt.solved else 0 for attempt in found])
    exact = all(attempt.accuracy == 1 for attempt in found if attempt.solved)
    censored = [np.where(counts > 0, counts, MOST + 1) for counts in (ours, theirs)]
    table = [[int((counts > 0).sum()), int((counts == 0).sum())] for counts in (ours, theirs)]
    tests: dict[str, Any] = {
        "fisher_p": stats.fisher_exact(table),
        "kolmogorov_smirnov_p": stats.ks_2samp(censored[0], censored[1], method="asymp"),
        "mann_whitney_p": stats.mannwhitneyu(censored[0], censored[1]),
    }
    result: dict[str, Any] = {
        "name": f"{name}, {STARTS} starts each, at most {MOST} iterations",
        "solved_ours": table[0][0] / STARTS,
        "solved_theirs": table[1][0] / STARTS,
        "every_solution_exact": exact,
        **{name: float(test[1]) for name, test in tests.items()},
    }
    for who, counts in (("ours", ours), ("theirs", theirs)):
        solved = counts[counts > 0]
        result[f"iterations_{who}"] = float(solved.mean()) if len(solved) else None
        result[f"median_{who}"] = float(np.median(solved)) if len(solved) else None
    return result


def main() -> None:
    """Run all cases and print, or record, the result."""
    options = arguments(__doc__)
    drawn = torch.Generator().manual_seed(0)
    x, y = multiplier_table(2)
    bits = torch.randint(0, 2, (9, 7), generator=drawn).numpy()
    outs = torch.randint(0, 2, (9, 3), generator=drawn).numpy()
    analog = torch.rand(9, 4, generator=drawn, dtype=torch.float64).mul(1000).round().div(1000).numpy()
    classes = torch.randint(0, 3, (9,), generator=drawn).numpy()
    kept = Path(__file__).parents[2] / "tests" / "learning" / "boolean_threshold_trajectory.json"
    multiplier = Items(x.numpy(), y.numpy(), "boolean", 0)
    base = dict(sigma=SIGMA, gamma=GAMMA, metric=True, seed=1)
    cases = [
        dict(base, name="2x2 multiplier", widths=[4, 4, 4, 4], items=multiplier, steps=1),
        dict(base, name="2x2 multiplier", widths=[4, 4, 4, 4], items=multiplier, steps=50),
        dict(base, name="2x2 multiplier", widths=[4, 4, 4, 4], items=multiplier, steps=200),
        dict(base, name="7-9-5-3 of random bits, sigma 5", widths=[7, 9, 5, 3], items=Items(bits, outs, "boolean", 0),
             sigma=5.0, steps=100),
        dict(base, name="4-6-3, inputs in [0, 1], classes, gamma 0.1", widths=[4, 6, 3],
             items=Items(analog, classes, "analog", 3), gamma=0.1, steps=100),
        dict(base, name="3-2-2", widths=[3, 2, 2], items=Items(bits[:5, :3], outs[:5, :2], "boolean", 0), steps=25,
             gamma=0.05, metric=False, keep=kept if options.record else None),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        programs = compiled(options.official, folder)
        results = []
        for case in cases:
            results.append(trajectory(programs, folder, case))
            print(results[-1], flush=True)
        words = code_words(8, torch.Generator().manual_seed(0))
        for name, widths, table in (
            ("2x2 multiplier", [4, 4, 4, 4], (x, y)),
            ("8-3-8-8 autoencoder, random words", [8, 3, 8, 8], (words, words)),
        ):
            results.append(statistics(programs, folder, name, widths, *table))
            print(results[-1], flush=True)
    finish(options, slug="boolean_threshold", official="veitelser/boolearn", cases=results)


if __name__ == "__main__":
    main()
