"""Settings: what `--set` accepts, which layer wins, and what a sweep runs."""

import pytest

from paperworks.errors import SettingError
from paperworks.lab import Beats, Study, running
from paperworks.lab.study import Settings, Trial, parse_settings, thinned

KNOWN = {"lr": 1e-3, "steps": 100, "name": "sine", "deep": False, "sizes": [1, 2], "limit": None, "pair": (1, 2)}
KNOWN["offset"] = 0  # unlike a count, which is above 0, it may be negative


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("lr=0.5", 0.5),
        ("lr=1", 1.0),
        ("lr=1e-4", 1e-4),
        ("steps=7", 7),
        ("name=7", "7"),
        ("name=a=b", "a=b"),
        ("deep=true", True),
        ("deep=True", True),
        ("sizes=[3, 4, 5]", [3, 4, 5]),
        ("limit=3", 3),
        ("limit=None", None),
        ("limit=word", "word"),
        ("lr=-2", -2.0),
        ("offset=-3", -3),
        ("deep=False", False),
        ("name=", ""),
        ("name=NaN", "NaN"),
        ("pair=[3, 4]", [3, 4]),
    ],
)
def test_values_take_the_type_of_the_default(text, value):
    name = text.split("=")[0]
    parsed = parse_settings([text], KNOWN)[name]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("steps=1.5", "expected int"),
        ("steps=true", "expected int"),
        ("steps=many", "expected int"),
        ("steps=-1", "whole number from 0"),
        ("lr=NaN", "finite number"),
        ("lr=Infinity", "finite number"),
        ("lr=-Infinity", "finite number"),
        ("lr=nan", "expected float"),
        ("lr=1e400", "expected float"),
        ("lr=", "expected float"),
        ("lr=true", "expected float"),
        ("steps=NaN", "finite number"),
        ("steps=1e400", "expected int"),
        ("steps=" + "9" * 5000, "expected int"),
        ("sizes=" + "[" * 50_000, "expected list"),
        ('sizes={"a": 1}', "expected list"),
        ("Lr=1", r"no setting 'Lr'\. There are: deep"),
        ("lr=fast", "expected float"),
        ("deep=1", "expected bool"),
        ("sizes=3", "expected list"),
        ("stepps=3", "did you mean 'steps'"),
        ("unheard=3", "There are: deep, limit, lr"),
        ("steps", "write name=value"),
        ("=3", "write name=value"),
    ],
)
def test_other_values_are_refused(text, told):
    with pytest.raises(SettingError, match=told.replace("(", r"\(")):
        parse_settings([text], KNOWN)


def test_the_last_of_two_values_counts_and_all_are_read():
    assert parse_settings(["lr=1", "steps=2", "lr=3"], KNOWN) == {"lr": 3.0, "steps": 2}
    assert parse_settings([], KNOWN) == {}


def test_every_setting_that_any_layer_names_is_known_with_its_type():
    study = Study(
        "s",
        arms=("a",),
        claims=[],
        settings=dict(common=1),
        smoke=dict(only_smoke=2.0),
        paper=dict(only_paper="x"),
        per_arm={"a": dict(only_a=True)},
        grid=dict(tuned=[0.1, 0.2]),
        select=("val", "lower"),
        sweep=dict(swept=[3, 4]),
    )
    assert study.known_settings() == dict(common=1, only_smoke=2.0, only_paper="x", only_a=True, tuned=0.1, swept=3)


def test_a_run_refuses_a_setting_that_no_study_has(run_study):
    study = Study("s", arms=("a",), claims=[], settings=dict(k=1))
    study.trial(lambda t: t.row(k=t.settings.k))
    with pytest.raises(SettingError, match="toy has no setting 'j'; there are k"):
        run_study(study, settings={"j": 1})
    assert run_study(study, seeds=1, settings={"k": 5}).trials[0]["rows"][0]["metrics"] == {"k": 5}


def layered():
    return Study(
        "layers",
        arms=("a", "b"),
        claims=[Beats("acc", "a", "b")],
        settings=dict(w=1, x=1, y=1, z=1),
        laptop=dict(x=2, y=2, z=2),
        per_arm={"a": dict(y=3, z=3)},
        equal_time={"b_long": ("b", "a", "w")},
    )


def test_budget_overrides_common_and_arm_overrides_budget():
    study = layered()
    assert study.resolve("smoke") == dict(w=1, x=1, y=1, z=1)
    assert study.resolve("laptop") == dict(w=1, x=2, y=2, z=2)
    assert study.resolve("laptop", "a", {"z": 4}) == dict(w=1, x=2, y=3, z=4)
    assert study.resolve("laptop", "b_long") == study.resolve("laptop", "b")
    assert (study.method("b_long"), study.scaled_setting("b_long")) == ("b", "w")


def test_an_equal_time_arm_has_its_methods_settings_and_its_own_over_them():
    study = Study(
        "s",
        arms=("a", "b"),
        claims=[],
        settings=dict(x=1, y=1),
        per_arm={"a": dict(x=2, y=2), "a_long": dict(y=3)},
        equal_time={"a_long": ("a", "b")},
    )
    assert study.resolve("laptop", "a_long") == dict(x=2, y=3)
    assert study.resolve("laptop", "a") == dict(x=2, y=2)
    assert study.resolve("laptop", "b") == dict(x=1, y=1)


def test_resolving_changes_no_layer():
    study = layered()
    before = study.resolve("laptop", "a")
    study.resolve("laptop", "a", {"z": 9})["w"] = 100
    assert study.resolve("laptop", "a") == before


