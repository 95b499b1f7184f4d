"""Saving and loading of every model: Hugging Face hub conventions, safetensors only, never pickle."""

import contextlib
import json
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from paperworks.errors import ModelFolderError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
Build = TypeVar("Build", bound=Callable[..., nn.Module])


class Example(NamedTuple):
    """A small instance of a model with inputs it accepts: what the contract tests run.

    `batch_axis` is the axis along which rows are independent, one entry for all inputs or one for each
    (`None`: this input is shared by all rows). The output carries the batch on axis 0.
    """

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    batch_axis: int | tuple[int | None, ...] = 0


class Pretrained(PyTorchModelHubMixin, library_name="paperworks", license="apache-2.0"):
    """Mixin beside `nn.Module`: `save_pretrained(folder)`, `from_pretrained(folder_or_repo)`, `push_to_hub(repo)`.

    Keyword arguments of the constructor that are JSON become `config.json`; weights go to `model.safetensors`.

    A subclass offers `example()` and, where a contract cannot hold for it, says so and why in `exempt`.
    """

    exempt: ClassVar[dict[str, str]] = {}  # contract name -> the reason why it cannot hold, printed by the card

    @classmethod
    def example(cls) -> Example:
        """A small instance, inputs, and their batch axis."""
        raise NotImplementedError(f"{cls.__name__} does not offer example()")

    @classmethod
    def _from_pretrained(  # type: ignore[override]
        cls, *, model_id: str, map_location: str = "cpu", strict: bool = True, **options: Any
    ) -> Any:
        hub = {
            key: options.pop(key)
            for key in ("revision", "cache_dir", "force_download", "local_files_only", "token")
            if key in options
        }
        folder = Path(model_id)
        if folder.exists():
            weights = folder / WEIGHTS
            if not (folder / CONFIG).is_file():
                raise ModelFolderError(
                    f"{folder} has no {CONFIG}: it is not a saved model. Give the folder that fit wrote."
                )
            if not weights.is_file():
                raise ModelFolderError(f"{folder} has no {WEIGHTS}. Pickled weights are never read; save them again.")
        else:
            try:
                weights = Path(hf_hub_download(repo_id=model_id, filename=WEIGHTS, **hub))
            except EntryNotFoundError as error:
                raise ModelFolderError(f"{model_id} has no {WEIGHTS}. Pickled weights are never read.") from error
        _check_size(cls, options, weights)
        try:
            model: Any = cls(**options)
        except Exception as error:  # a constructor given anything may fail in any way
            raise ModelFolderError(f"{CONFIG} of {model_id} does not describe a {cls.__name__}: {error}") from error
        load_weights(model, weights, device=map_location, strict=strict)
        return model.eval()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a model from a folder written by `save_pretrained` (or `paperworks fit`), or from a hub repository.

        Raises:
            ModelFolderError: a file is missing, truncated, of the wrong model, or would need pickle.
        """
        folder = Path(pretrained_model_name_or_path)
        if folder.exists():
            if not folder.is_dir():
                raise ModelFolderError(f"{folder} is a file; give the folder that holds {CONFIG} and {WEIGHTS}.")
            read_config(folder / CONFIG)
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        ModelFolderError: it is absent, too large to be a configuration, not JSON, or not an object.
    """
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing: it is not a saved model. Give the folder that fit wrote.")
    if path.stat().st_size > 10_000_000:
        raise ModelFolderError(f"{path} is larger than 10 MB: that is not a model configuration.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelFolderError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelFolderError(f"{path} holds a {type(config).__name__}; expected a JSON object of keyword arguments.")
    return config


def load_weights(model: nn.Module, path: Path, device: str = "cpu", strict: bool = True) -> None:
    """Read a safetensors file into `model`.

    Raises:
        ModelFolderError: the file is not safetensors, or its names or shapes are not those of the model.
    """
    try:
        with safe_open(str(path), framework="pt", device=device) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFolderError(f"{path} is not a readable safetensors file ({error}).") from error
    state = model.state_dict()
    missing = sorted(_without_aliases(state, tensors))
    unknown = sorted(tensors.keys() - state.keys())
    if strict and (missing or unknown):
        raise ModelFolderError(
            f"{path} does not fit {type(model).__name__}: missing {missing[:5] or 'nothing'}, "
            f"unknown {unknown[:5] or 'nothing'}."
        )
    for name, tensor in tensors.items():
        if name in state and state[name].shape != tensor.shape:
            raise ModelFolderError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, the configuration asks for {tuple(state[name].shape)}"
            )
        if tensor.is_floating_point() and not math.isfinite(float(tensor.double().abs().sum())):
            raise ModelFolderError(f"{path}: {name} holds NaN or infinite values.")
    model.load_state_dict(tensors, strict=False)
    model.to(device)


def _check_size(cls: Any, options: dict[str, Any], weights: Path) -> None:
    """Refuse a configuration of far more memory than its weights fill, before any of it is taken.

    It is built without memory, and given up as soon as it has grown too large: a depth of a billion is never reached.
    """
    size, stored = 0, weights.stat().st_size
    allowed = max(2**26, 4 * stored)  # 4: half precision, and tied weights that are stored once
    try:
        with _growing_to(4 * allowed, 2_000 + stored // 16), torch.device("meta"):
            size = sum(tensor.numel() * tensor.element_size() for tensor in cls(**options).state_dict().values())
    except _TooLarge as error:
        size = error.size
    except (OverflowError, MemoryError):
        size = 2**63
    except RuntimeError as error:
        size = 2**63 if "overflow" in str(error) else 0
    except Exception:  # told when it is built in earnest
        return
    if size > allowed:
        asked = f"at least {size:,} bytes" if size < 2**63 else "more bytes than there are numbers for"
        raise ModelFolderError(f"{CONFIG} asks for {asked} of weights; {weights} holds {stored:,}. Save it again.")


class _TooLarge(Exception):
    def __init__(self, size: int):
        super().__init__(size)
        self.size = size


@contextlib.contextmanager
def _growing_to(limit: int, parts: int) -> Iterator[None]:
    """Raises _TooLarge when the modules that this thread builds inside register more than `limit` bytes or `parts`.

    Every tensor has an entry of some fifty bytes in the file of weights, so a small file has few parts.
    """
    taken, counted, thread = 0, 0, threading.get_ident()

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal taken, counted
        if threading.get_ident() == thread:
            counted += 1
            taken += part.numel() * part.element_size() if isinstance(part, torch.Tensor) else 0
            if taken > limit or counted > parts:
                raise _TooLarge(max(taken, limit))

    hooks = (
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
        register_module_module_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without_aliases(state: dict[str, torch.Tensor], tensors: dict[str, torch.Tensor]) -> set[str]:
    """Names of `state` absent from `tensors`, except those that share memory with one that is there (tied weights)."""
    there = {state[name].data_ptr() for name in tensors if name in state and state[name].numel()}
    return {name for name in state.keys() - tensors.keys() if state[name].data_ptr() not in there}


def published_size(parameters: int) -> Callable[[Build], Build]:
    """Mark a function that builds a published size and says how many parameters it must have.

    The contract tests build every function so marked and count.
    """

    def mark(build: Build) -> Build:
        build.parameters = parameters  # type: ignore[attr-defined]
        return build

    return mark
