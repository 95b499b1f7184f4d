"""What every paper must satisfy. Papers are found, not listed."""

import contextlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paperworks.errors import PaperworksError
from paperworks.lab import find_papers, ledger, run
from paperworks.lab.discover import PACKAGE
from paperworks.lab.expressions import NOT_MEASURED, fill, render
from paperworks.lab.results import read_json, recorded
from paperworks.lab.verdict import Rows, judge
from paperworks.training.recipe import fit_files, predict_files

PAPERS = find_papers()
SECTIONS = [
    "What it does",
    "How to use it",
    "What we measured",
    "Read before you believe it",
    "Where we differ from the authors' code and why",
    "File formats",
]
STATUS = {"supported", "not supported", "inconclusive"}
each_paper = pytest.mark.parametrize("slug", sorted(PAPERS))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A smoke run of a paper, made once and shared by the tests that look at it."""
    reports = {}

    def of(slug):
        if slug not in reports:
            reports[slug] = run(slug, "smoke", runs=tmp_path_factory.mktemp(slug))
        return reports[slug]

    return of


LOADER = """
import importlib, json, os, sys
import torch  # once for all: what it takes to load is most of the time
for slug, module in zip(sys.argv[1::2], sys.argv[2::2]):
    child = os.fork()
    if child == 0:
        importlib.import_module(f"{module}.study")
        files = [found.__file__ for name, found in sys.modules.items() if name.startswith("paperworks.")]
        print(json.dumps([slug, files]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def loaded_files():
    """Paper -> the files of ours that Python loads for its study, in a fresh process."""
    words = [word for slug, paper in PAPERS.items() for word in (slug, paper.module or "")]
    done = subprocess.run([sys.executable, "-c", LOADER, *words], capture_output=True, text=True, check=True)
    return dict(json.loads(line) for line in done.stdout.splitlines())


@each_paper
def test_card_is_whole(slug):
    paper = PAPERS[slug]
    card = paper.card
    assert paper.folder.name == slug
    assert card.field == paper.folder.parent.name
    assert re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv)
    assert [name for name in card.sections if name in SECTIONS] == SECTIONS
    assert all(card.sections[name].strip() for name in SECTIONS)
    assert (PACKAGE / card.field / slug / "__init__.py").is_file()


@each_paper
def test_card_fills_in_without_and_with_results(slug):
    card = PAPERS[slug].card
    for text in (render(card), render(card, recorded(PAPERS[slug]))):
        assert "{{" not in text
        assert "None" not in re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.DOTALL)


@each_paper
def test_card_asks_for_what_was_measured(slug):
    """A name that no study, arm or row bears would read "not measured yet" for ever."""
    paper = PAPERS[slug]
    known = recorded(paper)
    measured = {study["name"] for study in (known.result or {"studies": []})["studies"]}
    asked = re.findall(r"\{\{(.*?)\}\}", paper.card.body, re.DOTALL)
    assert any("verdict(" in expression for expression in asked)
    for expression in asked:
        function, study = re.match(r'\s*(\w+)\(\s*(?:"(\w+)")?', expression).groups()
        if function in ("verdict", "mean", "cost", "setting", "tuned"):
            assert study in paper.studies, f"{expression}: no such study"
            there = study in measured
        else:
            there = {"parity": known.parity, "fitted": known.fits}.get(function, known.result)
        if there:
            assert NOT_MEASURED not in fill(f"{{{{{expression}}}}}", known), f"{expression}: nothing of that name"


