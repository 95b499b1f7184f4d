"""Reflect-reflect-relax against binary networks trained by gradients, and against real-valued ones (arXiv 2602.17493).

Laptop: about 6 CPU-minutes. `paperworks run boolean_threshold`
"""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from paperworks.lab import Beats, NotWorse, Reaches, Study, Trial

from .gradients import hard, outputs, train_starts
from .instances import cellular_automaton, code_words, multiplier_table, random_logic_network
from .model import BooleanThresholdNetwork
from .search import Attempt, Problem, activations, find_networks
from .wiring import Wiring

WORDS = "exact solutions where gradient methods struggle, in words (abstract); its tables were not at hand"
GENERALISES = "strong generalisation, in words (abstract); its tables were not at hand"
DIFFERS = "There: also larger instances. Here: the smallest ones, with baselines of our own."
PASSES = (
    "At as many passes over the items; the report gives the seconds. A start of a baseline counts once it was right in "
    "every bit, if only for a while."
)
RATES = [2e-3, 6e-3, 2e-2, 6e-2]  # learning rate of Adam; the search's step beta is `beta_over_rate` times as large
COMMON = dict(sigma=3.0, gamma=1e-3, gap_stop=0.01, exact=False, rate=1e-2, beta_over_rate=20.0, slope="tanh",
              check_every=50)  # fmt: skip
KINDS = {"ste": "sign", "ste_clip": "sign", "tanh": "tanh"}


def signs(bits: Tensor) -> Tensor:
    """0 and 1 as -1 and 1."""
    return 2.0 * bits - 1


def seeds(t: Trial, starts: int) -> list[int]:
    """Seeds of a trial's starts, none of which another trial uses."""
    return [100_000 + 1000 * t.seed + start for start in range(starts)]


