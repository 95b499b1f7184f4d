"""Settings: what `--set` accepts, which layer wins, and what a sweep runs."""

import pytest

from paperworks.errors import SettingError
from paperworks.lab import Beats, Study
from paperworks.lab.study import parse_settings, thinned

KNOWN = {"lr": 1e-3, "steps": 100, "name": "sine", "deep": False, "sizes": [1, 2], "limit": None}


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
        ("lr=NaN", "expected float"),
        ("lr=Infinity", "expected float"),
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

    rows = {row["cell"]: row["metrics"]["total"] for trial in run_study(study).trials for row in trial["rows"]}
    assert rows == {"m=1": 6, "m=2": 7, "m=1, half": 0.5, "m=2, half": 1.0}


@pytest.mark.parametrize(
    "wrong",
    [
        dict(grid=dict(lr=[1, 2])),
        dict(equal_time={"a": ("b", "a")}),
        dict(equal_time={"c": ("b", "unknown")}),
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
