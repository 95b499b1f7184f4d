"""Files made to do harm, and results or records changed by hand: refused in one message, within bounded memory."""

import json
import shutil
import sqlite3
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.lib import format as npy
from scipy.io import savemat

from paperworks import cli
from paperworks.errors import LedgerError, PaperworksError
from paperworks.lab import discover, find_paper, run
from paperworks.lab.ledger import Ledger, trial_problem
from paperworks.lab.results import recorded

TOY = Path(__file__).parents[1] / "lab" / "toy_paper"
RNG = np.random.default_rng(0)
U, X, S = RNG.normal(size=(8, 4)), np.linspace(0, 1, 3)[:, None], RNG.normal(size=(8, 3))
MB = 2**20

# A process of its own, so that memory outside Python's own (numpy, HDF5, safetensors, torch) is counted too.
MEASURED = """
import contextlib, io, json, resource, sys
import h5py, scipy.io, paperworks.training.recipe, paperworks.operators.deeponet
from paperworks import cli
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
found = {}
for name in sys.argv[1:]:
    before, told, status = peak(), io.StringIO(), None
    sys.argv = ["paperworks", "fit", "deeponet", name, "--out", "model"]
    with contextlib.redirect_stderr(told):
        try:
            cli.main()
        except SystemExit as stop:
            status = stop.code
    found[name] = status, told.getvalue(), peak() - before
print(json.dumps(found))
"""


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Run a command that must end in status 2 with one message on standard error, which is returned."""
    monkeypatch.chdir(tmp_path)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["paperworks", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        err = capsys.readouterr().err
        assert stop.value.code == 2, err
        assert err.startswith("error: "), err
        assert not (tmp_path / "sign").exists(), "code out of a file was run"
        return err

    return command


def member(path, name, shape, chunks, version_2_header=None):
    """A compressed archive with one member of zeros, a megabyte at a time."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        if version_2_header is None:
            npy.write_array_header_2_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        else:
            file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", version_2_header))
        for _ in range(chunks):
            file.write(bytes(MB))


def long_header(path):
    member(path, "u.npy", (), 400, version_2_header=400 * MB)


