"""Every kind of input crossed with every way to be wrong: one clear message, nothing run, earlier results intact."""

import json
import pickle
import resource
import sqlite3
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from PIL import Image

from paperworks import cli

TOY = Path(__file__).parents[1] / "lab" / "toy_paper"
RNG = np.random.default_rng(0)
GOOD = dict(
    u=RNG.normal(size=(8, 4)).astype("f4"),
    x=np.linspace(0, 1, 3, dtype="f4")[:, None],
    s=RNG.normal(size=(8, 3)).astype("f4"),
)


class Trap:
    """What a pickle would run; a file is left where it was run."""

    def __init__(self, sign: Path):
        self.sign = sign

    def __reduce__(self):
        return Path.touch, (self.sign,)


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Run a command that must be refused: status 2, one message without a traceback; the message is returned."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["paperworks", *map(str, words)])
        tracemalloc.start()
        with pytest.raises(SystemExit) as stop:
            cli.main()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        err = capsys.readouterr().err
        assert stop.value.code == 2, err
        assert err.startswith("error: ")
        assert "Traceback" not in err
        assert peak < 300 * 2**20
        assert not (tmp_path / "sign").exists(), "code out of a file was run"
        return err

    return command


def header_only(path: Path, shape, descr="<f4", name="u.npy", data=b"1234") -> None:
    """An archive member that announces `shape` and holds four bytes."""
    with zipfile.ZipFile(path, "w") as archive, archive.open(name, "w") as file:
        npy.write_array_header_2_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        file.write(data)


