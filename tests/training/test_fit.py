"""The training loop: exact resume, schedules, clipping, the best weights, divergence, several processes."""

import itertools
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from paperworks.training import Batches, Checkpoint, fit


def problem():
    torch.manual_seed(3)
    x = torch.randn(64, 4)
    y = x @ torch.randn(4, 1)
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Dropout(0.2), nn.BatchNorm1d(16), nn.Linear(16, 1))
    return net, Batches((x, y), 16, seed=1)


def loss(model, batch):
    return (model(batch[0]) - batch[1]).square().mean()


class Stopped(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("stop", [1, 17, 39])
def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(tmp_path, optimizer, stop):
    """Weights, running statistics, the random state of dropout, the schedule and the history all come back."""
    options = dict(steps=40, lr=0.05, optimizer=optimizer, schedule="cosine", warmup=5, validate_every=10)

    def run(checkpoint=None, break_at=None, log=None):
        net, batches = problem()

        def breaking(step):
            if step == break_at:
                raise Stopped
            return batches(step)

        held_out = batches.rows
        fitted = fit(
            net,
            loss,
            breaking,
            checkpoint=checkpoint,
            log=log,
            validate=lambda: {"mse": float(loss(net, held_out))},
            keep_best=("mse", "lower"),
            **options,
        )
        return net.state_dict(), fitted

    whole, fitted = run()
    path = tmp_path / "c.safetensors"
    with pytest.raises(Stopped):
        run(Checkpoint(path, every_seconds=0.0), break_at=stop)
    assert Checkpoint(path).load()["step"] == stop
    torch.manual_seed(99)
    logged: list[int] = []
    resumed, again = run(Checkpoint(path), log=lambda step, *_, **__: logged.append(step))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert (again.loss, again.history, again.best) == (fitted.loss, fitted.history, fitted.best)
    assert logged[-1] == 40
    assert logged == sorted(set(logged))


@pytest.mark.parametrize(
    ("schedule", "warmup", "factors"),
    [
        ("constant", 0, [1, 1, 1, 1]),
        ("constant", 2, [1 / 2, 1, 1, 1]),
        ("linear", 0, [1, 3 / 4, 1 / 2, 1 / 4]),
        ("cosine", 0, [(1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]),
        ("cosine", 2, [1 / 2, 1, 1, 1 / 2]),
        (lambda step: 2.0**-step, 0, [1, 1 / 2, 1 / 4, 1 / 8]),
    ],
)
def test_schedules_move_plain_sgd_by_exactly_their_factor(schedule, warmup, factors):
    """On the loss w, one step of SGD moves w by -rate * factor."""
    net = nn.Linear(1, 1, bias=False).double()
    moved = []

    def linear(model, batch):
        moved.append(float(model.weight.detach()))
        return model.weight.sum()

    fit(
        net, linear, lambda step: None, steps=4, lr=0.1, optimizer="sgd", momentum=0.0, schedule=schedule, warmup=warmup
    )
    moved.append(float(net.weight.detach()))
    assert [(a - b) / 0.1 for a, b in itertools.pairwise(moved)] == pytest.approx(factors)


def test_clip_bounds_the_gradients_norm():
    net = nn.Linear(2, 1, bias=False)
    before = net.weight.detach().clone()
    fit(net, lambda m, _: 100 * m.weight.sum(), lambda _: None, steps=1, lr=1.0, optimizer="sgd", clip=0.5)
    assert float((net.weight.detach() - before).norm()) == pytest.approx(0.5, rel=1e-4)


def test_the_best_weights_are_kept():
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)

    def distance():
        return {"far": abs(float(net.weight.detach()) - 0.7)}

    fitted = fit(
        net,
        lambda m, _: m.weight.sum(),
        lambda _: None,
        steps=10,
        lr=0.1,
        optimizer="sgd",
        momentum=0.0,
        validate=distance,
        validate_every=1,
        keep_best=("far", "lower"),
    )
    assert fitted.best["step"] == 3
    assert float(net.weight.detach()) == pytest.approx(0.7)


def test_divergence_stops_and_is_told():
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
    fitted = fit(net, lambda m, _: (m.weight**4).sum(), lambda _: None, steps=500, lr=1e3, optimizer="sgd")
    assert fitted.diverged
    assert fitted.steps < 500


def test_divergence_is_seen_at_the_next_look_and_is_not_validated():
    """The loss is NaN from step 12 on; the next step that is looked at or validated is 15."""
    net, batches = problem()

    def breaking(model, batch):
        nonlocal count
        count += 1
        return loss(model, batch) * (math.nan if count >= 12 else 1)

    count = 0
    validated: list[int] = []
    fitted = fit(
        net,
        breaking,
        batches,
        steps=1000,
        log_every=10,
        validate_every=5,
        validate=lambda: validated.append(count) or {},
    )
    assert fitted.diverged
    assert math.isnan(fitted.loss)
    assert fitted.steps == count == 15
    assert validated == [5, 10]


def test_an_optimizer_of_ones_own_and_frozen_parameters():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    frozen, given = net[0].weight.clone(), []

    def own(parameters):
        given.extend(parameters)
        return torch.optim.SGD(given, lr=0.5)

    before = net[1].bias.detach().clone()
    fit(net, lambda m, b: m(b).sum(), lambda step: torch.ones(1, 2), steps=2, optimizer=own, schedule=lambda s: s)
    assert len(given) == 2
    assert torch.equal(net[0].weight, frozen)
    assert float(before - net[1].bias.detach()) == pytest.approx(0.5)  # factor 0, then 1, on the optimiser's own rate


def test_clock_leaves_validation_and_logging_out():
    import time

    net, batches = problem()

    def slow(*_, **__):
        time.sleep(0.05)
        return {}

    fitted = fit(net, loss, batches, steps=10, validate=slow, validate_every=1, log=slow, log_every=1)
    assert fitted.seconds < 0.5
    assert fitted.steps == 10


def test_weight_decay_can_spare_parameters():
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(1.0)
        net.bias.fill_(1.0)
    fit(
        net,
        lambda m, _: 0 * (m.weight.sum() + m.bias.sum()),
        lambda _: None,
        steps=1,
        lr=0.1,
        optimizer="sgd",
        weight_decay=0.5,
        no_decay=lambda name, p: name == "bias",
    )
    assert float(net.weight.detach()) == pytest.approx(0.95)
    assert float(net.bias.detach()) == 1.0


@pytest.mark.parametrize("wrong", [dict(optimizer="lion"), dict(schedule="step")])
def test_unknown_names_are_refused(wrong):
    net, batches = problem()
    with pytest.raises(ValueError, match="one of"):
        fit(net, loss, batches, steps=1, **wrong)


PARALLEL = """
import json, sys, torch
from torch import nn
from paperworks.training import Batches, Checkpoint, fit
torch.manual_seed(0)
x = torch.randn(60, 4)
y = x @ torch.randn(4, 1)
net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
net.loss = lambda batch: (net(batch[0]) - batch[1]).square().mean()  # a loss that a wrapped model would hide
fitted = fit(net, lambda m, b: m.loss(b), Batches((x, y), 15, seed=1), steps=30, lr=0.01, clip=1.0,
             checkpoint=Checkpoint(sys.argv[1] + "/c.safetensors", every_seconds=0.001),
             validate=lambda: {"mse": float((net(x) - y).square().mean())}, validate_every=10)
import os
if os.environ.get("RANK", "0") == "0":
    weights = torch.cat([p.detach().flatten() for p in net.parameters()]).tolist()
    print("RESULT" + json.dumps([weights, fitted.loss, fitted.history]))
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """The same script under `accelerate launch`: each process takes its share of the same global batches."""
    script = tmp_path / "train.py"
    script.write_text(PARALLEL)
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "2", "--cpu"]
    launch += ["--num_machines", "1", "--mixed_precision", "no"]
    found = []
    for index, command in enumerate(([sys.executable], launch)):
        (tmp_path / str(index)).mkdir()
        done = subprocess.run(
            [*command, str(script), str(tmp_path / str(index))],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout.split("RESULT")[1].splitlines()[0]))
    (alone, loss_alone, history_alone), (together, loss_together, history_together) = found
    assert together == pytest.approx(alone, abs=1e-6)
    assert loss_together == pytest.approx(loss_alone, rel=1e-4)
    assert [entry["step"] for entry in history_together] == [entry["step"] for entry in history_alone]
