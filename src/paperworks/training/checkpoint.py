"""A checkpoint: one safetensors file that holds a whole training state, written in one move, never pickle."""

import contextlib
import errno
import json
import os
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from paperworks.errors import PaperworksError

FORMAT = "paperworks-checkpoint-1"


class Checkpoint:
    """Where a run writes its state and finds it again.

    Args:
        path: the file; its folder is made when first needed.
        every_seconds: how often `due` says yes.
    """

    def __init__(self, path: Path | str, every_seconds: float = 10.0):
        self.path, self.every_seconds = Path(path), every_seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether it is time to save again."""
        return time.monotonic() - self._last >= self.every_seconds

    def save(self, step: int, state: Mapping[str, Any], force: bool = False) -> bool:
        """Write the state at `step` if due (or `force`): nested dicts, lists, tensors, numbers, text, None.

        Raises:
            PaperworksError: the disk is full or the folder cannot be written; the earlier checkpoint stays.
        """
        if not force and not self.due():
            return False
        tensors: dict[str, torch.Tensor] = {}
        tree = _take_apart({"step": step, **state}, tensors)
        content = save(tensors, {"format": FORMAT, "tree": json.dumps(tree)})
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
            advice = "make room and run the same command again" if full else "give a folder that can be written"
            raise PaperworksError(
                f"checkpoint {self.path} cannot be written: {error.strerror}; {advice} (the earlier one is kept)"
            ) from error
        self._last = time.monotonic()
        return True

    def load(self) -> dict[str, Any] | None:
        """The saved state with its `step`, or None. A torn or foreign file is set aside with a warning."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(str(self.path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError("not a checkpoint of paperworks")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            state = _put_together(json.loads(metadata["tree"]), tensors)
            if not isinstance(state, dict) or not isinstance(state.get("step"), int):
                raise ValueError("it names no step")
            return state
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            aside = self.path.with_suffix(".damaged")
            with contextlib.suppress(OSError):
                os.replace(self.path, aside)
            warnings.warn(
                f"{self.path} cannot be read ({error}); set aside as {aside.name}, starting over", stacklevel=2
            )
            return None

    def clear(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _take_apart(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON for `value`, its tensors moved to `tensors`; tuples become lists, other keys than text are kept as pairs."""
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {"items": [[key, _take_apart(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_take_apart(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"a checkpoint holds tensors, numbers, text, lists and dicts, not {type(value).__name__}")


def _put_together(tree: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    if "items" in tree:
        return {key: _put_together(item, tensors) for key, item in tree["items"]}
    if "list" in tree:
        return [_put_together(item, tensors) for item in tree["list"]]
    return tree["value"]
