"""Text to learn from: a made language whose entropy is known, text files by character, and files of tokens.

The made language needs no download and is the same on every machine. Words follow words by a Markov chain, so its
entropy, the loss below which no model of its characters can come, is known.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paperworks.errors import DataFileError

CONSONANTS, VOWELS = "bcdfghklmnprstvwz", "aeiou"
STREAMS = 256  # texts that are drawn side by side
LARGEST_TEXT = 1 << 28  # bytes; more belongs into a token file, which is not read into memory
MOST_CHARACTERS = 8192


class MadeLanguage:
    """Words of three to seven letters; each is followed by one of `followers` words, likelier ones first.

    A text is words with a space after each, without an end. Spelled so, characters determine words, and the entropy of
    a character is that of a word over the mean length of a word.

    Args:
        words: how many there are.
        followers: how many can follow each; the k-th has a chance proportional to 1 / k.
        seed: of spelling and grammar.

    Attributes:
        characters: those that occur, in order; a token is a place among them.
        entropy: in nats a character.
    """

    def __init__(self, words: int = 400, followers: int = 8, seed: int = 0):
        rng = np.random.default_rng([77, seed])
        self.characters = "".join(sorted(CONSONANTS + VOWELS + " "))
        spelled: dict[str, None] = {}
        while len(spelled) < words:
            length, vowel = int(rng.integers(3, 8)), bool(rng.integers(2))
            letters = [str(rng.choice(list(VOWELS if (i + vowel) % 2 else CONSONANTS))) for i in range(length)]
            spelled["".join(letters)] = None
        self.words = list(spelled)
        self.next = np.stack([rng.choice(words, followers, replace=False) for _ in range(words)])
        chances = 1 / np.arange(1, followers + 1)
        self.chances = chances / chances.sum()
        lengths = np.array([len(word) + 1 for word in self.words])
        self.frequency = self._stationary()
        self.entropy = float(-(self.chances * np.log(self.chances)).sum() / (self.frequency @ lengths))

    def _stationary(self) -> np.ndarray:
        """How often each word occurs."""
        share = np.full(len(self.words), 1 / len(self.words))
        for _ in range(10_000):
            after = np.bincount(self.next.ravel(), np.outer(share, self.chances).ravel(), len(self.words))
            if np.abs(after - share).max() < 1e-14:
                break
            share = (after + share) / 2
        return share

    def text(self, length: int, seed: int) -> Tensor:
        """About `length` tokens of many texts side by side, one after another; int64."""
        rng = np.random.default_rng([78, seed])
        codes = {character: code for code, character in enumerate(self.characters)}
        spelled = [np.array([codes[c] for c in f"{word} "]) for word in self.words]
        mean = float(self.frequency @ np.array([len(codes) for codes in spelled]))
        count = max(2, round(length / STREAMS / mean))
        chain = np.empty((count, STREAMS), np.int64)
        chain[0] = rng.choice(len(self.words), STREAMS, p=self.frequency / self.frequency.sum())
        steps = rng.choice(len(self.chances), (count, STREAMS), p=self.chances)
        for place in range(1, count):
            chain[place] = self.next[chain[place - 1], steps[place]]
        return torch.from_numpy(np.concatenate([spelled[word] for word in chain.T.ravel()]))


class Windows:
    """Stretches of a long row of tokens: `windows[indices] -> (tokens, the tokens after)`, each (n, context) int64.

    Args:
        tokens: 1-D; an int64 tensor, or a memory map of a token file.
        context: tokens a window.
        stride: from one window's start to the next's; `context` uses each token once.
    """

    def __init__(self, tokens: Any, context: int, stride: int | None = None):
        self.tokens, self.context, self.stride = tokens, context, stride or context
        self.count = max(0, (len(tokens) - context - 1) // self.stride + 1) if len(tokens) > context else 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.at(self.stride * np.asarray(indices, np.int64))

    def at(self, starts: Any) -> tuple[Tensor, Tensor]:
        """Windows that begin at these places."""
        places = np.asarray(starts, np.int64)[:, None] + np.arange(self.context + 1)
        if isinstance(self.tokens, Tensor):
            rows = self.tokens[torch.from_numpy(places)]
        else:
            rows = torch.from_numpy(np.asarray(self.tokens)[places].astype(np.int64))
        return rows[:, :-1], rows[:, 1:]


def read_text(path: Path | str) -> str:
    """A text file, line ends as newlines.

    Raises:
        DataFileError: missing, a folder, not UTF-8, empty, or too large.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_TEXT:
            raise DataFileError(
                f"{path}: {size:,} bytes; a text is read by character up to {LARGEST_TEXT:,}. Turn it into tokens and "
                "give them as uint16 in a .bin file"
            )
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}; give a text file") from error
    except UnicodeDecodeError as error:
        raise DataFileError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}; save it as UTF-8"
        ) from error
    if not text:
        raise DataFileError(f"{path} is empty; give a text to learn from")
    return text


def alphabet(text: str, path: Path | str) -> str:
    """The characters that occur, in order.

    Raises:
        DataFileError: too many for a vocabulary.
    """
    characters = "".join(sorted(set(text)))
    if len(characters) > MOST_CHARACTERS:
        raise DataFileError(
            f"{path}: {len(characters)} different characters, at most {MOST_CHARACTERS}; tokenise it into a .bin file"
        )
    return characters


def encode(text: str, characters: str, path: Path | str) -> Tensor:
    """Places of the text's characters in the alphabet, int64.

    Raises:
        DataFileError: a character that is not in it; names its line.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    known = np.array([ord(c) for c in characters], np.uint32)
    places = np.searchsorted(known, codes).clip(max=len(known) - 1)
    strange = np.flatnonzero(known[places] != codes)
    if len(strange):
        at = int(strange[0])
        line = text.count("\n", 0, at) + 1
        raise DataFileError(f"{path}, line {line}: the model was fitted on a text without the character {text[at]!r}")
    return torch.from_numpy(places)


def token_file(path: Path | str) -> np.ndarray:
    """A memory map of a file of uint16 tokens without a header, as nanoGPT's scripts write them.

    Raises:
        DataFileError: missing, a folder, empty, or an odd number of bytes.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size == 0 or size % 2:
            raise DataFileError(f"{path}: {size} bytes; a token file holds two bytes (uint16) a token and no header")
        return np.memmap(path, np.dtype("<u2"), "r")
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}; give a file of tokens") from error
