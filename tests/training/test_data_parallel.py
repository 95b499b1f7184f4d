"""Several processes: the weights of one, for ragged batches, after a resume, and through the command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from paperworks.training.fit import _share

SCRIPT = """
import json, os, sys, torch
from torch import nn
from paperworks.training import Batches, Checkpoint, fit

def run(batch_size, checkpoint=None, break_at=None, **options):
    torch.manual_seed(0)
    x = torch.randn(10, 4)
    y = x @ torch.randn(4, 1)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    batches = Batches((x, y), batch_size, seed=1, drop_last=False)

    def breaking(step):
        if step == break_at:
            raise KeyboardInterrupt
        return batches(step)

    fitted = fit(net, lambda m, b: (m(b[0]) - b[1]).square().mean(), breaking, steps=9, lr=0.01,
                 checkpoint=checkpoint, **options)
    weights = torch.cat([p.detach().flatten() for p in net.parameters()]).tolist()
    return [weights, fitted.loss, [entry["loss"] for entry in fitted.logged]]

found = {
    "three and a last one": run(3),
    "fewer rows than processes": run(1),
    "clipped": run(4, optimizer="sgd", clip=0.1),
    "everything": run(10, weight_decay=0.1, optimizer="adamw"),
}
path = sys.argv[1] + "/c.safetensors"
try:
    run(3, Checkpoint(path, every_seconds=0.0), break_at=5)
except KeyboardInterrupt:
    found["resumed"] = run(3, Checkpoint(path))
if os.environ.get("RANK", "0") == "0":
    print("RESULT" + json.dumps(found))
"""


def launch(*words, processes=2):
    """The command of as many processes, with the words after `python`."""
    if processes == 1:
        return [sys.executable, *words]
    start = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes), "--cpu"]
    start += ["--num_machines", "1", "--mixed_precision", "no", "--main_process_port", "0"]
    return [*start, *(["-m", *words[1:]] if words[0] == "-m" else words)]


def call(command):
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 15])
def test_shares_cover_every_row_once_and_weigh_to_the_mean(size, ranks):
    """The average over processes of weight times mean of the share is the mean over all rows, of which none is NaN."""
    rows = torch.randn(size, dtype=torch.float64)
    shares = [_share((rows,), rank, ranks) for rank in range(ranks)]
    parts = [part.mean() * weight for (part,), weight in shares]
    assert float(sum(parts) / ranks) == pytest.approx(float(rows.mean()))
    assert torch.equal(torch.cat([part for (part,), weight in shares if weight]), rows)
    assert sum(weight for _, weight in shares) == pytest.approx(ranks)


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    found = []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        told = call(launch(str(tmp_path / "train.py"), str(folder), processes=processes))
        found.append(json.loads(told.split("RESULT")[1].splitlines()[0]))
    alone, together = found
    assert set(alone) == set(together) == {
        "three and a last one", "fewer rows than processes", "clipped", "everything", "resumed",
    }  # fmt: skip
    for case, (weights, loss, losses) in alone.items():
        assert together[case][0] == pytest.approx(weights, abs=1e-6), case
        assert together[case][1] == pytest.approx(loss, rel=1e-4), case
        assert together[case][2] == pytest.approx(losses, rel=1e-4), case
    for runs in found:
        assert runs["resumed"] == runs["three and a last one"]


@pytest.mark.slow
def test_the_command_fits_the_same_model_in_two_processes(tmp_path):
    """Rank 0 alone writes the folder, which is whole."""
    rng = np.random.default_rng(0)
    u, x = rng.normal(size=(20, 6)), np.linspace(0, 1, 5)[:, None]
    np.savez(tmp_path / "pairs.npz", u=u, x=x, s=np.cumsum(u, 1)[:, :5])
    weights = []
    for processes in (1, 2):
        out = tmp_path / f"model{processes}"
        words = ["-m", "paperworks", "fit", "deeponet", str(tmp_path / "pairs.npz"), "--out", str(out), "--json"]
        for setting in ("steps=30", "batch_size=15", "width=8", "depth=2"):
            words += ["--set", setting]
        call(launch(*words, processes=processes))
        assert sorted(path.name for path in out.iterdir()) == [
            "README.md", "config.json", "model.safetensors", "recipe.json",
            "report.html",
        ]  # fmt: skip
        weights.append(load_file(out / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=1e-6, rtol=0), name
