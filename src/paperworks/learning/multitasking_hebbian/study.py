"""Several patterns at once, and from examples: storing, the parallel state, learning (arXiv 2308.04106).

Laptop: about 4 CPU-minutes. `paperworks run multitasking_hebbian`
"""

import torch
from torch import Tensor

from paperworks.lab import Beats, NotWorse, Reaches, Study, Trial

from .model import MultitaskingHebbian, Recall, dataset_entropy, dilute_patterns, hierarchical_state, noisy_examples
from .theory import hierarchical_overlaps, one_step_overlap, phase_diagram, solve_self_consistency, spread

WORDS = "in words (abstract); its numbers were not at hand"
SIZE = "There: theory for N to infinity. Here: the laptop's N and its sampling error."


def generator(t: Trial) -> torch.Generator:
    """Every arm of a seed sees the same patterns."""
    return torch.Generator().manual_seed(7_000 + t.seed)


storing = Study(
    "storing",
    question="Does one state recall several dilute patterns at once, and as strongly as the mean-field theory says?",
    arms=("hebbian", "pseudo_inverse", "dense"),
    variants={"random_start": "hebbian"},
    settings=dict(n_patterns=3, temperature=0.05, replicas=4),
    smoke=dict(n_spins=1_000, draws=1, sweeps=8),
    laptop=dict(n_spins=4_000, draws=4, sweeps=20),
    paper=dict(n_spins=100_000, draws=4, sweeps=100),
    sweep=dict(dilution=[0.2, 0.4, 0.5, 0.55]),
    seeds=5,
    equal=("spin_updates",),
    claims=[
        Beats(
            "second_overlap",
            "hebbian",
            "dense",
            by=0.1,
            per="cell",
            published="several patterns are retrieved at once, " + WORDS,
            differs=SIZE,
            note="The baseline is the same network on patterns without blanks: a standard Hopfield network.",
        ),
        Reaches(
            "deviation",
            "hebbian",
            0.063,
            better="lower",
            per="cell",
            kind="mechanism",
            published="theory and Monte Carlo agree, " + WORDS,
            differs=SIZE,
            note="The largest deviation of an overlap from theory, against four times 1 / sqrt(N) at N = 4000.",
        ),
        Reaches(
            "deviation",
            "random_start",
            0.063,
            better="lower",
            per="cell",
            kind="control",
            note="From random spins instead of from the state that theory predicts; overlaps sorted by size.",
        ),
        Beats(
            "second_overlap",
            "hebbian",
            "pseudo_inverse",
            by=0,
            per="cell",
            kind="control",
            note="Is it the Hebbian rule? The projection rule on the same patterns.",
        ),
        Reaches(
            "second_overlap",
            "dense",
            0.063,
            better="lower",
            kind="control",
            note="Without blanks the second overlap is sampling noise.",
        ),
    ],
)


@storing.trial
def storing_trial(t: Trial) -> None:
    """Draw patterns, relax from the hierarchical state (and from random spins), compare with mean-field theory."""
    s, drawn = t.settings, generator(t)
    expected = solve_self_consistency(s.n_patterns, s.dilution, s.temperature).overlaps
    found: dict[str, list[Recall]] = {}
    t.count(None, unit="sweep", spin_updates=s.draws * s.replicas * s.sweeps * s.n_spins)
    for draw in range(s.draws):
        d = 0.0 if t.arm == "dense" else s.dilution
        patterns = dilute_patterns(s.n_patterns, s.n_spins, d, drawn)
        rule = "pseudo_inverse" if t.arm == "pseudo_inverse" else "storing"
        memory = MultitaskingHebbian.store(patterns, dilution=d, rule=rule)
        starts = {t.arm: hierarchical_state(patterns, drawn).expand(s.replicas, -1)}
        if t.arm == "hebbian":
            starts["random_start"] = 2.0 * torch.randint(0, 2, (s.replicas, s.n_spins), generator=drawn) - 1
        for variant, start in starts.items():
            longer = 3 if variant == "random_start" else 1
            sweeps = s.sweeps * longer
            recalled = memory.recall(start, patterns, temperature=s.temperature, sweeps=sweeps, generator=drawn)
            found.setdefault(variant, []).append(recalled)
        t.log(draw + 1, s.draws)
    for variant, recalls in found.items():
        sizes = torch.cat([r.overlaps for r in recalls]).abs().double()
        if variant == "random_start":
            sizes = sizes.sort(1, descending=True).values
        mean = sizes.mean(0)
        t.row(
            variant,
            first_overlap=mean[0],
            second_overlap=mean[1],
            third_overlap=mean[2],
            deviation=(mean - expected).abs().max() if t.arm == "hebbian" else None,
            per_spin_energy=torch.cat([r.energy for r in recalls]).mean(),
        )
    if t.arm == "hebbian" and t.seed == 0:
        bars = {"theory": expected, "hierarchical start": _mean(found["hebbian"]), "zero temperature": None}
        bars["zero temperature"] = hierarchical_overlaps(s.n_patterns, s.dilution)
        names = [f"pattern {index + 1}" for index in range(s.n_patterns)]
        t.picture(
            f"Overlaps with the stored patterns, dilution {s.dilution:g}",
            "lines",
            x=list(range(1, len(names) + 1)),
            series=bars,
            caption="pattern, in the order in which spins follow them; overlap with the recalled state",
        )


