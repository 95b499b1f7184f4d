"""The assessment: counts, budgets, tasks, and the tool's answers on tables whose answer is known."""

import numpy as np
import pytest
import torch
from scipy import special

from paperworks.errors import DataFileError, PaperworksError
from paperworks.layers.kan import KAN
from paperworks.layers.kan_assessment import (
    BSplineMLP,
    build,
    class_incremental,
    formula_task,
    kanbefair_count,
    match_budget,
    table_task,
)
from paperworks.layers.kan_assessment.model import operations
from paperworks.layers.kan_assessment.study import width
from paperworks.layers.kan_assessment.tasks import split_task
from paperworks.layers.kan_assessment.tool import compared, kan_or_mlp, targets, verdict
from paperworks.measure import count_parameters
from paperworks.training.tables import read_table


def test_kanbefair_formulas():
    assert kanbefair_count("kan", (2, 5, 1)) == (171, 3965)
    assert kanbefair_count("kan", (784, 16, 10)) == (139_770, 3_332_448)
    assert kanbefair_count("mlp", (784, 16, 10)) == (12_730, 25_772)
    assert kanbefair_count("spline_mlp", (784, 16, 10))[0] == 12_938
    with pytest.raises(ValueError, match="family"):
        kanbefair_count("other", (2, 1))


@pytest.mark.parametrize("family", ["mlp", "spline_mlp", "spline_first", "kan"])
def test_budgets_match_at_unusual_sizes(family):
    for n_in, n_out, target in ((7, 3, 1500), (30, 2, 5000)):
        net = build(family, n_in, match_budget(family, n_in, n_out, parameters=target), n_out)
        assert abs(count_parameters(net) / target - 1) < 0.05
    flops = operations(build("kan", 12, 9, 4), 12)
    wide = match_budget(family, 12, 4, flops=flops)
    assert abs(operations(build(family, 12, wide, 4), 12) / flops - 1) < 0.05
    with pytest.raises(ValueError, match="either"):
        match_budget(family, 2, 1)


def test_study_arms_have_the_budgets_they_claim():
    task = formula_task("ellipeinc", 0)
    kan = build("kan", 2, 5, 1)
    for arm in ("mlp", "spline_mlp", "spline_first"):
        net = build(arm, 2, width(arm, task, 5), 1)
        assert abs(count_parameters(net) / count_parameters(kan) - 1) < 0.05
    net = build("mlp", 2, width("mlp_flops", task, 5), 1)
    assert abs(operations(net, 2) / operations(kan, 2) - 1) < 0.05


def test_splines_before_a_linear_layer_are_a_kan_of_rank_one_edges():
    torch.manual_seed(0)
    net, kan = BSplineMLP((3, 2), spline_first=True), KAN((3, 2), options={"low": -2.0, "high": 2.0, "base": "none"})
    spline, linear = net.layers
    kan.layers[0].spline_weight.data = linear.weight[..., None] * spline.coefficients[None]
    x = torch.randn(6, 3)
    torch.testing.assert_close(net(x), kan(x) + linear.bias)


def test_formulas_are_scipys():
    task = formula_task("lpmv1", 3)
    x = (task.test[0].double().numpy() + 1) / 2
    exact = special.lpmv(1, x[:, 0], x[:, 1])
    assert np.corrcoef(exact, task.test[1][:, 0].numpy())[0, 1] > 1 - 1e-6
    assert float(task.train[1].mean()) == pytest.approx(0, abs=1e-5)
    assert float(task.train[1].std()) == pytest.approx(1, abs=1e-5)
    assert formula_task("bessel", 0).n_in == 1
    with pytest.raises(ValueError, match="formula"):
        formula_task("other", 0)


def test_splits_share_no_row_and_standardise_by_training_rows():
    x = np.arange(200.0)[:, None]
    task = split_task(x, (x[:, 0] % 2).astype(int), 2, 0)
    values = torch.cat([part[0] for part in (task.train, task.val, task.test)])
    assert len(values.unique()) == 200
    assert float(task.train[0].mean()) == pytest.approx(0, abs=1e-6)
    assert [len(part[0]) for part in (task.train, task.val, task.test)] == [120, 40, 40]


