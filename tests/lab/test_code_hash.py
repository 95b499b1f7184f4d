"""What makes two trials the same: the code a study imports and everything the trial was told, and nothing else."""

import pytest

from paperworks.lab.ledger import code_hash, trial_key

SPEC = dict(slug="p", study="s", arm="a", seed=0, settings={"lr": 0.1, "n": 2}, point={}, data="embedded", device="cpu")


@pytest.fixture
def package(tmp_path):
    root = tmp_path / "paperworks"
    for name, text in {
        "__init__.py": "",
        "cli.py": "import paperworks.wing.paper.study",
        "lab/__init__.py": "def run(): ...",
        "wing/__init__.py": "",
        "wing/paper/__init__.py": "",
        "wing/paper/study.py": "from paperworks.lab import run\nfrom .model import Net",
        "wing/paper/model.py": "def build():\n    from paperworks.nn.layers import Layer\n    return Layer",
        "wing/other/__init__.py": "",
        "wing/other/model.py": "x = 1",
        "nn/__init__.py": "",
        "nn/layers.py": "class Layer: ...",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def hashed(package):
    code_hash.cache_clear()
    return code_hash(package / "wing/paper/study.py", package)


@pytest.mark.parametrize("changed", ["wing/paper/study.py", "wing/paper/model.py", "nn/layers.py"])
def test_code_that_the_study_reaches_counts(package, changed):
    before = hashed(package)
    (package / changed).write_text((package / changed).read_text() + "\n# changed")
    assert hashed(package) != before


@pytest.mark.parametrize("changed", ["cli.py", "lab/__init__.py", "wing/other/model.py"])
def test_other_code_does_not(package, changed):
    before = hashed(package)
    (package / changed).write_text((package / changed).read_text() + "\n# changed")
    assert hashed(package) == before


@pytest.mark.parametrize(
    "change",
    [
        {"arm": "b"},
        {"seed": 1},
        {"study": "t"},
        {"slug": "q"},
        {"settings": {"lr": 0.2, "n": 2}},
        {"point": {"m": 1}},
        {"data": "abc"},
        {"device": "cuda"},
    ],
)
def test_everything_the_trial_is_told_is_in_its_key(change):
    assert trial_key({**SPEC, **change}, "code") != trial_key(SPEC, "code")


def test_key_knows_the_code_and_not_the_order_of_settings_or_the_folder():
    assert trial_key(SPEC, "code") != trial_key(SPEC, "other code")
    assert trial_key({**SPEC, "settings": {"n": 2, "lr": 0.1}, "data_root": "/a"}, "code") == trial_key(SPEC, "code")
