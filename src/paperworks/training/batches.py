"""Batches as a pure function of the step, so that a killed run that goes on sees the same ones."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor


class Batches:
    """`batches(step) -> tuple of tensors`: shuffled epochs, each permutation made from (seed, epoch) alone.

    Args:
        rows: a tuple of tensors with rows on axis 0, or a lazy dataset with `len()` and
            `dataset[list of indices] -> tuple of tensors`, which is read one batch ahead in a thread.
        batch_size: rows a batch; at most as many as there are.
        seed: of the shuffling.
        drop_last: leave out an epoch's last, smaller batch.
    """

    def __init__(self, rows: Any, batch_size: int, seed: int = 0, drop_last: bool = True):
        self.rows, self.seed = rows, seed
        self.lazy = not isinstance(rows, tuple | list)
        self.count = len(rows) if self.lazy else len(rows[0])
        if self.count < 1:
            raise ValueError("no rows to make batches of")
        if not self.lazy and any(len(tensor) != self.count for tensor in rows):
            raise ValueError(f"rows: tensors of one length expected, given {[len(tensor) for tensor in rows]}")
        self.batch_size = min(batch_size, self.count)
        whole, rest = divmod(self.count, self.batch_size)
        self.steps_per_epoch = whole + (0 if drop_last or not rest else 1)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)
        self._ahead: tuple[int, Future[Any]] | None = None
        self._reader: ThreadPoolExecutor | None = None

    def __call__(self, step: int) -> tuple[Tensor, ...]:
        """The batch of this step, counted from 0."""
        if not self.lazy:
            if self.batch_size == self.count:
                return tuple(self.rows)
            index = self.indices(step)
            return tuple(tensor[index] for tensor in self.rows)
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, thread_name_prefix="batches")
        ahead, self._ahead = self._ahead, None
        batch = ahead[1].result() if ahead and ahead[0] == step else self._read(self.indices(step))
        self._ahead = (step + 1, self._reader.submit(self._read, self.indices(step + 1)))
        return batch

    def _read(self, index: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.rows[index.tolist()])

    def indices(self, step: int) -> Tensor:
        """Which rows the batch of this step holds."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
            self._order, self._epoch = torch.randperm(self.count, generator=generator), epoch
        return self._order[place * self.batch_size : (place + 1) * self.batch_size]

    def in_order(self, batch_size: int | None = None) -> Sequence[list[int]]:
        """All rows once, unshuffled, as lists of indices: for scoring."""
        size = batch_size or self.batch_size
        return [list(range(i, min(i + size, self.count))) for i in range(0, self.count, size)]