def test_groups_of_classes_never_leak():
    task = table_task("digits", 0)
    stages = class_incremental(task, [[0, 1, 2], [3, 4, 5]])
    assert set(stages[0][1].tolist()) == {0, 1, 2}
    assert set(stages[1][1].tolist()) == {3, 4, 5}


def test_interval_and_answer():
    low, high = compared([0.9, 0.92, 0.91], [0.8, 0.83, 0.82], 1.0)
    assert low < np.mean([0.1, 0.09, 0.09]) < high
    assert "Use a KAN" in verdict({"mlp": (0.1, 0.2), "mlp_flops": (0.1, 0.2)})
    assert "Use a perceptron:" in verdict({"mlp": (-0.2, -0.1), "mlp_flops": (-0.2, -0.1)})
    assert "larger perceptron" in verdict({"mlp": (0.1, 0.2), "mlp_flops": (-0.1, 0.2)})
    assert "No difference" in verdict({"mlp": (-0.1, 0.2), "mlp_flops": (-0.1, 0.2)})


def write(path, x, y, names=("a", "b")):
    rows = [",".join([*(f"{v:.6g}" for v in row), str(label)]) for row, label in zip(x, y, strict=True)]
    path.write_text(",".join([*names, "y"]) + "\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.slow
def test_tool_prefers_a_kan_on_a_wiggly_sum_(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (500, 2))
    path = write(tmp_path / "t.csv", x, np.sin(4 * x[:, 0]) + np.abs(x[:, 1]))
    answer = kan_or_mlp(path, target="y", seeds=3, steps=150)
    assert answer["metric"] == "nrmse"
    assert np.mean(answer["scores"]["kan"]) < 0.7 * np.mean(answer["scores"]["mlp"])
    for name in ("mlp", "mlp_flops"):
        gain = np.array(answer["scores"][name]) - np.array(answer["scores"]["kan"])
        assert answer["kan_better_by"][name] == pytest.approx(compared(list(gain), [0.0] * 3, 1.0))
    assert answer["answer"] == verdict({name: tuple(ends) for name, ends in answer["kan_better_by"].items()})


@pytest.mark.slow
def test_tool_classifies_and_samples_large_tables(tmp_path, monkeypatch):
    from paperworks.layers.kan_assessment import tool

    monkeypatch.setattr(tool, "MOST_ROWS", 100)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2))
    path = write(tmp_path / "t.csv", np.c_[x[:, 0], np.ones(300)], np.where(x[:, 0] > 0, "yes", "no"))
    answer = kan_or_mlp(path, target="y", seeds=3, steps=20)
    assert answer["metric"] == "acc"
    assert any("300 rows" in note for note in answer["notes"])
    assert any("never change" in note for note in answer["notes"])


@pytest.mark.parametrize(
    ("labels", "task", "told"),
    [
        (["1"] * 40, "auto", "class"),
        (["1.5"] * 40, "regression", "change from row to row"),
        ([f"n{i % 21}" for i in range(84)], "auto", "different texts"),
        (["yes", "no"] * 20, "regression", "is no number"),
        (["1", "2"] * 5, "auto", "at least 30"),
        (["1", "2"] * 20, "other", "classification"),
    ],
)
def test_tables_without_an_answer_are_told(tmp_path, labels, task, told):
    path = write(tmp_path / "t.csv", np.random.default_rng(0).normal(size=(len(labels), 2)), labels)
    with pytest.raises((DataFileError, PaperworksError), match=told):
        targets(path, read_table(path, "y"), task)


@pytest.mark.parametrize(
    ("text", "told"), [("a,y\n" + "x,1\n" * 40, "line 2"), ("a,y\n" + "1,\n" * 40, "line 2"), ("", "empty")]
)
def test_bad_tables_are_told(tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataFileError, match=told):
        kan_or_mlp(tmp_path / "t.csv", target="y")