def bomb(path: Path) -> None:
    """A few hundred kilobytes that expand to 400 MB of zeros."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("u.npy", "w", force_zip64=True) as f:
        npy.write_array_header_2_0(f, {"descr": "<f4", "fortran_order": False, "shape": (100, 1_000_000)})
        for _ in range(100):
            f.write(bytes(4_000_000))


def operator_files(folder: Path, kind: str, ending: str) -> Path:
    """A broken file for `fit deeponet` of one kind."""
    path = folder / f"data{ending}"
    arrays = dict(GOOD)
    if kind == "missing":
        return path
    if kind == "empty":
        path.write_bytes(b"")
        return path
    if kind == "below a file":
        (folder / "file").write_text("")
        return folder / "file" / f"data{ending}"
    if kind == "a folder":
        path.mkdir()
        return path
    if kind == "wrong type":
        arrays["u"] = np.array([["a", "b"]] * 8)
    elif kind == "wrong shape":
        arrays["s"] = arrays["s"][:5]
    elif kind == "NaN":
        arrays["u"] = arrays["u"].copy()
        arrays["u"][3, 1] = np.nan
    elif kind == "nothing in it":
        arrays = {}
    elif kind == "no outputs":
        del arrays["s"]
    elif kind == "other format":
        path.write_bytes(b"this is prose, not data" * 50)
        return path
    if ending == ".npz":
        if kind == "objects":
            arrays["u"] = np.array([Trap(folder / "sign"), None], dtype=object)
        elif kind == "announces 2 GB":
            header_only(path, (2**29,))
            return path
        elif kind == "announces 2**62":
            header_only(path, (2**31, 2**31))
            return path
        elif kind == "bomb":
            bomb(path)
            return path
        np.savez(path, **arrays)
    elif ending == ".mat":
        from scipy.io import savemat

        savemat(path, arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                if value.dtype.kind == "U":
                    value = value.astype("S")
                file[name] = value
            if kind == "announces 2 GB":
                del file["u"]
                file.create_dataset("u", (2**29,), "f4", chunks=(2**20,))
    if kind == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return path


COMMON = (
    "missing", "empty", "below a file", "a folder", "truncated", "wrong type", "wrong shape", "NaN", "nothing in it",
    "no outputs", "other format",
)  # fmt: skip
HOSTILE = {".npz": ("objects", "announces 2 GB", "announces 2**62", "bomb"), ".h5": ("announces 2 GB",), ".mat": ()}
CASES = [(ending, kind) for ending, more in HOSTILE.items() for kind in (*COMMON, *more)]
TOLD = {
    "wrong shape": "8",
    "NaN": "record 3",
    "no outputs": "no outputs",
    "objects": "allow_pickle=True",
    "announces 2 GB": "announces",
    "announces 2**62": "announces",
    "bomb": "expand",
    "missing": "does not exist",
    "empty": "is empty",
    "a folder": "is a folder",
}


@pytest.mark.parametrize(("ending", "kind"), CASES)
def test_operator_data(refused, tmp_path, ending, kind):
    path = operator_files(tmp_path, kind, ending)
    told = refused("fit", "deeponet", path, "--out", "model", "--set", "steps=2")
    assert path.name in told
    assert TOLD.get(kind, "") in told
    assert not (tmp_path / "model" / "model.safetensors").exists()


TABLES = {
    "empty": b"",
    "header only": b"a,b,answer\n",
    "truncated": b"a,b,answer\n1,2,yes\n3,4\n",
    "wrong type": b"a,b,answer\n1,2,yes\nthree,4,no\n",
    "NaN": b"a,b,answer\n1,nan,yes\n2,3,no\n",
    "one class": b"a,b,answer\n1,2,yes\n3,4,yes\n",
    "not text": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("kind", TABLES)
def test_table(refused, tmp_path, kind):
    (tmp_path / "table.csv").write_bytes(TABLES[kind])
    assert "table.csv" in refused("fit", "noprop", "table.csv", "--out", "model", "--set", "steps=2")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a,b,c\n0,0,0\n0,1\n", "line 3"),
        ("a,b,c\n0,0,0\n0,x,1\n", "line 3"),
        ("a,b,c\n0,0,0\n0,-1,1\n", "line 3"),
        ("a,b,c\n", "operation.csv"),
        ("", "operation.csv"),
    ],
)
def test_operation_table(refused, tmp_path, text, told):
    (tmp_path / "operation.csv").write_text(text)
    assert told in refused("fit", "modular_addition", "operation.csv", "--out", "model", "--set", "steps=2")


def png(path: Path, size=(20, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


def photos(folder: Path, kind: str) -> Path:
    root = folder / "photos"
    if kind == "missing":
        return root
    for label in ("cat", "dog"):
        for index in range(4):
            png(root / label / f"{index}.png")
    broken = root / "dog" / "2.png"
    content = broken.read_bytes()
    if kind == "a file":
        return broken
    if kind == "below a file":
        return broken / "photos"
    if kind == "empty image":
        broken.write_bytes(b"")
    elif kind == "truncated image":
        broken.write_bytes(content[: len(content) // 2])
    elif kind == "no image":
        broken.write_text("not a picture")
    elif kind == "pickle":
        broken.write_bytes(pickle.dumps(Trap(folder / "sign")))
    elif kind == "empty class":
        (root / "bird").mkdir()
    elif kind == "no classes":
        return root / "cat"
    elif kind == "huge image":  # 40,000 x 40,000 announced in the header of a small file
        header = bytearray(content)
        header[16:24] = (40_000).to_bytes(4, "big") * 2
        import zlib

        header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
        broken.write_bytes(bytes(header))
    return root


PHOTOS = {
    "missing": "does not exist", "a file": "is a file", "below a file": "does not exist", "empty image": "2.png",
    "truncated image": "2.png", "no image": "2.png", "pickle": "2.png", "empty class": "bird",
    "no classes": "no sub-folders", "huge image": "pixels",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "told"), PHOTOS.items())
def test_photos(refused, tmp_path, kind, told):
    settings = ("--set", "steps=2", "--set", "batch_size=4", "--set", "side=16", "--set", "width=48")
    assert told in refused("fit", "crossvit", photos(tmp_path, kind), "--out", "model", *settings)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A model folder as `fit` writes it, and its data."""
    from paperworks.lab import find_paper
    from paperworks.training.recipe import fit_files

    folder = tmp_path_factory.mktemp("fitted")
    np.savez(folder / "pairs.npz", **GOOD)
    fit_files(
        find_paper("deeponet").load("recipe").recipe, folder / "pairs.npz", folder / "model", settings={"steps": 2}
    )
    return folder