@each_paper
@pytest.mark.slow
def test_cards_code_runs(slug, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", PAPERS[slug].card.body, re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, f"{slug}/card.md", "exec"), names)


@each_paper
@pytest.mark.slow
def test_smoke_run_decides_every_claim(slug, smoke):
    report, studies = smoke(slug), PAPERS[slug].studies
    assert report.failures == []
    skipped = {item["study"] for item in report.result["not_run"]}
    assert len(skipped) < len(studies)
    for name, study in studies.items():
        if name in skipped:
            assert study.files, f"{name} was left out although it needs no files"
            continue
        own = [verdict for verdict in report.verdicts if verdict.study == name]
        assert len(own) == len(study.claims)
        assert {verdict.status for verdict in own} <= STATUS
        trials = [trial for trial in report.trials if trial["study"] == name]
        assert {trial["arm"] for trial in trials} == set(study.all_arms)
        rows = [row for trial in trials for row in trial["rows"]]
        assert {row["variant"] for row in rows} <= {*study.all_arms, *study.variants}
        assert set(study.variants) <= {row["variant"] for row in rows}
        seeds = 1 if study.deterministic else 2
        assert all(part.seeds == seeds for verdict in own for part in verdict.parts), "a claim over rows there are not"
        assert {verdict.kind for verdict in own} <= {"headline", "mechanism", "control"}
    kinds = {claim.kind for study in studies.values() for claim in study.claims}
    assert "headline" in kinds
    assert "control" in kinds


@each_paper
@pytest.mark.slow
def test_same_seed_gives_the_same_rows_to_the_bit(slug, smoke, tmp_path):
    """One trial of every study again, in a ledger of its own and without its neighbours."""
    first = smoke(slug)
    for name in dict.fromkeys(trial["study"] for trial in first.trials):
        again = run(slug, "smoke", seeds=1, studies=[name], runs=tmp_path)
        mine = {(t["arm"], str(t["point"])): t["rows"] for t in first.trials if t["study"] == name and t["seed"] == 0}
        theirs = {(t["arm"], str(t["point"])): t["rows"] for t in again.trials}
        assert len(mine) == len(PAPERS[slug].studies[name].all_arms) * len(PAPERS[slug].studies[name].points({}))
        assert untimed(mine) == untimed(theirs)


@each_paper
@pytest.mark.slow
def test_another_seed_gives_other_rows(slug, smoke):
    """In every study some arm's rows follow the seed, or it declares itself deterministic and has one seed."""
    report = smoke(slug)
    for name in dict.fromkeys(trial["study"] for trial in report.trials):
        by_seed = {}
        for trial in (trial for trial in report.trials if trial["study"] == name):
            by_seed.setdefault(trial["seed"], {})[trial["arm"], str(trial["point"])] = trial["rows"]
        assert set(by_seed) == ({0} if PAPERS[slug].studies[name].deterministic else {0, 1})
        assert len(by_seed) == 1 or untimed(by_seed[0]) != untimed(by_seed[1])


@each_paper
@pytest.mark.slow
def test_all_code_that_a_study_loads_is_in_its_trials_keys(slug, loaded_files, monkeypatch):
    """A trial is measured again when any of it changes: what Python loads is what the hash has followed."""
    paper, followed, real = PAPERS[slug], set(), ledger._imported
    monkeypatch.setattr(ledger, "_imported", lambda path, package: followed.add(path) or real(path, package))
    ledger.code_hash.__wrapped__(paper.folder / "study.py", PACKAGE)
    loaded = {Path(file) for file in loaded_files[slug]}
    assert paper.folder / "study.py" in loaded & followed
    machinery = {"lab", "gallery", "cli.py", "errors.py", "lazy.py"}  # they run trials and show them
    names_only = {paper.folder / "__init__.py", paper.folder.parent / "__init__.py"}  # they hand names on
    assert {
        path for path in loaded - followed - names_only if path.relative_to(PACKAGE).parts[0] not in machinery
    } == set()


def untimed(found):
    """Rows but for metrics that are measured times."""
    timed = re.compile(r"seconds|_time$|speed|ratio_of_time")
    return {
        key: [{**row, "metrics": {n: v for n, v in row["metrics"].items() if not timed.search(n)}} for row in rows]
        for key, rows in found.items()
    }


@each_paper
def test_recorded_result_holds_every_row_and_its_verdicts_follow(slug):
    """What is shipped is whole, and today's code draws the same verdicts from it."""
    paper = PAPERS[slug]
    result = recorded(paper).result
    assert result is not None, f"{slug} has no recorded laptop run: paperworks run {slug} --record"
    assert result["failures"] == []
    studies = paper.studies
    measured = {study["name"] for study in result["studies"]}
    needs_files = {name for name, study in studies.items() if study.resolve("laptop").get("data") in study.files}
    assert set(studies) - needs_files <= measured <= set(studies)
    assert {item["study"] for item in result["trials"] + result["verdicts"]} == measured
    for described in result["studies"]:
        study = studies[described["name"]]
        trials = [trial for trial in result["trials"] if trial["study"] == study.name]
        seeds = range(len({trial["seed"] for trial in trials}))
        assert study.deterministic or len(seeds) >= 3
        expected = [(a, s, p) for s in seeds for p in study.points({}) for a in study.all_arms]
        assert [(trial["arm"], trial["seed"], trial["point"]) for trial in trials] == expected
        assert all(trial["rows"] and trial["rows"][0]["metrics"] for trial in trials)
        rows = Rows(trials, study.variants)
        fresh = [judge(claim, study, rows, frozenset(described["calibrated"])) for claim in study.claims]
        kept = [verdict for verdict in result["verdicts"] if verdict["study"] == study.name]
        assert [same(verdict.to_dict()) for verdict in fresh] == [same(verdict) for verdict in kept]
        assert all(part.seeds == len(seeds) for verdict in fresh for part in verdict.parts)


@each_paper
def test_recorded_result_is_of_todays_settings(slug):
    """A study whose laptop settings, grid or tuned choices were changed must be measured again."""
    paper = PAPERS[slug]
    result = recorded(paper).result or {"studies": [], "trials": []}
    for described in result["studies"]:
        study = paper.studies[described["name"]]
        now = json.loads(json.dumps(study.resolve("laptop")))
        assert described["settings"] == now, f"{slug}: {study.name} was recorded with other settings: --record"
        stored = (read_json(paper.folder / "results" / "tuning.json") or {}).get(f"{study.name}@laptop", {})
        for trial in (trial for trial in result["trials"] if trial["study"] == study.name):
            used = dict(stored.get("choices", {}).get(study.method(trial["arm"]), {}))
            if trial["arm"] in study.equal_time:
                used[study.scaled_setting(trial["arm"])] = stored["steps"][trial["arm"]]
            of_arm = json.loads(json.dumps(study.resolve("laptop", trial["arm"], used, trial["point"])))
            assert trial["settings"] == of_arm, f"{slug}: {study.name}, {trial['arm']}"


@each_paper
def test_recorded_run_took_at_most_ten_minutes_of_processor_time(slug):
    result = recorded(PAPERS[slug]).result or {"studies": [], "trials": []}
    embedded = {study["name"]: study["data"] == "embedded" for study in result["studies"]}
    for kind in (True, False):  # the embedded default is one run, real data another
        assert sum(trial["cpu_seconds"] for trial in result["trials"] if embedded[trial["study"]] is kind) <= 600


def same(verdict):
    """A verdict with its numbers at the precision in which they are kept."""

    def rounded(value):
        return None if value is None or math.isnan(value) else float(f"{value:.9g}")

    interval = verdict["interval"] and [rounded(end) for end in verdict["interval"]]
    return verdict["claim"], verdict["kind"], verdict["status"], rounded(verdict["effect"]), interval, verdict["fair"]


@each_paper
def test_tuned_settings_lie_in_the_grid(slug):
    paper = PAPERS[slug]
    stored = read_json(paper.folder / "results" / "tuning.json") or {}
    result = recorded(paper).result or {"studies": []}
    for study in paper.studies.values():
        entry = stored.get(f"{study.name}@laptop")
        measured = study.name in [item["name"] for item in result["studies"]]
        embedded = study.settings.get("data") not in study.files
        if study.grid and measured and embedded:
            assert entry, f"{slug}: study {study.name} has a grid, and its recorded run was not tuned: --tune"
        if entry and entry.get("choices"):
            assert set(entry["choices"]) == set(study.arms)
            assert entry["grid"] == json.loads(json.dumps(study.grid))
            assert min(entry["seeds"]) >= 1000
            for arm, choice in entry["choices"].items():
                for name, value in choice.items():
                    assert value in study.grid[name], f"{slug}: {arm} uses {name}={value}"


# A user's own files


def operator_file(folder):
    rng = np.random.default_rng(0)
    u, x = rng.normal(size=(12, 6)), np.linspace(0, 1, 5)[:, None]
    np.savez(folder / "pairs.npz", u=u, x=x, s=np.cumsum(u, 1)[:, :5])
    return folder / "pairs.npz", ".npz"


def coefficients_and_solutions(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "darcy.npz", a=rng.random((8, 9, 8)), u=rng.normal(size=(8, 9, 8)))
    return folder / "darcy.npz", ".npz"


def flow_file(folder):
    fields = np.random.default_rng(0).normal(size=(4, 3, 1, 16, 16)).astype("f4")
    np.savez(folder / "flows.npz", fields=fields)
    return folder / "flows.npz", ".npz"


def photos(folder):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / "photos" / label).mkdir(parents=True)
        for index in range(6):
            shade = rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(shade).save(folder / "photos" / label / f"{index}.png")
    return folder / "photos", ".csv"


