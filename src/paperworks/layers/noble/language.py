"""Text to learn from: a made language whose entropy is known, and Tiny Shakespeare.

The made language needs no download and is the same on every machine. Words follow words by a Markov chain, so its
entropy, the loss below which no model of its characters can come, is known.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from paperworks.errors import DataFileError

SHAKESPEARE = "text/tinyshakespeare.txt"
CONSONANTS, VOWELS = "bcdfghklmnprstvwz", "aeiou"
STREAMS = 256  # texts that are drawn side by side


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


def shakespeare(root: Path | str) -> tuple[Tensor, str]:
    """Tiny Shakespeare from `root`/text/tinyshakespeare.txt: tokens and the characters they stand for.

    Raises:
        DataFileError: the file is missing or not UTF-8.
    """
    path = Path(root) / SHAKESPEARE
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataFileError(
            f"{path} cannot be read: {error}; it is karpathy/char-rnn's data/tinyshakespeare"
        ) from error
    characters = "".join(sorted(set(text)))
    place = {character: code for code, character in enumerate(characters)}
    return torch.tensor([place[character] for character in text]), characters
