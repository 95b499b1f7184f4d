"""The problems of arXiv 2602.17493 as tables of bits, and networks of random gates.

Bits are 0 and 1 here; a search takes -1 and 1: `2 * bits - 1`.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from .wiring import Wiring


def _bits(values: Tensor, n: int) -> Tensor:
    """(rows,) -> (rows, n), the most significant bit first."""
    return values[:, None].bitwise_right_shift(torch.arange(n - 1, -1, -1)).bitwise_and(1)


def all_inputs(n: int) -> Tensor:
    """Every row of n bits, (2^n, n), the first bit most significant."""
    if not 0 <= n <= 24:
        raise ValueError(f"n: from 0 to 24 bits, given {n}")
    return _bits(torch.arange(2**n), n)


def multiplier_table(n: int) -> tuple[Tensor, Tensor]:
    """Products of two n-bit numbers: (4^n, 2n) bits in, (4^n, 2n) bits out, most significant bits first."""
    if not 1 <= n <= 8:
        raise ValueError(f"n: from 1 to 8 bits, given {n}")
    x = all_inputs(2 * n)
    first, second = torch.arange(4**n) // 2**n, torch.arange(4**n) % 2**n
    return x, _bits(first * second, 2 * n)


def code_words(n: int, generator: torch.Generator, one_hot: bool = False) -> Tensor:
    """n words of n bits to be encoded: distinct random ones as in the authors' files, or one-hot ones."""
    if one_hot:
        return torch.eye(n, dtype=torch.long)
    if n < 1:
        raise ValueError(f"n: from 1, given {n}")
    words: dict[tuple[int, ...], None] = {}
    while len(words) < n:
        words.setdefault(tuple(torch.randint(0, 2, (n,), generator=generator).tolist()))
    return torch.tensor(list(words))


def cellular_automaton(rule: int, x: Tensor, steps: int = 1, neighbours: int = 3) -> Tensor:
    """Wolfram's automata on a ring: the state after some steps.

    Args:
        rule: number of the rule, below 2^(2^neighbours).
        x: (rows, cells) bits.
        neighbours: odd; of a cell's neighbourhood the left-most one is the most significant bit.
    """
    if neighbours % 2 == 0 or neighbours < 1:
        raise ValueError(f"neighbours: an odd number, given {neighbours}")
    if not 0 <= rule < 2 ** (2**neighbours):
        raise ValueError(f"rule: from 0 to {2 ** (2**neighbours) - 1}, given {rule}")
    table = torch.tensor([rule >> pattern & 1 for pattern in range(2**neighbours)])
    radius = neighbours // 2
    for _ in range(steps):
        pattern = torch.zeros_like(x)
        for offset in range(-radius, radius + 1):
            pattern = 2 * pattern + torch.roll(x, -offset, 1)
        x = table[pattern]
    return x


def random_logic_network(
    widths: list[int] | tuple[int, ...], generator: torch.Generator, kind: str = "and_or", share: float = 0.5
) -> Tensor:
    """Weights (edges,) of a layered network of random gates, in the order of `Wiring.layered(widths)`.

    Every node is, with probability `share`, a gate: AND / OR of two distinct, possibly negated inputs (`and_or`), or
    the majority of three (`majority`); else it copies or negates one. While fewer inputs have been used than neurons of
    the layer drawn, the last input of a node is drawn among those that nobody uses.
    """
    if kind not in ("and_or", "majority"):
        raise ValueError(f"kind: and_or or majority, given {kind!r}")
    if min(widths[:-1]) < (2 if kind == "and_or" else 3):
        raise ValueError(f"widths: too few inputs for a gate in {list(widths)}")

    def below(n: int) -> int:
        return int(torch.randint(0, n, (), generator=generator))

    weights: list[Tensor] = []
    for n_in, n_out in pairwise(widths):
        used: set[int] = set()
        degree = n_in + 1
        for number in range(n_out):
            gate = float(torch.rand((), generator=generator)) < share
            chosen: list[int] = []
            while gate and len(chosen) < (1 if kind == "and_or" else 2):
                one = below(n_in)
                if one not in chosen:
                    chosen.append(one)
            spare = [i for i in range(n_in) if i not in used and i not in chosen]
            if not (len(used) < number + 1 and spare):
                spare = [i for i in range(n_in) if i not in chosen]
            chosen.append(spare[below(len(spare))])
            used |= set(chosen)
            row = torch.zeros(degree)
            seen = [1 + i for i in chosen] + ([0] if gate and kind == "and_or" else [])
            for place in seen:
                row[place] = (2 * below(2) - 1) * math.sqrt(degree / len(seen))
            weights.append(row)
    return torch.cat(weights)


def wiring_of(name: str) -> Wiring:
    """The networks of the paper's problems by name, such as `multiplier_2x2`."""
    try:
        return Wiring.layered(WIDTHS[name])
    except KeyError:
        raise ValueError(f"name: one of {', '.join(WIDTHS)}, given {name!r}") from None


WIDTHS = {
    "multiplier_2x2": (4, 4, 4, 4),
    "multiplier_3x3": (6, 12, 12, 12, 6),
    "autoencoder_8": (8, 3, 8, 8),
    "autoencoder_16": (16, 4, 16, 16),
    "autoencoder_32": (32, 5, 32, 32),
    "rule_30": (16, 32, 32, 16),
    "rule_30_wide": (16, 48, 16),
    "rule_30_twice": (16, 48, 48, 48, 16),
    "random_circuit": (32, 32, 32, 32, 32, 32),
    "generative_digits": (16, 256, 256),
    "small_digits": (64, 10),
}
