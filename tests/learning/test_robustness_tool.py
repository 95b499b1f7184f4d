"""`paperworks robustness` on what was fitted: its counts are the meter's, and it names a masked gradient."""

import json

import numpy as np
import pytest

from paperworks import cli
from paperworks.errors import DataFileError, ModelFolderError, PaperworksError
from paperworks.learning import BidirectionalNet
from paperworks.learning.bidirectional.recipe import recipe
from paperworks.learning.bidirectional.tool import load, numbers, robustness
from paperworks.measure import margin_pgd
from paperworks.training.recipe import fit_files


def table(folder, name="table.csv", shift=0.0, count=120, constant=False):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)) * [1, 10, 0.1] + shift
    labels = np.where(x[:, 0] + x[:, 1] / 10 > 2 * shift * 0.55, "up", "down")
    head = "a,b,c" + ",d" * constant
    lines = [",".join(f"{v:.5f}" for v in row) + ",7" * constant + f",{label}" for row, label in zip(x, labels)]  # noqa: B905
    (folder / name).write_text(head + ",answer\n" + "\n".join(lines) + "\n")
    return folder / name


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    source = table(folder)
    for seed in (0, 1):
        fit_files(recipe, source, folder / f"m{seed}", settings=dict(steps=120, seed=seed, lr=3e-3, mode="bp"))
    return folder


@pytest.mark.slow
def test_tool_counts_what_the_meter_counts(fitted):
    found = robustness(fitted / "m0", fitted / "table.csv", source=fitted / "m1", eps="0.1,0.05", restarts=1)
    assert found["eps"] == [0.05, 0.1]
    assert found["rows"] == 120
    assert {"fgsm", "margin_pgd", "transfer", "worst", "uniform"} <= set(found["right"])
    net, own, stored = load(fitted / "m0")
    x, y = own.read(fitted / "table.csv", own.settings, stored["data"]).everything.rows
    assert found["clean"] == int((net(x).argmax(1) == y).sum())
    span = x.amax(0) - x.amin(0)
    moved = margin_pgd(lambda u: net(u * span + x.amin(0)), (x - x.amin(0)) / span, y, 0.1)
    right = int((net(moved * span + x.amin(0)).argmax(1) == y).sum())
    assert abs(right - found["right"]["margin_pgd"][1]) <= 1
    assert "withstand all attacks" in found["answer"]
    assert "no --source" not in found["text"]


@pytest.mark.slow
def test_tool_sees_a_masked_gradient(fitted, tmp_path):
    net = BidirectionalNet.from_pretrained(fitted / "m0")
    net.layers[-1].weight.data *= 1e5
    net.layers[-1].classifier_bias.data *= 1e5
    net.save_pretrained(tmp_path)
    (tmp_path / "recipe.json").write_text((fitted / "m0" / "recipe.json").read_text())
    masked = robustness(tmp_path, fitted / "table.csv")
    plain = robustness(fitted / "m0", fitted / "table.csv", rows=50)
    assert masked["zero_gradient"] > 80 > 0 == plain["zero_gradient"]
    assert "masked" in masked["answer"]
    assert "50 drawn" in plain["text"]
    assert "proves nothing" in plain["answer"]


@pytest.mark.slow
def test_tool_is_a_command(fitted, capsys, monkeypatch):
    argv = ["robustness", str(fitted / "m0"), str(fitted / "table.csv"), "--eps", "0.1", "--json"]
    monkeypatch.setattr("sys.argv", ["paperworks", *argv])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code in (0, None)
    assert json.loads(capsys.readouterr().out)["eps"] == [0.1]


@pytest.mark.slow
def test_tool_refuses_in_words(fitted, tmp_path):
    unlabelled = tmp_path / "new.csv"
    unlabelled.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(DataFileError, match="no row has a label"):
        robustness(fitted / "m0", unlabelled)
    with pytest.raises(ModelFolderError, match="give the folder"):
        robustness(tmp_path / "nowhere", unlabelled)
    stored = json.loads((fitted / "m0" / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({**stored, "slug": "deeponet", "data": {"sensors": 3}}))
    with pytest.raises(ModelFolderError, match="no classifier"):
        robustness(tmp_path, unlabelled)
    fit_files(recipe, table(tmp_path, constant=True), tmp_path / "other", settings=dict(steps=2))
    with pytest.raises(ModelFolderError, match="fitted on other"):
        robustness(fitted / "m0", fitted / "table.csv", source=tmp_path / "other")


def test_radii_are_shares():
    assert numbers("0.3, 0.1,0.1") == [0.1, 0.3]
    for text in ("far", "-0.1", "2", "nan", ""):
        with pytest.raises(PaperworksError, match="from 0 to 1"):
            numbers(text)