def broken_model(folder: Path, kind: str, sign: Path) -> Path:
    model = folder / "model"
    config, weights, recipe = model / "config.json", model / "model.safetensors", model / "recipe.json"
    if kind == "no folder":
        return folder / "absent"
    if kind == "a file":
        return config
    if kind.startswith("no "):
        (
            model / {"no config": "config.json", "no weights": "model.safetensors", "no recipe": "recipe.json"}[kind]
        ).unlink()
    elif kind == "config is a list":
        config.write_text("[1, 2]")
    elif kind == "config is torn":
        config.write_text(config.read_text()[:20])
    elif kind == "config is deep":
        config.write_text("[" * 100_000)
    elif kind == "config asks for code":
        config.write_text(
            json.dumps({**json.loads(config.read_text()), "activation": "__import__('os').system('touch sign')"})
        )
    elif kind == "config asks for a class":
        config.write_text(json.dumps({"branch_sizes": {"__reduce__": "os.system"}, "trunk_sizes": [1, 4]}))
    elif kind == "config of another shape":
        config.write_text(json.dumps({**json.loads(config.read_text()), "branch_sizes": [9, 9, 9]}))
    elif kind == "config without end":
        config.write_text(json.dumps({**json.loads(config.read_text()), "branch_sizes": [4] + [64] * 20_000}))
    elif kind == "config beyond numbers":
        config.write_text(json.dumps({**json.loads(config.read_text()), "branch_sizes": [4, 10**18, 10**18]}))
    elif kind == "recipe of other data":
        stored = json.loads(recipe.read_text())
        recipe.write_text(json.dumps({**stored, "data": dict.fromkeys(stored["data"], -1)}))
    elif kind == "config of a giant":
        config.write_text(json.dumps({**json.loads(config.read_text()), "branch_sizes": [4, 10**9, 10**9]}))
    elif kind == "recipe is a number":
        recipe.write_text("7")
    elif kind == "recipe of no paper":
        recipe.write_text(json.dumps({**json.loads(recipe.read_text()), "slug": "../../etc"}))
    elif kind == "recipe without data":
        recipe.write_text(json.dumps({**json.loads(recipe.read_text()), "data": {}}))
    elif kind == "weights are torn":
        weights.write_bytes(weights.read_bytes()[:-9])
    elif kind == "weights are empty":
        weights.write_bytes(b"")
    elif kind == "weights are a pickle":
        weights.write_bytes(pickle.dumps(Trap(sign)))
    elif kind == "weights are a torch file":
        torch.save({"a": Trap(sign)}, weights)
    elif kind == "weights announce 2 GB":
        weights.write_bytes((2 * 2**30).to_bytes(8, "little") + b"{}")
    elif kind == "weights announce 2**63":
        weights.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    elif kind == "weights lack one":
        from safetensors.torch import load_file, save_file

        kept = load_file(weights)
        kept.pop(sorted(kept)[0])
        save_file(kept, weights)
    elif kind == "weights hold NaN":
        from safetensors.torch import load_file, save_file

        save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
    return model


MODELS = (
    "no folder", "a file", "no config", "no weights", "no recipe", "config is a list", "config is torn",
    "config is deep", "config asks for code", "config asks for a class", "config of another shape",
    "config of a giant", "config without end", "config beyond numbers", "recipe of other data",
    "recipe is a number", "recipe of no paper", "recipe without data", "weights are torn",
    "weights are empty", "weights are a pickle", "weights are a torch file", "weights announce 2 GB",
    "weights announce 2**63", "weights lack one", "weights hold NaN",
)  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_model_folder(refused, fitted, tmp_path, kind):
    import shutil

    shutil.copytree(fitted / "model", tmp_path / "model")
    model = broken_model(tmp_path, kind, tmp_path / "sign")
    told = refused("predict", model, fitted / "pairs.npz", "--out", "out.npz")
    part = kind.split()[0]
    assert {"config": "config.json", "recipe": "", "weights": "model.safetensors"}.get(part, "") in told
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize("kind", ["other sensors", "missing", "truncated"])
def test_data_for_predict(refused, fitted, tmp_path, kind):
    arrays = {**GOOD, "u": GOOD["u"][:, :3]} if kind == "other sensors" else GOOD
    path = tmp_path / "more.npz"
    if kind != "missing":
        np.savez(path, **arrays)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    told = refused("predict", fitted / "model", path, "--out", "out.npz")
    assert "more.npz" in told


@pytest.mark.parametrize("kind", ["no folder", "no card", "no study", "syntax error", "no body", "torn card"])
def test_paper_folder(refused, tmp_path, kind):
    import shutil

    shutil.copytree(TOY, tmp_path / "toy_paper")
    study = tmp_path / "toy_paper" / "study.py"
    card = tmp_path / "toy_paper" / "card.md"
    if not card.is_file():
        card.write_text(
            '---\ntitle: Toy\nslug: toy_paper\narxiv: "0000.00000"\nyear: 2025\nfield: toys\nidea: a\nclaim: b\n---\n'
        )
    if kind == "no folder":
        shutil.rmtree(tmp_path / "toy_paper")
    elif kind == "no card":
        card.unlink()
    elif kind == "no study":
        study.unlink()
    elif kind == "syntax error":
        study.write_text("def broken(:\n")
    elif kind == "no body":
        study.write_text("from paperworks.lab import Study\nstudy = Study('s', arms=('a',), claims=[])\n")
    elif kind == "torn card":
        card.write_text(card.read_text()[:30])
    assert refused("run", "./toy_paper", "--budget", "smoke")


