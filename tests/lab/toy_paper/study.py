"""A paper to be killed: many short trials and a long one that keeps checkpoints. It notes what it does in a file."""

import os

import torch
from torch import nn

from paperworks.lab import Beats, Study, Trial
from paperworks.training import Batches, Checkpoint, fit


def note(text: str) -> None:
    if "TOY_NOTES" in os.environ:
        with open(os.environ["TOY_NOTES"], "a") as file:
            file.write(text + "\n")


study = Study(
    "lines",
    arms=("fast", "slow", "long"),
    settings=dict(steps=15, long_steps=400, lr=0.1),
    per_arm={"slow": dict(lr=0.001)},
    seeds=4,
    equal=("parameters",),
    claims=[Beats("test_mse", "fast", "slow", by=1)],
)


@study.trial
def trial(t: Trial) -> None:
    x = torch.randn(64, 3)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1 * torch.randn(64, 1)
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.1), nn.Linear(8, 1))  # dropout: the random state must come back
    batches = Batches((x, y), 16, t.seed)
    long = t.arm == "long"
    note(f"begin {t.arm} {t.seed}")

    def loss(model, batch):
        if long:
            note("step")
        return (model(batch[0]) - batch[1]).square().mean()

    t.count(net)
    checkpoint = Checkpoint(t.checkpoint.path, every_seconds=0.01)
    steps = t.settings.long_steps if long else t.settings.steps
    fit(net, loss, batches, steps=steps, lr=t.settings.lr, log=t.log, checkpoint=checkpoint)
    net.eval()
    with torch.no_grad():
        t.row(test_mse=loss(net, (x, y)))
    note(f"end {t.arm} {t.seed}")
