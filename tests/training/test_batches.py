"""Batches: a pure function of the step, every row once an epoch, lazily too."""

import pytest
import torch

from paperworks.training import Batches

ROWS = (torch.arange(10), torch.arange(10) * 10)


def test_a_step_always_gives_the_same_batch():
    forwards, backwards = Batches(ROWS, 3, seed=5), Batches(ROWS, 3, seed=5)
    ahead = [forwards(step) for step in range(12)]
    behind = [backwards(step) for step in reversed(range(12))][::-1]
    assert all(torch.equal(a, b) for one, two in zip(ahead, behind, strict=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("drop_last", "steps", "rows"), [(True, 3, 9), (False, 4, 10)])
def test_an_epoch_holds_every_row_once(drop_last, steps, rows):
    batches = Batches(ROWS, 3, seed=0, drop_last=drop_last)
    assert batches.steps_per_epoch == steps
    for epoch in range(3):
        seen = torch.cat([batches(epoch * steps + step)[0] for step in range(steps)])
        assert len(seen) == len(set(seen.tolist())) == rows


def test_rows_stay_together_and_epochs_and_seeds_differ():
    batches = Batches(ROWS, 5, seed=0)
    x, y = batches(0)
    assert torch.equal(10 * x, y)
    orders = {tuple(Batches(ROWS, 10 - 1, seed=s)(e)[0].tolist()) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4


def test_a_batch_of_everything_is_not_copied():
    assert Batches(ROWS, 99)(7)[0] is ROWS[0]


class Lazy:
    def __init__(self):
        self.asked = []

    def __len__(self):
        return 10

    def __getitem__(self, index):
        self.asked.append(len(index))
        return torch.tensor(index), 10 * torch.tensor(index)


def test_lazy_rows_are_read_as_the_same_batches_and_no_more_than_one_ahead():
    lazy, plain = Lazy(), Batches(ROWS, 4, seed=2)
    batches = Batches(lazy, 4, seed=2)
    for step in (0, 1, 2, 7, 3):
        for ours, theirs in zip(batches(step), plain(step), strict=True):
            assert torch.equal(ours, theirs)
    assert sum(lazy.asked) <= 4 * 2 * 5


def test_in_order_lists_all_rows():
    assert [row for part in Batches(ROWS, 4).in_order() for row in part] == list(range(10))


@pytest.mark.parametrize(
    ("rows", "told"), [((torch.empty(0),), "no rows"), ((torch.ones(2), torch.ones(3)), "one length")]
)
def test_what_makes_no_batches_is_refused(rows, told):
    with pytest.raises(ValueError, match=told):
        Batches(rows, 2)