@pytest.mark.parametrize(("budget", "expected"), [("smoke", (1, 10)), ("laptop", (2, 20)), ("paper", (3, 10))])
def test_trials_run_with_the_settings_of_their_budget_and_arm(run_study, budget, expected):
    study = Study(
        "s",
        arms=("a", "b"),
        claims=[],
        settings=dict(x=10),
        smoke=dict(k=1),
        laptop=dict(k=2, x=20),
        paper=dict(k=3),
        per_arm={"b": dict(x=-1)},
        seeds=1,
    )
    study.trial(lambda t: t.row(k=t.settings.k, x=t.settings["x"]))
    trials = run_study(study, budget=budget).trials
    found = {(t["arm"], t["seed"]): tuple(t["rows"][0]["metrics"].values()) for t in trials}
    seeds = range(2 if budget == "smoke" else 1)
    assert found == {(arm, s): expected if arm == "a" else (expected[0], -1) for arm in "ab" for s in seeds}


def test_a_setting_given_by_hand_goes_over_budget_and_arm(run_study):
    study = Study("s", arms=("a", "b"), claims=[], settings=dict(x=1), laptop=dict(x=2), per_arm={"b": dict(x=3)})
    study.trial(lambda t: t.row(x=t.settings.x))
    trials = run_study(study, seeds=1, settings={"x": 4}).trials
    assert [trial["settings"] for trial in trials] == [dict(x=4), dict(x=4)]


def test_a_trials_settings_are_read_only_and_an_unknown_one_is_told():
    settings = Settings({"lr": 0.1, "steps": 2})
    assert (settings.lr, settings["steps"], dict(**settings)) == (0.1, 2, {"lr": 0.1, "steps": 2})
    with pytest.raises(AttributeError, match="no setting 'rate'; there are lr, steps"):
        _ = settings.rate
    with pytest.raises(TypeError):
        settings["lr"] = 1  # type: ignore[index]


def test_sweep_is_every_combination_until_overridden():
    study = Study("swept", arms=("a",), claims=[], sweep=dict(m=[1, 2], n=[3, 4]))
    assert study.points({}) == [dict(m=1, n=3), dict(m=1, n=4), dict(m=2, n=3), dict(m=2, n=4)]
    assert study.points({"n": 9}) == [dict(m=1), dict(m=2)]


def test_sweep_reaches_trials_and_names_cells(run_study):
    study = Study("swept", arms=("a",), claims=[], settings=dict(n=5), sweep=dict(m=[1, 2]))

    @study.trial
    def body(t):
        t.row(total=t.settings.m + t.settings.n)
        t.row(cell="half", total=t.settings.m / 2)

    report = run_study(study)
    rows = {row["cell"]: row["metrics"]["total"] for trial in report.trials for row in trial["rows"]}
    assert rows == {"m=1": 6, "m=2": 7, "m=1, half": 0.5, "m=2, half": 1.0}
    assert [(t["seed"], t["point"]) for t in report.trials] == [(s, {"m": m}) for s in range(5) for m in (1, 2)]
    fixed = run_study(study, seeds=1, settings={"m": 2})  # given by hand: swept no more
    assert [(t["point"], t["rows"][0]) for t in fixed.trials] == [
        ({}, {"variant": "a", "cell": None, "metrics": {"total": 7}})
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        dict(grid=dict(lr=[1, 2])),
        dict(equal_time={"a": ("b", "a")}),
        dict(equal_time={"c": ("b", "unknown")}),
        dict(trade_off=("cost", "acc", ["unknown"])),
        dict(variants={"v": "unknown"}),
        dict(per_arm={"unknown": {}}),
    ],
)
def test_contradictory_studies_are_refused_when_declared(wrong):
    with pytest.raises(ValueError, match="study wrong"):
        Study("wrong", arms=("a", "b"), claims=[], **wrong)


def test_metrics_are_numbers(run_study):
    study = Study("metrics", arms=("a",), claims=[])

    @study.trial
    def body(t):
        t.row(inf=float("inf"), none=None, yes=True)
        with pytest.raises(TypeError, match="metric word"):
            t.row(word="high")

    report = run_study(study, seeds=1)
    assert report.failures == []
    assert report.trials[0]["rows"][0]["metrics"] == {"inf": None, "none": None, "yes": 1}


@pytest.mark.parametrize("length", [1, 119, 120, 121, 1000])
def test_thinned_curves_keep_their_ends(length):
    curve = [[step, float(step)] for step in range(length)]
    kept = thinned(curve)
    assert len(kept) <= 121
    assert (kept[0], kept[-1]) == (curve[0], curve[-1])


def test_the_result_says_the_device_that_a_trial_used(run_study):
    quiet = Study("quiet", arms=("a",), claims=[], seeds=1)
    quiet.trial(lambda t: t.row(x=1))
    asking = Study("asking", arms=("a",), claims=[], seeds=1)
    asking.trial(lambda t: t.row(x=len(t.device)))
    found = run_study(quiet, device="cpu:0")
    assert found.trials[0]["device"] == found.result["environment"]["device"] == "cpu"
    found = run_study(asking)
    assert found.trials[0]["device"] == found.result["environment"]["device"]


def test_a_device_that_no_trial_asked_for_is_not_claimed():
    assert running._devices([{"device": "cpu"}, {"device": "cpu"}]) == "cpu"
    assert running._devices([{"device": "cuda"}, {"device": "cpu"}]) == "cpu and cuda"
    assert running._devices([{}]) == ""  # a trial of an earlier version
    trial = Trial(arm="a", method="a", seed=0, settings={}, device="cuda")
    assert not trial.device_used
    assert trial.device == "cuda"
    assert trial.device_used