def _mean(recalls: list[Recall]) -> Tensor:
    return torch.cat([r.overlaps for r in recalls]).mean(0)


parallel = Study(
    "parallel",
    question="Are strongly diluted patterns recalled equally strongly?",
    arms=("theory", "simulated"),
    settings=dict(n_patterns=2, temperature=0.2),
    smoke=dict(n_spins=1_000, sweeps=20, replicas=4, resolution=6),
    laptop=dict(n_spins=6_000, sweeps=200, replicas=16, resolution=24),
    paper=dict(n_spins=100_000, sweeps=400, replicas=16, resolution=48),
    sweep=dict(dilution=[0.5, 0.7, 0.9, 0.95]),
    seeds=3,
    claims=[
        Reaches(
            "spread",
            "theory",
            0.01,
            better="lower",
            cell="dilution=0.9",
            published="equal strength at strong dilution, " + WORDS,
            differs="Here: the share by which the weaker overlap is smaller, at T = 0.2, from a tilted start.",
        ),
        Reaches("spread", "theory", 0.01, better="lower", cell="dilution=0.95"),
        Reaches(
            "spread",
            "simulated",
            0.05,
            better="lower",
            cell="dilution=0.9",
            kind="mechanism",
            note="Overlaps over each pattern's own activity, since activities scatter at finite N.",
        ),
        Reaches(
            "spread",
            "theory",
            0.05,
            better="higher",
            cell="dilution=0.5",
            kind="control",
            note="At mild dilution strengths must be ordered: equal strength needs d > 1 - T.",
        ),
        Reaches("spread", "simulated", 0.05, better="higher", cell="dilution=0.5", kind="control"),
    ],
)


@parallel.trial
def parallel_trial(t: Trial) -> None:
    """The spread of the overlaps, by the mean-field equations from a start tilted anew each seed, or by sampling."""
    s, drawn = t.settings, generator(t)
    t.count(None, unit="sweep")
    if t.arm == "theory":
        tilt = 1 - 0.4 * torch.rand(s.n_patterns, generator=drawn, dtype=torch.float64).sort().values
        start = tilt * (1 - s.dilution) / s.n_patterns
        found = solve_self_consistency(s.n_patterns, s.dilution, s.temperature, start=start)
        t.row(spread=spread(found.overlaps), first_overlap=found.overlaps.abs().max() / (1 - s.dilution))
        if t.seed == 0 and s.dilution == 0.9:
            dilutions, temperatures = (torch.linspace(0.02, 0.98, s.resolution),) * 2
            t.picture(
                "Spread of the two overlaps over dilution and temperature",
                "heatmap",
                values=phase_diagram(2, dilutions, temperatures.flip(0)),
                caption="left to right: dilution from 0.02 to 0.98; top to bottom: temperature from 0.98 to 0.02. "
                "0: recalled equally strongly (above d = 1 - T); 1: one pattern alone",
            )
        return
    patterns = dilute_patterns(s.n_patterns, s.n_spins, s.dilution, drawn)
    memory = MultitaskingHebbian.store(patterns, dilution=s.dilution)
    state = hierarchical_state(patterns, drawn).expand(s.replicas, -1)
    mean, half = torch.zeros(s.n_patterns), s.sweeps // 2
    for sweep in range(s.sweeps):
        state, m, _ = memory.recall(state, patterns, temperature=s.temperature, sweeps=1, generator=drawn)
        if sweep >= half:
            mean += m.abs().mean(0) / (s.sweeps - half)
        if sweep % 10 == 9:
            t.log(sweep + 1, s.sweeps)
    activity = (patterns != 0).float().mean(1)
    t.row(spread=spread(mean / activity), first_overlap=(mean / activity).max())


