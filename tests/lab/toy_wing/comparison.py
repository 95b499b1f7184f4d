"""A wing of three models of curves: to be compared by the lab's tests."""

import os

import numpy as np
import torch
from torch import nn

from paperworks.lab.wings import Comparison, Model, Splits, Task, Unsuitable


def rows(n, waves, dims, generator):
    x = torch.rand(n, dims, generator=generator) * 2 - 1
    return x, torch.sin(waves * x.sum(1, keepdim=True))


def simulated(settings, seed, file):
    generator = torch.Generator().manual_seed(seed)
    train, validation, test = (rows(n, settings["waves"], 1, generator) for n in (settings["n_train"], 64, 64))
    finer = rows(64, settings["waves"], 1, generator)
    return Splits(train, validation, test, {"dims": 1}, {"elsewhere": finer})


def from_file(settings, seed, file):
    data = np.load(file)
    x, y = (torch.from_numpy(data[name]).float() for name in ("x", "y"))
    third = len(x) // 3
    parts = [(x[i * third : (i + 1) * third], y[i * third : (i + 1) * third]) for i in range(3)]
    return Splits(*parts, {"dims": x.shape[1]})


def note(text):
    if "TOY_NOTES" in os.environ:
        with open(os.environ["TOY_NOTES"], "a") as opened:
            opened.write(text + "\n")


def tanh(dims, width):
    return nn.Sequential(nn.Linear(dims, width), nn.Tanh(), nn.Linear(width, 1))


def line(dims, width):
    """Linear however wide: it must lose."""
    return nn.Sequential(nn.Linear(dims, width), nn.Linear(width, 1))


def one_dimensional(dims, width):
    if dims != 1:
        raise Unsuitable("takes one dimension")
    return tanh(dims, width)


def error(model, part):
    note("score")
    x, y = part
    return {"error": float((model(x) - y).square().mean().sqrt()), "worst": float((model(x) - y).abs().max())}


comparison = Comparison(
    tasks={
        "waves": Task(
            "A sine of one variable.",
            simulated,
            lambda settings, file: {"dims": 1},
            settings=dict(waves=3.0, n_train=128),
            smoke=dict(steps=5),
            laptop=dict(steps=60),
        )
    },
    models={
        "tanh": Model(tanh, "one hidden layer", transfers=True),
        "line": Model(line, "a linear map"),
        "flat": Model(one_dimensional, "for one dimension only"),
    },
    loss=lambda model, batch: (model(batch[0]) - batch[1]).square().mean(),
    score=error,
    metric="error",
    infer=lambda model, part: (lambda: model(part[0]), len(part[0])),
    file=Task(
        "Your table.", from_file, lambda settings, file: {"dims": np.load(file)["x"].shape[1]}, laptop=dict(steps=20)
    ),
    file_kinds="an .npz file with x and y",
    settings=dict(parameters=100, batch_size=16, seconds=0.1),
    rates=(1e-2, 3e-2),
    tuning=dict(steps=20),
)
