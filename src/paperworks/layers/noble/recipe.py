"""A small GPT with NOBLE's branches on a user's text: `paperworks fit noble text.txt`, or uint16 tokens in a .bin."""

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import DataFileError, SettingError
from paperworks.training.recipe import Part, Recipe, UserData

from .branch import NONLINEARITIES
from .convert import branch_shares
from .gpt import NobleGPT
from .language import Windows, alphabet, encode, read_text, token_file
from .model import lr_multiplier_groups

SCORED = 2000  # windows of a part, spread over it
AT_ONCE = 32
DENSE = 1 << 24  # tokens; windows to train on begin at every one of so many, and one after another in a longer file


def read(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> UserData:
    """Characters of a text, or tokens; the last part of the file validates."""
    tokens, description = _tokens(path, settings, saved)
    context = description["context"]
    if saved is not None:
        if len(tokens) < 2:
            raise DataFileError(f"{path}: {len(tokens)} token; at least 2 are needed")
        windows = Windows(tokens, min(context, len(tokens) - 1))
        return UserData(dict(saved), everything=Part(windows, len(windows)), extra=tokens)
    held = round(settings["validation"] * len(tokens))
    parts = []
    for name, rows in (("train on", tokens[: len(tokens) - held]), ("validate on", tokens[len(tokens) - held :])):
        windows = Windows(rows, context, 1 if name == "train on" and len(rows) <= DENSE else context)
        if not len(windows) and (name == "train on" or held):
            raise DataFileError(
                f"{path}: {len(tokens):,} tokens leave {len(rows):,} to {name}, and a window takes {context + 1}; "
                "give a longer text, or --set context=..."
            )
        parts.append(Part(windows, len(windows)) if len(windows) else None)
    return UserData(description, train=parts[0], validation=parts[1])


def _tokens(path: Path, settings: Mapping[str, Any], saved: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """The file's tokens, and what a model must know of them."""
    kind = "tokens" if path.suffix.lower() == ".bin" else "text"
    if saved is not None and kind != saved["kind"]:
        wanted = "a .bin file of tokens" if saved["kind"] == "tokens" else "a text file"
        raise DataFileError(f"{path}: the model was fitted on {wanted}; give one")
    made = dict(saved) if saved is not None else _checked(settings) | {"kind": kind}
    if kind == "tokens":
        tokens = token_file(path)
        highest = max(int(tokens[i : i + 2**24].max()) for i in range(0, len(tokens), 2**24))
        size = int(made.setdefault("vocab_size", settings["vocab_size"] or highest + 1))
        if highest >= size:
            raise DataFileError(f"{path}: token {highest}, and the vocabulary has {size}: tokenised by another one?")
        return tokens, made
    text = read_text(path)
    characters = made.setdefault("characters", alphabet(text, path) if saved is None else "")
    made["vocab_size"] = len(characters)
    return encode(text, characters, path), made


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of the settings goes with the model."""
    for name in ("context", "embed_dim", "depth", "num_heads"):
        if settings[name] < 1:
            raise SettingError(f"setting {name}={settings[name]}: a whole number from 1")
    for name in ("rank", "length", "vocab_size", "temperature"):
        if settings[name] < 0:
            raise SettingError(f"setting {name}={settings[name]}: a number from 0")
    if settings["vocab_size"] > 2**16:
        raise SettingError(f"setting vocab_size={settings['vocab_size']}: at most 65536, since tokens are uint16")
    if settings["optimizer"] != "adamw":
        raise SettingError(f"setting optimizer={settings['optimizer']}: NOBLE's learning rates are for adamw")
    if settings["nonlinearity"] not in NONLINEARITIES:
        raise SettingError(f"setting nonlinearity={settings['nonlinearity']}: one of {', '.join(NONLINEARITIES)}")
    return {name: settings[name] for name in ("context", "length", "temperature", "seed")}


def build(description: Mapping[str, Any], settings: Mapping[str, Any]) -> NobleGPT:
    """A GPT by its settings; `rank=0` has no branches."""
    names = ("context", "embed_dim", "depth", "num_heads", "rank", "nonlinearity")
    return NobleGPT(description["vocab_size"], **{name: settings[name] for name in names})


def loss(model: NobleGPT, batch: tuple[Tensor, ...]) -> Tensor:
    """Cross-entropy of the next token."""
    return model.loss(*batch)


def method(model: NobleGPT, settings: Mapping[str, Any]) -> tuple[Callable[..., Tensor], Callable[[Any], Any]]:
    """AdamW with the branches' learning rates; decay on matrices alone."""
    groups = lr_multiplier_groups(model, settings["lr"], settings["weight_decay"])
    return loss, lambda _: torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


@torch.no_grad()
def losses(model: nn.Module, windows: Windows, most: int | None = None) -> Tensor:
    """Of every token, (windows, context), in nats; of `most` windows spread over all."""
    count = len(windows) if most is None else min(most, len(windows))
    rows = [i * len(windows) // count for i in range(count)]
    device = next(model.parameters()).device
    found = []
    for start in range(0, count, AT_ONCE):
        tokens, after = (part.to(device) for part in windows[rows[start : start + AT_ONCE]])
        found.append(F.cross_entropy(model(tokens).transpose(1, 2), after, reduction="none").float().cpu())
    return torch.cat(found)


def score(model: nn.Module, part: Part, description: Mapping[str, Any]) -> dict[str, float]:
    """Mean loss in nats a token, and perplexity, over at most 2,000 windows spread over the part."""
    mean = float(losses(model, part.rows, SCORED).mean())
    return {"loss": mean, "perplexity": math.exp(min(mean, 700))}


def pictures(model: NobleGPT, part: Part, description: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Loss by place in the window, and how large the branches have become."""
    by_place = losses(model, part.rows, 256).mean(0)
    shown = [
        {
            "title": "What context is worth",
            "kind": "lines",
            "x": list(range(1, len(by_place) + 1)),
            "series": {"loss": by_place.tolist()},
            "x_label": "tokens seen",
            "y_label": "nats a token",
            "caption": "mean loss by the number of tokens that the model has seen before",
        }
    ]
    shares = branch_shares(model, part.rows[range(min(4, len(part.rows)))][0].to(next(model.parameters()).device))
    if shares:
        shown.append(
            {
                "title": "What the branches add, as a share of their main layers' outputs",
                "kind": "bars",
                "labels": [name.removeprefix("blocks.").replace("attention.", "") for name in shares],
                "values": list(shares.values()),
                "caption": "block and projection; root mean square of the branch over that of the main layer",
            }
        )
    return shown


@torch.no_grad()
def predict(model: nn.Module, data: UserData, out: Path) -> int:
    """What follows the file (`out` ends in .txt, or .bin for tokens), or a CSV with the loss of every window of it.

    Raises:
        DataFileError: another ending.
    """
    d, kind = data.description, data.description["kind"]
    assert isinstance(model, NobleGPT)
    ending = ".bin" if kind == "tokens" else ".txt"
    if out.suffix.lower() == ending:
        device = next(model.parameters()).device
        given = torch.from_numpy(np.asarray(data.extra[-d["context"] :]).astype(np.int64)).to(device)
        drawn = torch.Generator().manual_seed(d["seed"])
        new = model.eval().continue_tokens(given, d["length"], d["temperature"], drawn).cpu().numpy()
        if kind == "tokens":
            out.write_bytes(new.astype("<u2").tobytes())
        else:
            out.write_text("".join(d["characters"][code] for code in new), encoding="utf-8")
        return len(new)
    if out.suffix.lower() != ".csv":
        raise DataFileError(f"--out {out}: it ends in .csv for losses, or in {ending} for what follows")
    assert data.everything is not None
    windows: Windows = data.everything.rows
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["window", "first_token", "loss", "perplexity"])
        for number, value in enumerate(losses(model.eval(), windows).double().mean(1).tolist()):
            row = [number + 1, number * windows.stride + 2, f"{value:.6g}", f"{math.exp(min(value, 700)):.6g}"]
            writer.writerow(row)
    return data.everything.count


recipe = Recipe(
    slug="noble",
    settings={
        "context": 64,
        "embed_dim": 64,
        "depth": 2,
        "num_heads": 4,
        "rank": 8,
        "nonlinearity": "cosnet",
        "vocab_size": 0,  # of a token file; 0: the highest token and one
        "validation": 0.1,
        "length": 400,  # tokens of a continuation
        "temperature": 0.8,
        "batch_size": 16,
        "lr": 3e-3,
        "warmup": 20,
        "weight_decay": 0.01,
        "optimizer": "adamw",
    },
    read=read,
    build=build,
    model=NobleGPT,
    loss=loss,
    score=score,
    predict=predict,
    task="text-generation",
    pictures=pictures,
    method=method,
)
