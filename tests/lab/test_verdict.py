"""The verdict's mathematics: intervals against scipy.stats, the rule, scales, cells, divergence, fairness."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from paperworks.lab import Beats, NotWorse, Reaches, Scales, Study
from paperworks.lab.verdict import Rows, decide, judge, sentence, t_interval, welch_interval

OURS = [0.101, 0.093, 0.110, 0.099, 0.104]
THEIRS = [0.155, 0.160, 0.149, 0.171, 0.158]
values = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=6)


def trial(arm, seed, rows, **costs):
    """A trial as the ledger holds it; `rows` maps (variant, cell) to metrics."""
    rows = [{"variant": v, "cell": c, "metrics": m} for (v, c), m in rows.items()]
    return {"arm": arm, "seed": seed, "rows": rows, "settings": {}, "point": {}, "counts": {}, **costs}


def two_arms(ours, theirs, metric="error", **costs):
    trials = [trial("a", seed, {("a", None): {metric: value}}, **costs) for seed, value in enumerate(ours)]
    return trials + [trial("b", seed, {("b", None): {metric: value}}, **costs) for seed, value in enumerate(theirs)]


def study(*claims, **options):
    return Study("s", arms=options.pop("arms", ("a", "b")), claims=claims, **options)


def verdict(claim, trials, calibrated=(), **options):
    owner = study(claim, **options)
    return judge(claim, owner, Rows(trials, owner.variants), frozenset(calibrated))


# Intervals


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=20))
def test_t_interval_is_scipys(sample):
    if np.std(sample) < 1e-6:
        return
    mean, low, high = t_interval(sample)
    theirs = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
    assert (mean, low, high) == pytest.approx((np.mean(sample), theirs.low, theirs.high), rel=1e-6, abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_welch_interval_is_scipys(a, b):
    if min(np.std(a), np.std(b)) < 1e-6:
        return
    difference, low, high = welch_interval(a, b)
    theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    expected = (np.mean(a) - np.mean(b), theirs.low, theirs.high)
    assert (difference, low, high) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_intervals_need_two_values():
    assert t_interval([1.0]) is None
    assert welch_interval([1.0], [1.0, 2.0]) is None
    assert t_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)
    assert welch_interval([3.0, 3.0], [1.0, 1.0]) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("interval", "threshold", "inclusive", "expected"),
    [
        ((2.0, 1.5, 2.5), 1.0, False, "supported"),
        ((2.0, 1.5, 2.5), 3.0, False, "not supported"),
        ((2.0, 1.5, 2.5), 2.0, False, "inconclusive"),
        ((2.0, 2.0, 2.0), 2.0, False, "not supported"),  # exactly equal is not better
        ((2.0, 2.0, 2.0), 2.0, True, "supported"),  # "at least"
        ((1.0, 0.0, 2.0), 0.0, False, "inconclusive"),
        (None, 0.0, False, "inconclusive"),
    ],
)
def test_the_rule(interval, threshold, inclusive, expected):
    assert decide(interval, threshold, inclusive) == expected


# Beats


def test_ratio_is_the_geometric_mean_of_paired_ratios():
    found = verdict(Beats("error", "a", "b"), two_arms(OURS, THEIRS))
    logs = np.log(np.array(THEIRS) / np.array(OURS))
    theirs = stats.ttest_1samp(logs, 0.0).confidence_interval(0.95)
    assert found.scale == "ratio"
    assert found.effect == pytest.approx(math.exp(logs.mean()))
    assert found.interval == pytest.approx([math.exp(theirs.low), math.exp(theirs.high)])
    assert (found.status, found.seeds, found.threshold) == ("supported", 5, 1.0)
    assert found.parts[0].values == pytest.approx(list(np.array(THEIRS) / np.array(OURS)))


def test_difference_is_the_mean_of_paired_differences():
    found = verdict(Beats("accuracy", "a", "b", by=0.03), two_arms(THEIRS, OURS, "accuracy"))
    differences = np.array(THEIRS) - np.array(OURS)
    theirs = stats.ttest_1samp(differences, 0.0).confidence_interval(0.95)
    assert found.scale == "difference"
    assert found.effect == pytest.approx(differences.mean())
    assert found.interval == pytest.approx([theirs.low, theirs.high])
    assert found.status == "supported"


@pytest.mark.parametrize(("by", "status"), [(1.2, "supported"), (1.57, "inconclusive"), (3.0, "not supported")])
def test_by_moves_the_threshold(by, status):
    assert verdict(Beats("error", "a", "b", by=by), two_arms(OURS, THEIRS)).status == status


def test_direction_and_scale_can_be_declared():
    trials = two_arms(OURS, THEIRS, "score")
    assert verdict(Beats("score", "a", "b"), trials).status == "not supported"
    assert verdict(Beats("score", "a", "b", better="lower"), trials).status == "supported"
    found = verdict(Beats("score", "a", "b", better="lower", scale="difference"), trials)
    assert found.effect == pytest.approx(np.mean(THEIRS) - np.mean(OURS))
    higher = verdict(Beats("score", "b", "a", scale="ratio"), trials)
    assert higher.effect == pytest.approx(math.exp(np.log(np.array(THEIRS) / np.array(OURS)).mean()))


def test_pairing_uses_seeds_and_not_their_order():
    trials = two_arms([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    forward = verdict(Beats("error", "a", "b"), trials)
    assert forward == verdict(Beats("error", "a", "b"), trials[::-1])
    assert forward.interval == pytest.approx([2.0, 2.0])  # every seed's ratio is 2, whatever its level


def test_unpaired_is_welch():
    found = verdict(Beats("accuracy", "a", "b", paired=False), two_arms(THEIRS, OURS[:4], "accuracy"))
    theirs = stats.ttest_ind(THEIRS, OURS[:4], equal_var=False).confidence_interval(0.95)
    assert found.interval == pytest.approx([theirs.low, theirs.high])
    assert found.paired is False
    ratio = verdict(Beats("error", "a", "b", paired=False), two_arms(OURS, THEIRS))
    theirs = stats.ttest_ind(np.log(THEIRS), np.log(OURS), equal_var=False).confidence_interval(0.95)
    assert ratio.interval == pytest.approx([math.exp(theirs.low), math.exp(theirs.high)])


def test_one_seed_is_inconclusive_however_large_the_effect():
    found = verdict(Beats("error", "a", "b"), two_arms([1e-9], [1.0]))
    assert (found.status, found.interval, found.seeds) == ("inconclusive", None, 1)
    assert found.effect == pytest.approx(1e9)
    for claim in (Reaches("error", "a", 0.0), NotWorse("error", "a", "b", margin=0.5)):
        assert verdict(claim, two_arms([1e-9], [1.0])).status == "inconclusive"


def test_a_deterministic_study_needs_one_seed():
    assert verdict(Beats("error", "a", "b"), two_arms([0.5], [1.0]), deterministic=True).status == "supported"
    assert verdict(Beats("error", "a", "b"), two_arms([2.0], [1.0]), deterministic=True).status == "not supported"
    assert verdict(Reaches("error", "a", 0.5), two_arms([0.5], [1.0]), deterministic=True).status == "supported"


def test_every_baseline_of_a_list_must_be_beaten():
    arms = ("a", "b", "c")
    trials = two_arms(OURS, THEIRS)
    weak = trials + [trial("c", seed, {("c", None): {"error": 2 * v}}) for seed, v in enumerate(THEIRS)]
    strong = trials + [trial("c", seed, {("c", None): {"error": v / 3}}) for seed, v in enumerate(OURS)]
    claim = Beats("error", "a", ["b", "c"])
    assert verdict(claim, weak, arms=arms).status == "supported"
    found = verdict(claim, strong, arms=arms)
    assert found.status == "not supported"
    assert [part.baseline for part in found.parts] == ["b", "c"]
    assert found.effect == pytest.approx(1 / 3)  # the weakest comparison speaks
    assert "than that of c" in found.sentence


def test_per_cell_repeats_the_claim():
    trials = [
        trial(arm, seed, {(arm, cell): {"error": value * factor} for cell, factor in cells.items()})
        for arm, level, cells in (("a", OURS, {"m=1": 1, "m=2": 5}), ("b", THEIRS, {"m=1": 1, "m=2": 1}))
        for seed, value in enumerate(level)
    ]
    found = verdict(Beats("error", "a", "b", per="cell"), trials)
    assert [(part.cell, part.status) for part in found.parts] == [("m=1", "supported"), ("m=2", "not supported")]
    assert found.status == "not supported"
    assert "in m=2" in found.sentence
    assert verdict(Beats("error", "a", "b", cell="m=1"), trials).status == "supported"
    merged = verdict(Beats("error", "a", "b"), trials)  # without a cell: the mean over cells
    assert merged.parts[0].values == pytest.approx([t / (3 * o) for o, t in zip(OURS, THEIRS, strict=True)])


# Divergence: metric None, ranked last


def test_a_diverged_method_is_never_supported():
    for claim in (Beats("error", "a", "b"), NotWorse("error", "a", "b", margin=0.5), Beats("accuracy", "a", "b")):
        found = verdict(claim, two_arms([None, *OURS[1:]], THEIRS, claim.metric))
        assert found.status != "supported"
        assert found.effect in (None, 0.0)  # unboundedly bad, whatever the other seeds say
    assert verdict(Beats("error", "a", "b"), two_arms([None] * 5, THEIRS)).status == "not supported"
    assert verdict(Reaches("error", "a", 1.0), two_arms([None, *OURS[1:]], THEIRS)).status == "not supported"


def test_a_diverged_baseline_counts_as_the_best_effect_seen_and_no_more():
    whole = verdict(Beats("error", "a", "b"), two_arms(OURS, THEIRS))
    lost = verdict(Beats("error", "a", "b"), two_arms(OURS, [None, *THEIRS[1:]]))
    assert lost.status == "supported"
    best = max(t / o for o, t in list(zip(OURS, THEIRS, strict=True))[1:])
    ratios = [best, *(t / o for o, t in list(zip(OURS, THEIRS, strict=True))[1:])]
    low = stats.ttest_1samp(np.log(ratios), 0.0).confidence_interval(0.95).low
    assert lost.interval[0] == pytest.approx(math.exp(low))
    assert lost.interval[1] is None  # its upper end is open
    assert whole.interval[1] is not None
    assert verdict(Beats("error", "a", "b"), two_arms(OURS, [None] * 5)).status == "supported"


def test_both_diverged_tells_nothing():
    found = verdict(Beats("error", "a", "b"), two_arms([None, *OURS[1:]], [None, *THEIRS[1:]]))
    assert (found.status, found.interval) == ("inconclusive", None)


def test_every_outcome_has_a_sentence():
    levels = (OURS, [None, *OURS[1:]], [None] * 5, [0.0] * 5, [0.1])
    for ours in levels:
        for theirs in levels:
            for claim in (Beats("error", "a", "b"), Beats("accuracy", "a", "b"), NotWorse("error", "a", "b")):
                found = verdict(claim, two_arms(ours, theirs, claim.metric))
                assert sentence(found).endswith(f": {found.status}.")
                assert "nan" not in sentence(found)


# NotWorse, Reaches, Scales


@pytest.mark.parametrize(
    ("drop", "margin", "status"),
    [(0.005, 0.01, "supported"), (0.05, 0.01, "not supported"), (0.01, 0.01, "inconclusive"), (-0.2, 0.0, "supported")],
)
def test_not_worse_on_the_difference_scale(drop, margin, status):
    noise = [0.0005, -0.0005, 0.0, 0.0003, -0.0003]
    theirs = [0.9, 0.91, 0.89, 0.92, 0.9]
    ours = [t - drop + n for t, n in zip(theirs, noise, strict=True)]
    found = verdict(NotWorse("accuracy", "a", "b", margin=margin), two_arms(ours, theirs, "accuracy"))
    assert (found.status, found.threshold) == (status, -margin)


@pytest.mark.parametrize(("factor", "status"), [(1.05, "supported"), (1.5, "not supported"), (1.1, "inconclusive")])
def test_not_worse_on_the_ratio_scale(factor, status):
    noise = [1.001, 0.999, 1.0, 1.0005, 0.9995]
    ours = [factor * t * n for t, n in zip(THEIRS, noise, strict=True)]
    found = verdict(NotWorse("error", "a", "b", margin=0.1), two_arms(ours, THEIRS))
    assert found.status == status
    assert found.threshold == pytest.approx(1 / 1.1)


@pytest.mark.parametrize(
    ("value", "better", "status"),
    [
        (0.8, "higher", "supported"),
        (0.99, "higher", "not supported"),
        (0.9, "higher", "inconclusive"),
        (0.99, "lower", "supported"),
        (0.8, "lower", "not supported"),
    ],
)
def test_reaches(value, better, status):
    trials = two_arms([0.9, 0.91, 0.89], [0, 0, 0], "rate")
    found = verdict(Reaches("rate", "a", value, better=better), trials)
    theirs = stats.ttest_1samp([0.9, 0.91, 0.89], 0.0).confidence_interval(0.95)
    assert found.status == status
    assert found.effect == pytest.approx(0.9)
    assert found.interval == pytest.approx([theirs.low, theirs.high])


def test_reaching_a_value_exactly_is_reaching_it():
    assert verdict(Reaches("rate", "a", 1.0), two_arms([1.0, 1.0, 1.0], [0, 0, 0], "rate")).status == "supported"


def swept(slope, spread=0.0):
    """Four seeds whose exponents lie around `slope`, their mean on it exactly."""
    return [
        {**trial("a", seed, {("a", f"m={m}"): {"error": 3 * m ** (slope + spread * offset)}}), "point": {"m": m}}
        for seed, offset in enumerate((-1.5, -0.5, 0.5, 1.5))
        for m in (10, 20, 40, 80)
    ]


@pytest.mark.parametrize(("slope", "status"), [(-2.0, "supported"), (-1.0, "not supported"), (-2.2, "inconclusive")])
def test_scales_fits_the_exponent(slope, status):
    claim = Scales("error", against="m", exponent=-2, variant="a", tolerance=0.2)
    found = verdict(claim, swept(slope, 0.02), arms=("a",))
    theirs = stats.ttest_1samp([slope + 0.02 * o for o in (-1.5, -0.5, 0.5, 1.5)], 0.0).confidence_interval(0.95)
    assert found.status == status
    assert found.effect == pytest.approx(slope)
    assert found.interval == pytest.approx([theirs.low, theirs.high])


def test_scales_against_another_metric():
    trials = [
        trial("a", seed, {("a", f"{i}"): {"width": w, "error": w**0.5} for i, w in enumerate((1.0, 4.0, 9.0))})
        for seed in range(3)
    ]
    found = verdict(Scales("error", against="width", exponent=0.5, variant="a"), trials, arms=("a",))
    assert (found.status, found.effect) == ("supported", pytest.approx(0.5))


# Fair play


@pytest.mark.parametrize(
    ("theirs", "fair"), [(100, True), (96, True), (95, True), (94, False), (105, True), (106, False)]
)
def test_equal_within_five_percent(theirs, fair):
    trials = [{**t, "parameters": 100 if t["arm"] == "a" else theirs} for t in two_arms(OURS, THEIRS)]
    found = verdict(Beats("error", "a", "b"), trials, equal=("parameters",))
    assert found.fair is fair
    assert found.costs == {"parameters": {"a": 100, "b": theirs}}
    assert ("NOT at equal parameters" in found.sentence) is (not fair)
    assert found.status == "supported"  # unfairness marks a verdict, it does not change it


def test_what_was_not_counted_is_not_called_fair():
    found = verdict(Beats("error", "a", "b"), two_arms(OURS, THEIRS), equal=("operations",))
    assert found.fair is None


def test_equal_can_be_lifted_or_set_by_a_claim():
    trials = [{**t, "parameters": 100 if t["arm"] == "a" else 200} for t in two_arms(OURS, THEIRS)]
    assert verdict(Beats("error", "a", "b", equal=()), trials, equal=("parameters",)).fair is not False
    assert verdict(Beats("error", "a", "b", equal=("parameters",)), trials).fair is False


def test_own_counts_can_be_held_equal():
    trials = [{**t, "counts": {"steps": 10 if t["arm"] == "a" else 30}} for t in two_arms(OURS, THEIRS)]
    assert verdict(Beats("error", "a", "b"), trials, equal=("steps",)).fair is False


def test_a_variant_pays_what_its_arm_paid():
    rows = [
        trial("a", seed, {("a", None): {"error": v}, ("inner", None): {"error": 2 * v}}, parameters=100)
        for seed, v in enumerate(OURS)
    ]
    found = verdict(Beats("error", "a", "inner"), rows, equal=("parameters",), arms=("a",), variants={"inner": "a"})
    assert found.fair is True
    assert found.costs == {"parameters": {"a": 100, "inner": 100}}


def test_calibrated_arms_count_as_equal_in_seconds():
    options = dict(equal=("seconds",), equal_time={"b_time": ("b", "a")})
    trials = two_arms(OURS, THEIRS, seconds=1.0)
    trials += [trial("b_time", s, {("b_time", None): {"error": v}}, seconds=1.2) for s, v in enumerate(THEIRS)]
    claim = Beats("error", "a", "b_time")
    assert verdict(claim, trials, **options).fair is False
    assert verdict(claim, trials, calibrated={"b_time"}, **options).fair is True
    for one in trials[: len(OURS)]:
        one["rows"].append({"variant": "read", "cell": None, "metrics": {"error": 1.0}})
    claim, options["variants"] = Beats("error", "read", "b_time"), {"read": "a"}
    assert verdict(claim, trials, **options).fair is False
    assert verdict(claim, trials, calibrated={"b_time"}, **options).fair is True, "a reading costs what its arm does"


# Properties


@given(values)
def test_swapping_method_and_baseline_inverts_the_effect(ours):
    theirs = [value * (1.1 + 0.1 * i) for i, value in enumerate(ours)]
    forward = verdict(Beats("error", "a", "b"), two_arms(ours, theirs))
    backward = verdict(Beats("error", "b", "a"), two_arms(ours, theirs))
    assert backward.effect == pytest.approx(1 / forward.effect)
    assert backward.interval == pytest.approx([1 / forward.interval[1], 1 / forward.interval[0]])
    forward = verdict(Beats("accuracy", "a", "b"), two_arms(ours, theirs, "accuracy"))
    backward = verdict(Beats("accuracy", "b", "a"), two_arms(ours, theirs, "accuracy"))
    assert backward.effect == pytest.approx(-forward.effect)
    assert backward.interval == pytest.approx([-forward.interval[1], -forward.interval[0]])


@given(values, st.floats(1e-3, 1e3))
def test_a_unit_changes_no_ratio(ours, unit):
    theirs = [value * (1.1 + 0.1 * i) for i, value in enumerate(ours)]
    plain = verdict(Beats("error", "a", "b", by=1.05), two_arms(ours, theirs))
    scaled = verdict(Beats("error", "a", "b", by=1.05), two_arms([v * unit for v in ours], [v * unit for v in theirs]))
    assert scaled.effect == pytest.approx(plain.effect)
    assert scaled.interval == pytest.approx(plain.interval)
    assert scaled.status == plain.status


@given(values)
def test_more_is_asked_less_is_supported(ours):
    theirs = [value * (1.1 + 0.1 * i) for i, value in enumerate(ours)]
    order = {"supported": 2, "inconclusive": 1, "not supported": 0}
    found = [order[verdict(Beats("error", "a", "b", by=by), two_arms(ours, theirs)).status] for by in (0.5, 1, 1.2, 2)]
    assert found == sorted(found, reverse=True)
