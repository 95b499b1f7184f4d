"""Checkpoints: whatever a training state holds comes back; torn files and full disks lose nothing."""

import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from paperworks.training import Checkpoint

plain = st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text()
trees = st.recursive(plain, lambda x: st.lists(x) | st.dictionaries(st.text() | st.integers(), x), max_leaves=12)


@given(trees)
def test_plain_values_come_back(tmp_path_factory, tree):
    path = tmp_path_factory.mktemp("c") / "c.safetensors"
    Checkpoint(path).save(3, {"tree": tree}, force=True)
    assert Checkpoint(path).load() == {"step": 3, "tree": tree}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8])
def test_tensors_come_back_to_the_bit(tmp_path, dtype):
    value = (torch.randn(3, 4) * 3).to(dtype).T
    Checkpoint(tmp_path / "c").save(1, {"a": [value, {"b": value[0]}]}, force=True)
    found = Checkpoint(tmp_path / "c").load()["a"]
    assert found[0].dtype == dtype
    assert torch.equal(found[0], value)
    assert torch.equal(found[1]["b"], value[0])


def test_saving_is_rationed(tmp_path):
    checkpoint = Checkpoint(tmp_path / "c", every_seconds=1000)
    assert not checkpoint.save(1, {})
    assert not (tmp_path / "c").exists()
    assert checkpoint.save(1, {}, force=True)


def test_nothing_there_is_none(tmp_path):
    assert Checkpoint(tmp_path / "c").load() is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_torn_file_is_set_aside(tmp_path, share):
    path = tmp_path / "c.safetensors"
    Checkpoint(path).save(1, {"a": torch.ones(100)}, force=True)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.warns(UserWarning, match=r"c\.safetensors cannot be read"):
        assert Checkpoint(path).load() is None
    assert path.with_suffix(".damaged").exists()


def test_a_foreign_file_is_set_aside(tmp_path):
    path = tmp_path / "c.safetensors"
    save_file({"a": torch.ones(1)}, path)
    with pytest.warns(UserWarning, match="not a checkpoint"):
        assert Checkpoint(path).load() is None


def test_a_pickle_is_never_loaded(tmp_path):
    path = tmp_path / "c.safetensors"
    torch.save({"step": 1}, path)
    with pytest.warns(UserWarning, match="cannot be read"):
        assert Checkpoint(path).load() is None


def test_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="not object"):
        Checkpoint(tmp_path / "c").save(1, {"a": object()}, force=True)


FULL = """
import sys, torch
from paperworks.errors import PaperworksError
from paperworks.training import Checkpoint
try:
    Checkpoint(sys.argv[1]).save(2, {"a": torch.zeros(100_000)}, force=True)
except PaperworksError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.slow
def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path):
    path = tmp_path / "c.safetensors"
    Checkpoint(path).save(1, {"a": torch.ones(10)}, force=True)
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 7, done.stderr
    assert "make room" in done.stdout
    assert Checkpoint(path).load()["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["c.safetensors"]