def solve(t: Trial, widths: Sequence[int], x: Tensor, y: Tensor) -> list[Attempt]:
    """The search at a trial's settings; its curve is the smallest gap of all starts."""
    s, wiring = t.settings, Wiring.layered(widths)
    problem = Problem(wiring, x, y, s.sigma, exact=s.exact)
    began = time.perf_counter()

    def log(made: int, gap: float) -> None:
        t.log(max(1, made // s.starts), s.steps, gap=gap, seconds=time.perf_counter() - began)

    found = find_networks(
        problem,
        seeds(t, s.starts),
        beta=s.beta_over_rate * s.rate,
        gamma=s.gamma,
        gap_stop=s.gap_stop,
        max_iterations=s.steps,
        check_every=s.check_every,
        trace_every=50 if t.seed == 0 else 0,
        log=log,
    )
    mean = sum(attempt.iterations for attempt in found) / s.starts
    t.log(max(1, round(mean)), s.steps, gap=min(a.gap for a in found), seconds=time.perf_counter() - began)
    return found


def exact_row(
    t: Trial, variant: str, right: Sequence[float], steps: Sequence[int], merit: float | None = None
) -> float:
    """What a trial of an exactly solvable problem reports: starts are its units."""
    solved = [step for step in steps if step > 0]
    share, accuracy = len(solved) / len(right), sum(right) / len(right)
    t.row(
        variant,
        solved=share,
        bit_accuracy=accuracy,
        mean_steps=sum(solved) / len(solved) if solved else None,
        merit=share + accuracy if merit is None else merit,
    )
    return share + accuracy


def exact_trial(t: Trial, widths: Sequence[int], x: Tensor, y: Tensor) -> list[Attempt]:
    """Count the starts that give a network right in every bit of every item.

    The rate of the tanh network is chosen for the binary network that is made of it: the real-valued one is right at
    nearly every rate.
    """
    s = t.settings
    t.count(BooleanThresholdNetwork(widths), unit="pass over all items", passes=s.starts * s.steps)
    if t.method in KINDS:
        trained = train_starts(
            widths, x, y, kind=KINDS[t.method], starts=s.starts, steps=s.steps, lr=s.rate, seed=seeds(t, 1)[0],
            slope=s.slope, check_every=s.check_every, log=t.log,
        )  # fmt: skip
        merit = None
        if "binarised" in trained:
            binary = trained["binarised"]
            merit = exact_row(t, "binarised", binary.accuracy.tolist(), binary.steps.tolist())
        own = trained[KINDS[t.method]]
        exact_row(t, t.arm, own.accuracy.tolist(), own.steps.tolist(), merit)
        return []
    found = solve(t, widths, x, y)
    steps = [a.iterations if a.solved and a.accuracy == 1 else 0 for a in found]
    exact_row(t, t.arm, [a.accuracy for a in found], steps)
    return found


EXACT: dict[str, Any] = dict(
    arms=("rrr", "ste", "ste_clip", "tanh"),
    variants={"binarised": "tanh"},
    grid=dict(rate=RATES),
    select=("merit", "higher"),
    tuning=dict(starts=8),
    settings=COMMON,
    per_arm={"ste_clip": dict(slope="clip")},
    smoke=dict(starts=2, steps=30),
    paper=dict(starts=200, steps=10_000),
    seeds=5,
    claims=[
        Beats("solved", "rrr", ["ste", "binarised"], by=0, paired=False, published=WORDS, differs=DIFFERS, note=PASSES),
        NotWorse(
            "solved", "rrr", "tanh", margin=0.05, paired=False, kind="control",
            note="A network whose hidden neurons stay real-valued: it computes the table, and is no logic circuit.",
        ),
        Beats(
            "solved", "rrr", "ste_clip", by=0, paired=False, kind="control",
            note="Signs with the usual gradient, that of a clipped line; the headline's are given that of tanh.",
        ),
    ],
)  # fmt: skip

multiplier = Study(
    "multiplier",
    question="From how many random starts is a 4-4-4-4 network found that multiplies two numbers of two bits?",
    laptop=dict(starts=16, steps=10_000),
    **EXACT,
)


@multiplier.trial
def multiplier_trial(t: Trial) -> None:
    """All sixteen products."""
    x, y = multiplier_table(2)
    found = exact_trial(t, (4, 4, 4, 4), signs(x), signs(y))
    if t.seed == 0 and t.arm == "rrr":
        draw(t, found)


def draw(t: Trial, found: list[Attempt]) -> None:
    """The gap of some starts, and the circuit of the first that was solved."""
    traces = {f"start {number + 1}": a.trace for number, a in enumerate(found[:6]) if a.trace}
    longest = max((len(trace) for trace in traces.values()), default=0)
    if longest:
        every = max(1, longest // 100)
        series = {name: [gap for _, gap in trace[::every]] for name, trace in traces.items()}
        across = [50 * (1 + every * place) for place in range(math.ceil(longest / every))]
        padded = {name: gaps + [None] * (len(across) - len(gaps)) for name, gaps in series.items()}
        t.picture(
            "The gap of six starts: it wanders, and falls at once", "lines", x=across, series=padded,
            x_label="iteration", y_label="gap", caption="a curve ends where the gap is below 0.01: solved",
        )  # fmt: skip
    best = min((a for a in found if a.solved), key=lambda a: a.iterations, default=None)
    if best is not None:
        net = BooleanThresholdNetwork.from_weights(Wiring.layered((4, 4, 4, 4)), best.weights)
        circuit = net.to_logic(["a1", "a0", "b1", "b0"], ["p3", "p2", "p1", "p0"])
        t.picture(
            "A multiplier that was found", "network", **circuit.drawing(),
            caption="two numbers of two bits in, their product out; dashed edges with a dot negate",
        )  # fmt: skip


autoencoder = Study(
    "autoencoder",
    question="And one that passes eight words of eight bits through three bits?",
    laptop=dict(starts=16, steps=6_000),
    **EXACT,
)


@autoencoder.trial
def autoencoder_trial(t: Trial) -> None:
    """Distinct random words, as in the authors' files, drawn anew for every seed."""
    words = signs(code_words(8, torch.Generator().manual_seed(8_000 + t.seed)))
    exact_trial(t, (8, 3, 8, 8), words, words)


parts = Study(
    "parts",
    question="What does it take: the metric that follows the gaps, the shortcut in the projection? What is found?",
    arms=("rrr", "no_metric", "nearest"),
    settings=COMMON,
    smoke=dict(starts=2, steps=30),
    laptop=dict(starts=16, steps=10_000),
    paper=dict(starts=200, steps=10_000),
    per_arm={"no_metric": dict(gamma=0.0), "nearest": dict(exact=True)},
    seeds=5,
    claims=[
        Beats(
            "solved", "rrr", "no_metric", by=0, paired=False, kind="mechanism",
            note="gamma = 0: every item and neuron keeps the same weight.",
        ),
        NotWorse(
            "solved", "rrr", "nearest", margin=0.1, paired=False, kind="control",
            note="The authors' projection keeps a neuron's sign where output and sum agree; the nearest point may not.",
        ),
        Reaches(
            "exact_when_closed", "rrr", 1.0, kind="mechanism",
            note="Share of starts whose gap closed that give a network right in every bit.",
        ),
        Reaches(
            "clean_neurons", "rrr", 0.9, kind="mechanism",
            published="weights equivalent to 0 and +-1, in words (abstract)",
            note="Share of solved networks' neurons with every weight within 0.05 of 0 or +-sqrt(D / s), s = 1 or 3.",
        ),
    ],
)  # fmt: skip


@parts.trial
def parts_trial(t: Trial) -> None:
    """The multiplier at the authors' settings."""
    x, y = multiplier_table(2)
    wiring = Wiring.layered((4, 4, 4, 4))
    t.count(
        BooleanThresholdNetwork((4, 4, 4, 4)), unit="pass over all items", passes=t.settings.starts * t.settings.steps
    )
    found = solve(t, (4, 4, 4, 4), signs(x), signs(y))
    closed = [a for a in found if a.solved]
    t.row(
        solved=len(closed) / len(found),
        mean_steps=sum(a.iterations for a in closed) / len(closed) if closed else None,
        exact_when_closed=sum(a.accuracy == 1 for a in closed) / len(closed) if closed else None,
        clean_neurons=sum(clean(wiring, a.weights) for a in closed) / len(closed) if closed else None,
        gap=sum(a.gap for a in found) / len(found),
    )


def clean(wiring: Wiring, weights: Tensor, within: float = 0.05) -> float:
    """Share of neurons whose weights are those of a copy or of a gate of three."""
    good = []
    for block in wiring.blocks:
        w = weights[torch.tensor(block.edges)]
        of_gates = []
        for support in (1, 3):
            scaled = w * math.sqrt(support / len(block.senders))
            of_gates.append(((scaled - scaled.clamp(-1, 1).round()).abs() <= within).all(1))
        good.append(of_gates[0] | of_gates[1])
    return float(torch.cat(good).double().mean())


def inference_trial(t: Trial, widths: Sequence[int], inputs: Tensor, labels: Tensor) -> None:
    """Infer a rule from the first items; validation and test rows follow."""
    s = t.settings
    parts_of = {}
    begin = 0
    for name, count in (("train", s.n_items), ("val", s.n_val), ("test", s.n_test)):
        parts_of[name] = (signs(inputs[begin : begin + count]), signs(labels[begin : begin + count]))
        begin += count
    x, y = parts_of["train"]
    wiring = Wiring.layered(widths)
    t.count(BooleanThresholdNetwork(widths), unit="pass over all items", passes=s.starts * s.steps)
    if t.method == "tree":
        tree = DecisionTreeClassifier(random_state=t.seed).fit(x.numpy(), y.numpy() > 0)
        answers = {name: signs(torch.from_numpy(tree.predict(a.numpy())).long()) for name, (a, _) in parts_of.items()}
    elif t.method in KINDS:
        networks = train_starts(
            widths, x, y, kind=KINDS[t.method], starts=s.starts, steps=s.steps, lr=s.rate, seed=seeds(t, 1)[0],
            slope=s.slope, check_every=s.check_every, stop_when_right=False, log=t.log,
        )  # fmt: skip
        for kind, trained in networks.items():
            best, hidden = int(trained.accuracy.argmax()), torch.tanh if kind == "tanh" else hard
            layers = [w[best : best + 1] for w in trained.layers]
            answers = {name: outputs(layers, a, hidden)[0] for name, (a, _) in parts_of.items()}
            report(t, t.arm.replace("tanh", "binarised") if kind == "binarised" else t.arm, answers, parts_of)
        return
    else:
        found = max(solve(t, widths, x, y), key=lambda a: (a.solved, a.accuracy))
        answers = {name: activations(wiring, found.weights[:, None], a)[..., 0].T for name, (a, _) in parts_of.items()}
    report(t, t.arm, answers, parts_of)


def report(t: Trial, variant: str, answers: dict[str, Tensor], parts_of: dict[str, tuple[Tensor, Tensor]]) -> None:
    """Shares of right output bits."""
    right = {name: float(((answers[name] > 0) == (b > 0)).double().mean()) for name, (_, b) in parts_of.items()}
    t.row(variant, acc=right["test"], val_acc=right["val"], train_acc=right["train"])


INFERENCE_CLAIMS = [
    Beats(
        "acc", "rrr", ["ste_equal_time", "binarised_equal_time"], by=0, published=GENERALISES, differs=DIFFERS,
        note="Both trained as long as reflect-reflect-relax, their weights kept where training accuracy was highest.",
    ),
    Beats("acc", "rrr", ["ste", "binarised"], by=0, kind="control", note="At as many passes over the items."),
    NotWorse(
        "acc", "rrr", "tanh_equal_time", margin=0.01, kind="control",
        note="A network whose hidden neurons stay real-valued, trained as long.",
    ),
    Beats("acc", "rrr", "tree", by=0, kind="control", note="A decision tree on the same bits."),
]  # fmt: skip
INFERENCE: dict[str, Any] = dict(
    arms=("rrr", "ste", "tanh", "tree"),
    variants={"binarised": "tanh", "binarised_equal_time": "tanh_equal_time"},
    grid=dict(rate=RATES),
    select=("val_acc", "higher"),
    equal_time={f"{arm}_equal_time": (arm, "rrr") for arm in ("ste", "tanh")},
    claims=INFERENCE_CLAIMS,
)

circuits = Study(
    "circuits",
    question="Is a random circuit of AND and OR gates inferred from 150 of its answers?",
    settings={**COMMON, "starts": 1, "n_items": 150, "n_val": 500, "n_test": 2000},
    smoke=dict(steps=10, n_items=40, n_val=50, n_test=100, widths=[8, 8, 8, 8]),
    laptop=dict(steps=3_000, widths=[16, 16, 16, 16]),
    paper=dict(steps=20_000, widths=[32] * 6, n_items=2_000, starts=4),
    seeds=5,
    tuning=dict(steps=600),
    **INFERENCE,
)


@circuits.trial
def circuits_trial(t: Trial) -> None:
    """Another circuit for every seed."""
    s, drawn = t.settings, torch.Generator().manual_seed(9_000 + t.seed)
    widths = list(s.widths)
    hidden_rule = random_logic_network(widths, drawn, "and_or")
    bits = distinct_rows(s.n_items + s.n_val + s.n_test, widths[0], drawn)
    labels = activations(Wiring.layered(widths), hidden_rule[:, None], signs(bits))[..., 0].T > 0
    inference_trial(t, widths, bits, labels.long())


automaton = Study(
    "automaton",
    question="Is rule 30 on a ring of eight cells inferred from 100 of its 256 steps?",
    settings={**COMMON, "starts": 1, "n_items": 100, "n_val": 56, "n_test": 100},
    smoke=dict(steps=10),
    laptop=dict(steps=3_000),
    paper=dict(steps=50_000, starts=4),
    seeds=5,
    tuning=dict(steps=800),
    **INFERENCE,
)


@automaton.trial
def automaton_trial(t: Trial) -> None:
    """Another choice of states for every seed."""
    drawn = torch.Generator().manual_seed(9_500 + t.seed)
    bits = distinct_rows(256, 8, drawn)
    inference_trial(t, (8, 16, 16, 8), bits, cellular_automaton(30, bits))


def distinct_rows(count: int, n: int, generator: torch.Generator) -> Tensor:
    """Different rows of n bits in random order."""
    numbers = torch.randperm(2**n, generator=generator)
    numbers = numbers[: min(count, len(numbers))]
    return numbers[:, None] >> torch.arange(n - 1, -1, -1) & 1