learning = Study(
    "learning",
    question="Do supervised and unsupervised learning need the same number of noisy examples?",
    arms=("supervised", "unsupervised", "mislabelled"),
    settings=dict(n_patterns=3, dilution=0.3, quality=0.2),
    smoke=dict(n_spins=1_000, draws=1, sweeps=5),
    laptop=dict(n_spins=3_000, draws=12, sweeps=20),
    paper=dict(n_spins=100_000, draws=10, sweeps=50),
    sweep=dict(n_examples=[5, 10, 25, 50, 100, 200]),
    seeds=5,
    equal=("examples",),
    claims=[
        NotWorse(
            "overlap",
            "unsupervised",
            "supervised",
            margin=0.02,
            per="cell",
            published="the same thresholds with and without a teacher at low load, " + WORDS,
            differs=SIZE,
        ),
        NotWorse("overlap", "supervised", "unsupervised", margin=0.02, per="cell"),
        Reaches(
            "law_error",
            "supervised",
            0.02,
            better="lower",
            per="cell",
            kind="mechanism",
            published="signal-to-noise and Monte Carlo agree, " + WORDS,
            differs=SIZE,
            note="How far the overlap after one step is from erf(1 / sqrt(2 rho)).",
        ),
        Reaches("law_error", "unsupervised", 0.02, better="lower", per="cell", kind="mechanism"),
        Beats(
            "overlap",
            "supervised",
            "mislabelled",
            by=0.1,
            per="cell",
            kind="control",
            note="The teacher hands out labels at random: averaging must then mix the patterns.",
        ),
        NotWorse(
            "settled_overlap",
            "unsupervised",
            "supervised",
            margin=0.02,
            per="cell",
            kind="control",
            note="After many steps instead of one: are the thresholds still the same?",
        ),
    ],
)


@learning.trial
def learning_trial(t: Trial) -> None:
    """Learn from examples, start at the first pattern, take one step, then settle at zero temperature."""
    s, drawn = t.settings, generator(t)
    t.count(None, unit="example", examples=s.draws * s.n_patterns * s.n_examples)
    law = one_step_overlap(dataset_entropy(s.quality, s.n_examples))
    one, settled = [], []
    for draw in range(s.draws):
        patterns = dilute_patterns(s.n_patterns, s.n_spins, s.dilution, drawn)
        examples = noisy_examples(patterns, s.n_examples, s.quality, drawn)
        blank = 2.0 * torch.randint(0, 2, patterns.shape, generator=drawn) - 1
        starts = torch.where(patterns != 0, patterns, blank)  # every pattern in turn, blanks at random
        if t.arm == "mislabelled":
            flat = examples.flatten(0, 1)
            examples = flat[torch.randperm(len(flat), generator=drawn)].view_as(examples)
        rule = "unsupervised" if t.arm == "unsupervised" else "supervised"
        memory = MultitaskingHebbian.learn(examples, quality=s.quality, dilution=s.dilution, rule=rule)
        activity = (patterns != 0).float().mean(1)
        step = (torch.sign(memory.fields(starts)) * patterns).mean(1) / activity
        after = memory.recall(starts, patterns, sweeps=s.sweeps, generator=drawn).overlaps.diagonal() / activity
        one.append(step.double().mean())
        settled.append(after.double().mean())
        t.log(draw + 1, s.draws)
    overlap = torch.stack(one).mean()
    t.row(overlap=overlap, settled_overlap=torch.stack(settled).mean(), law_error=(overlap - law).abs(), law=law)