LEDGERS = ("text", "empty folder", "other program", "torn", "damaged record", "below a file")


@pytest.mark.parametrize("kind", LEDGERS)
def test_ledger(refused, tmp_path, kind):
    from paperworks.lab import run

    runs, ledger = tmp_path / "runs", tmp_path / "runs" / "ledger.sqlite"
    runs.mkdir()
    if kind == "text":
        ledger.write_text("dear diary " * 100)
    elif kind == "empty folder":
        ledger.mkdir()
    elif kind == "other program":
        with sqlite3.connect(ledger) as other:
            other.execute("CREATE TABLE mine (x)")
    elif kind == "torn":
        run(str(TOY), "smoke", runs=runs)
        ledger.write_bytes(ledger.read_bytes()[:5000])
        for beside in runs.glob("ledger.sqlite-*"):
            beside.unlink()
    elif kind == "damaged record":
        run(str(TOY), "smoke", runs=runs)
        with sqlite3.connect(ledger) as same:
            same.execute("UPDATE trials SET result='{\"rows\": 3}'")
    elif kind == "below a file":
        (tmp_path / "file").write_text("")
        runs = tmp_path / "file" / "runs"
    before = ledger.read_bytes() if ledger.is_file() else None
    told = refused("run", TOY, "--budget", "smoke", "--runs", runs)
    assert "ledger" in told
    assert before is None or ledger.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"verdicts": 1}', '{"verdicts": [], "trials": [], "studies": 0}'])
def test_recorded_result(refused, tmp_path, monkeypatch, text):
    from paperworks.lab import discover

    room = tmp_path / "field" / "toy_paper"
    (room / "results").mkdir(parents=True)
    card = '---\ntitle: Toy\nslug: toy_paper\narxiv: "0000.00000"\nyear: 2025\nfield: field\nidea: a\nclaim: b\n---\n'
    (room / "card.md").write_text(card)
    (room / "results" / "laptop.json").write_text(text)
    discover.find_papers.cache_clear()
    monkeypatch.setattr(discover, "PACKAGE", tmp_path)
    try:
        assert "laptop.json" in refused("show", "toy_paper")
        assert "laptop.json" in refused("gallery", "--build", "site")
    finally:
        discover.find_papers.cache_clear()


FULL = """
import resource, sys
from paperworks import cli
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.argv = ["paperworks", *sys.argv[2:]]
cli.main()
"""


def on_a_full_disk(limit, *words, cwd):
    return subprocess.run(
        [sys.executable, "-c", FULL, str(limit), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=120,
    )


@pytest.mark.slow
def test_full_disk_while_fitting_keeps_nothing_half(tmp_path):
    np.savez(tmp_path / "pairs.npz", **GOOD)
    done = on_a_full_disk(20_000, "fit", "deeponet", "pairs.npz", "--out", "model", "--set", "steps=2", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error: " in done.stderr
    assert "make room" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_full_disk_while_running_keeps_finished_trials(tmp_path):
    """The first run is whole; a second one, of more seeds, meets a full disk; a third finds the first untouched."""
    from paperworks.lab import run

    first = run(str(TOY), "smoke", seeds=1, runs=tmp_path / "runs")
    done = on_a_full_disk(
        30_000, "run", TOY, "--budget", "smoke", "--seeds", "9", "--runs", tmp_path / "runs", cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    again = run(str(TOY), "smoke", seeds=1, runs=tmp_path / "runs")
    assert [trial["rows"] for trial in again.trials] == [trial["rows"] for trial in first.trials]
    assert [trial["seconds"] for trial in again.trials] == [trial["seconds"] for trial in first.trials]


@pytest.mark.slow
def test_full_disk_while_writing_the_report_keeps_the_earlier_one(tmp_path):
    run_it = ("run", TOY, "--budget", "smoke", "--runs", tmp_path / "runs")
    whole = on_a_full_disk(resource.RLIM_INFINITY, *run_it, cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    (report,) = (tmp_path / "runs").rglob("report.html")
    before = report.read_bytes()
    done = on_a_full_disk(max(4096, len(before) // 2), *run_it, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert report.read_bytes() == before