def labelled_table(folder):
    rows = [f"{a:.3f},{b:.3f},{'yes' if a > b else 'no'}" for a, b in np.random.default_rng(0).normal(size=(40, 2))]
    (folder / "table.csv").write_text("a,b,answer\n" + "\n".join(rows) + "\n")
    return folder / "table.csv", ".csv"


def operation_table(folder):
    (folder / "operation.csv").write_text(
        "a,b,c\n" + "".join(f"{a},{b},{(a + b) % 5}\n" for a in range(5) for b in range(5))
    )
    return folder / "operation.csv", ".csv"


def trajectories(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "flow.npz", fields=rng.normal(size=(6, 3, 1, 8, 8)))
    return folder / "flow.npz", ".npz"


def initial_condition(folder):
    x = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    np.savez(folder / "start.npz", x=x, u=3 + np.sin(x))
    return folder / "start.npz", ".npz"


def numbers_table(folder):
    rows = [f"{a:.3f},{a * a + b:.3f}" for a, b in np.random.default_rng(0).normal(size=(40, 2))]
    (folder / "numbers.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    return folder / "numbers.csv", ".csv"


def darcy_file(folder):
    rng = np.random.default_rng(0)
    np.savez(folder / "darcy.npz", x=rng.normal(size=(12, 16, 16)), y=rng.normal(size=(12, 16, 16)))
    return folder / "darcy.npz", ".npz"


def periodic_fields(folder):
    x = np.random.default_rng(0).normal(size=(8, 16, 16)).astype("f4")
    np.savez(folder / "fields.npz", x=x, y=np.roll(x, 1, axis=2))
    return folder / "fields.npz", ".npz"


def truth_table(folder):
    rows = [(a, b, c, int(a + b + c > 1)) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    (folder / "carry.csv").write_text("a,b,c,carry\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return folder / "carry.csv", ".csv"


def plain_text(folder):
    (folder / "text.txt").write_text(40 * "the cat sat on the mat, and the dog lay by the log.\n")
    return folder / "text.txt", ".csv"


FILES = {
    "boolean_threshold": truth_table,
    "continuum_attention": darcy_file,
    "af_kan": labelled_table,
    "biper": photos,
    "bidirectional": labelled_table,
    "crossvit": photos,
    "deeponet": operator_file,
    "drift_net": trajectories,
    "mgno": coefficients_and_solutions,
    "lpinn": initial_condition,
    "mip": numbers_table,
    "modular_addition": operation_table,
    "nn_to_no": periodic_fields,
    "noble": plain_text,
    "noprop": labelled_table,
    "sinenet": flow_file,
    "spiking": photos,
}
WITH_RECIPE = sorted(slug for slug, paper in PAPERS.items() if (paper.folder / "recipe.py").is_file())


@each_paper
def test_paper_serves_own_files_or_is_a_tool(slug):
    assert slug in WITH_RECIPE or PAPERS[slug].card.tool


@pytest.mark.parametrize("slug", WITH_RECIPE)
@pytest.mark.slow
def test_recipe_fits_predicts_and_loads(slug, tmp_path, monkeypatch):
    from paperworks.gallery import figures, write_fit_report

    assert slug in FILES, f"say in this test how a small file for {slug} is made"
    recipe = PAPERS[slug].load("recipe").recipe
    source, suffix = FILES[slug](tmp_path)
    settings = {"steps": 2, "batch_size": 4} | ({"epochs": 0} if "epochs" in recipe.settings else {})
    report = fit_files(recipe, source, tmp_path / "model", settings=settings)
    assert report["steps"] == 2
    assert bool(report["pictures"]) == (recipe.pictures is not None)
    for picture in report["pictures"]:
        assert figures.picture(picture), f"{picture['title']} cannot be drawn"
    page = write_fit_report(report, PAPERS[slug].card, source, tmp_path / "model" / "report.html").read_text("utf-8")
    assert all(metric.split("_")[0] in page for part in report["metrics"].values() for metric in part)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "recipe.json", "README.md", "report.html"}
    front = (tmp_path / "model" / "README.md").read_text().split("---")[1]
    assert "library_name: paperworks" in front
    out = tmp_path / f"predictions{suffix}"
    assert predict_files(recipe, tmp_path / "model", source, out)["count"] > 0
    first = out.read_bytes()
    monkeypatch.chdir(tmp_path)
    unnamed = predict_files(recipe, tmp_path / "model", source)["path"]  # what the model card and the report say to run
    assert Path(unnamed).stat().st_size
    assert f"--out {unnamed}" in (tmp_path / "model" / "README.md").read_text()
    assert f"--out {unnamed}" in page
    predict_files(recipe, tmp_path / "model", source, out)
    assert suffix == ".npz" or out.read_bytes() == first
    saved = json.loads((tmp_path / "model" / "recipe.json").read_text())
    kind = recipe.model if isinstance(recipe.model, type) else recipe.model(saved["data"])
    weights = kind.from_pretrained(tmp_path / "model").state_dict()
    assert all(torch.isfinite(tensor).all() for tensor in weights.values() if tensor.is_floating_point())
    tampered_with(recipe, tmp_path / "model", source, out)


def tampered_with(recipe, folder, source, out):
    """Whatever a stored description or configuration is changed to: an answer, or an error that says what to do."""
    for name, inner, values in (("recipe.json", "data", ("absent", None, "x")), ("config.json", None, ("x", -1))):
        path = folder / name
        good = path.read_text()
        stored = json.loads(good)
        for key in stored[inner] if inner else stored:
            for value in values:
                changed = json.loads(good)
                where = changed[inner] if inner else changed
                where[key] = value
                if value == "absent":
                    del where[key]
                path.write_text(json.dumps(changed))
                with contextlib.suppress(PaperworksError):
                    predict_files(recipe, folder, source, out)
        path.write_text(good)