def many_small(path):
    for index in range(8):
        member(path, f"{index}.npy", (50, MB // 4), 50)


def zeros_in_matlab(path):
    savemat(path, {"u": np.zeros((100, MB), "f4"), "x": X, "s": S}, do_compression=True)


def zeros_in_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("u", (100, MB), "f4", chunks=(1, MB), compression="gzip")[:] = 0


def absurd_shape(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("u", (2**40,), "f4", chunks=(MB,))


BOMBS = {
    "header.npz": long_header,
    "many.npz": many_small,
    "zeros.mat": zeros_in_matlab,
    "zeros.h5": zeros_in_hdf5,
    "absurd.h5": absurd_shape,
}


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    """What `fit` said to each, and by how many MB its memory grew."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, make in BOMBS.items():
        make(folder / name)
        assert (folder / name).stat().st_size < 3 * MB
    command = [sys.executable, "-c", MEASURED, *BOMBS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert not (folder / "model").exists()
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_bounded_memory(bombs, name):
    status, told, grown = bombs[name]
    assert status == 2, told
    assert told.startswith(f"error: {name}")
    assert grown < 100  # each expands to 400 MB


def flagged(path, local, central, value):
    """An archive whose members claim something else of themselves, at these places of their headers."""
    np.savez(path, u=U, x=X, s=S)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        start = 0
        while (start := content.find(mark, start)) >= 0:
            content[start + place] = value
            start += 4
    path.write_bytes(content)


def elsewhere(path, secret):
    with h5py.File(path, "w") as file:
        file.create_dataset("u", (8, 4), "u1", external=[(str(secret), 0, 32)])


def test_archives_and_arrays_that_are_not_what_they_seem(refused, tmp_path):
    def told(path):
        return refused("fit", "deeponet", path.name, "--out", "model", "--set", "steps=2", "--json")

    flagged(tmp_path / "encrypted.npz", 6, 8, 1)
    assert "encrypted.npz is damaged" in told(tmp_path / "encrypted.npz")
    flagged(tmp_path / "method.npz", 8, 10, 97)
    assert "method.npz is damaged" in told(tmp_path / "method.npz")
    (tmp_path / "secret").write_bytes(bytes(range(32)))
    elsewhere(tmp_path / "elsewhere.h5", tmp_path / "secret")
    assert "'u' lies in other files" in told(tmp_path / "elsewhere.h5")
    np.savez(tmp_path / "beyond.npz", u=U * 1e300, x=X, s=S)
    assert "beyond.npz: 'u' holds values beyond 3e38" in told(tmp_path / "beyond.npz")
    compressed = tmp_path / "bits.npz"
    np.savez_compressed(compressed, u=U, x=X, s=S)
    content = bytearray(compressed.read_bytes())
    content[100:140] = bytes(40)
    compressed.write_bytes(content)
    assert "bits.npz is damaged" in told(compressed)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("steps=0", "steps=0"),
        ("steps=1e400", "expected int"),
        ("steps=true", "expected int"),
        ("lr=0", "lr=0"),
        ("lr=nan", "expected float"),
        ("lr=-1", "above 0"),
        ("batch_size=-1", "batch_size"),
        ("weight_decay=-1", "from 0"),
        ("warmup=-1", "from 0"),
        ("clip=-1", "from 0"),
        ("seed=99999999999999999999", "64 bits"),
        ("width=0", "settings"),
        ("width=-5", "width=-5: expected a whole number from 0"),
        ("width=1000000", "memory"),
        ("depth=0", "settings"),
        ("validation=1.0", "below 1"),
        ("validation=-1", "from 0"),
        ("activation=__import__('os')", "one of relu"),
        ("optimizer=lion", "adamw"),
        ("schedule=x", "cosine"),
        ("mixed_precision=q", "bf16"),
        ("epoch=3", "did you mean 'epochs'"),
        ("=3", "name=value"),
        ("steps", "name=value"),
        ("", "name=value"),
    ],
)
def test_settings_of_a_fit(refused, tmp_path, setting, told):
    np.savez(tmp_path / "pairs.npz", u=U, x=X, s=S)
    said = refused("fit", "deeponet", "pairs.npz", "--out", "model", "--set", "steps=2", "--set", setting, "--json")
    assert told in said
    assert not (tmp_path / "model" / "model.safetensors").exists()


def test_places_that_cannot_be_written(refused, tmp_path):
    np.savez(tmp_path / "pairs.npz", u=U, x=X, s=S)
    (tmp_path / "file").write_text("mine")
    for out in ("file", "file/below"):
        assert out in refused("fit", "deeponet", "pairs.npz", "--out", out, "--set", "steps=2", "--json")
    assert "moon" in refused("fit", "deeponet", "pairs.npz", "--set", "steps=2", "--device", "moon", "--json")
    assert "ledger" in refused("run", TOY, "--budget", "smoke", "--runs", "file", "--json")
    assert "file" in refused("gallery", "--build", "file")
    assert (tmp_path / "file").read_text() == "mine"


CARD = (TOY / "card.md").read_text()
CARDS = {
    "code in YAML": CARD.replace('"Toy"', "!!python/object/apply:os.system ['touch sign']"),
    "aliases": CARD.replace(
        "year: 2026", "year: 2026\na: &a [x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\ntags: [*c,*c]"
    ),
    "code in an expression": CARD + "\n{{ __import__('os').system('touch sign') }}",
    "a power tower": CARD + "\n{{ 9**9**9**9 }}",
    "long text": CARD + "\n{{ 'a' * 10**10 }}",
    "many digits": CARD + "\n{{ mean('lines', 'fast', 'test_mse') | number(999999999) }}",
    "a loop": CARD + "\n{% for i in range(9) %}{% endfor %}",
    "inner names": CARD + "\n{{ verdict('lines').__class__.__mro__ }}",
    "deep brackets": CARD + "\n{{ " + "(" * 240 + ")" * 240 + " }}",
    "an impossible date": CARD.replace("year: 2026", "year: 2026-99-99"),
    "NaN": CARD.replace("year: 2026", "year: .nan"),
    "a path as slug": CARD.replace("slug: toy", "slug: ../toy"),
    "an unknown field": CARD.replace("year: 2026", "year: 2026\nrun: me"),
    "torn": CARD[: len(CARD) // 3],
    "empty": "",
    "huge": CARD + "x" * 2_000_000,
}


@pytest.mark.parametrize("kind", CARDS)
def test_card(refused, tmp_path, kind):
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "card.md").write_text(CARDS[kind])
    assert "card.md" in refused("show", "./paper")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A paper of one measured run, as a result file holds it."""
    folder = tmp_path_factory.mktemp("measured")
    result = run(str(TOY), "smoke", runs=folder, settings={"long_steps": 10}).result
    return json.loads(json.dumps({**result, "budget": "laptop"}))


def changed(value, path, new):
    copy = json.loads(json.dumps(value))
    inner = copy
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = new
    return copy


CHANGES = {
    "a verdict is a number": (("verdicts", 0), 5),
    "a verdict is empty": (("verdicts", 0), {}),
    "the effect is text": (("verdicts", 0, "effect"), "big"),
    "the interval is text": (("verdicts", 0, "interval"), "wide"),
    "the status is a number": (("verdicts", 0, "status"), 5),
    "a trial is empty": (("trials", 0), {}),
    "rows are a number": (("trials", 0, "rows"), 5),
    "a metric is text": (("trials", 0, "rows", 0, "metrics", "test_mse"), "good"),
    "curves are a number": (("trials", 0, "curves"), 5),
    "the arm is null": (("trials", 0, "arm"), None),
    "a study is empty": (("studies", 0), {}),
    "the environment is a number": (("environment",), 3),
    "the budget is null": (("budget",), None),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_recorded_result_that_no_run_wrote(refused, tmp_path, monkeypatch, measured, kind):
    room = tmp_path / "examples" / "toy"
    shutil.copytree(TOY, room, ignore=shutil.ignore_patterns("__pycache__", "results"))
    (room / "results").mkdir()
    path = room / "results" / "laptop.json"
    path.write_text(json.dumps(measured))
    discover.find_papers.cache_clear()
    monkeypatch.setattr(discover, "PACKAGE", tmp_path)
    try:
        assert recorded(find_paper("toy")).verdict("lines") is not None  # as it was written it is read
        text = json.dumps(changed(measured, *CHANGES[kind]))
        path.write_text(text)
        for words in (("show", "toy"), ("gallery", "--build", "site")):
            assert "laptop.json" in refused(*words)
        assert not (tmp_path / "site").exists()
        assert path.read_text() == text
    finally:
        discover.find_papers.cache_clear()


RECORDS = {
    "null": "null",
    "deep": "[" * 100_000,
    "bytes": b"\x00\xff",
    "a row is a number": (("rows", 0), 5),
    "a metric is text": (("rows", 0, "metrics", "test_mse"), "good"),
    "metrics are a list": (("rows", 0, "metrics"), []),
    "curves are a number": (("curves",), 3),
    "parameters are text": (("parameters",), "many"),
    "the seed is text": (("seed",), "0"),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_a_ledger_record_that_no_run_wrote(tmp_path, measured, kind):
    good, other = measured["trials"][:2]
    assert trial_problem(good) is None
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add("a" * 64, good)
        ledger.add("b" * 64, other)
    record = RECORDS[kind]
    damaged = json.dumps(changed(good, *record)) if isinstance(record, tuple) else record
    with sqlite3.connect(tmp_path / "ledger.sqlite") as same:
        same.execute("UPDATE trials SET result=? WHERE key=?", (damaged, "a" * 64))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(LedgerError, match=r"ledger\.sqlite: record aaaaaaaaaaaa is damaged.*--fresh"):
            ledger.get(["a" * 64])
        assert ledger.get(["b" * 64])["b" * 64]["rows"] == other["rows"]  # the others can be read


FULL = """
import resource, sys, torch
from pathlib import Path
from paperworks.lab.files import write_text
from paperworks.training import Checkpoint
checkpoint, text = Checkpoint(Path("c.safetensors")), Path("laptop.json")
checkpoint.save(1, {"w": torch.ones(8)}, force=True)
write_text(text, "{}")
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
for write in (
    lambda: checkpoint.save(2, {"w": torch.ones(80_000)}, force=True),
    lambda: write_text(text, "x" * 80_000),
):
    try:
        write()
    except Exception as error:
        print(type(error).__name__, error)
print(checkpoint.load()["step"], text.read_text(), sorted(path.name for path in Path().iterdir()))
"""


@pytest.mark.slow
def test_a_full_disk_keeps_the_earlier_checkpoint_and_record(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL], cwd=tmp_path, capture_output=True, text=True, check=True)
    checkpoint, record, kept = done.stdout.splitlines()
    for told, name in ((checkpoint, "c.safetensors"), (record, "laptop.json")):
        assert told.startswith(PaperworksError.__name__)
        assert f"{name} cannot be written" in told
        assert "make room" in told
    assert kept == "1 {} ['c.safetensors', 'laptop.json']"
