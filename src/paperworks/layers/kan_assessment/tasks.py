"""Tasks on which KANs and perceptrons are compared: special functions, tables, classes one group after another."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

FORMULAS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ellipeinc": lambda x, y: special.ellipeinc(x, y),
    "lpmv1": lambda x, y: special.lpmv(1, x, y),
    "exp_sin": lambda x, y: np.exp(np.sin(np.pi * (2 * x - 1)) + (2 * y - 1) ** 2),
    "bessel": lambda x, y: special.jv(0, 20 * x),
}
INPUTS = {"bessel": 1}
TABLES = ("digits", "breast_cancer", "wine")


@dataclass(frozen=True)
class Task:
    """Inputs and targets in three parts; `classes` is 0 for a number to predict, which is then standardised."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    classes: int

    @property
    def n_in(self) -> int:
        """Inputs."""
        return self.train[0].shape[1]

    @property
    def n_out(self) -> int:
        """Outputs that a network needs."""
        return self.classes or 1


def formula_task(name: str, seed: int, n_train: int = 800, n_val: int = 200, n_test: int = 1000) -> Task:
    """A function of scipy.special (or a formula) at random points of [0, 1]^d, handed over on [-1, 1]^d.

    Raises:
        ValueError: an unknown name.
    """
    if name not in FORMULAS:
        raise ValueError(f"formula {name!r}: one of {', '.join(FORMULAS)}")
    points = np.random.default_rng(seed).uniform(size=(n_train + n_val + n_test, 2))
    values = FORMULAS[name](points[:, 0], points[:, 1])
    x = torch.tensor(2 * points[:, : INPUTS.get(name, 2)] - 1, dtype=torch.float32)
    y = torch.tensor(values, dtype=torch.float64)
    y = ((y - y[:n_train].mean()) / y[:n_train].std()).float()[:, None]
    parts = [(x[i:j], y[i:j]) for i, j in ((0, n_train), (n_train, n_train + n_val), (n_train + n_val, None))]
    return Task(parts[0], parts[1], parts[2], 0)


def split_task(x: np.ndarray, y: np.ndarray, classes: int, seed: int) -> Task:
    """Rows split 60 / 20 / 20, stratified by class; inputs standardised with the training rows' statistics."""
    from sklearn.model_selection import train_test_split

    order = np.arange(len(y))
    rest, test = map(
        np.asarray, train_test_split(order, test_size=0.2, stratify=_strata(y, classes, order), random_state=seed)
    )
    train, val = map(
        np.asarray, train_test_split(rest, test_size=0.25, stratify=_strata(y, classes, rest), random_state=seed)
    )
    mean, std = x[train].mean(0), x[train].std(0)
    scaled = torch.tensor((x - mean) / np.where(std > 1e-7 * (1 + np.abs(mean)), std, 1.0), dtype=torch.float32)
    if classes:
        target = torch.tensor(y, dtype=torch.int64)
    else:
        spread = y[train].std()
        target = torch.tensor((y - y[train].mean()) / (spread or 1.0), dtype=torch.float32)[:, None]
    parts = [(scaled[rows], target[rows]) for rows in (train, val, test)]
    return Task(parts[0], parts[1], parts[2], classes)


def _strata(y: np.ndarray, classes: int, rows: np.ndarray) -> np.ndarray | None:
    """Labels to keep in proportion, where every class has enough rows for that."""
    if not classes or np.bincount(y[rows].astype(int), minlength=classes).min() < 4:
        return None
    return y[rows]


def table_task(name: str, seed: int) -> Task:
    """One of scikit-learn's bundled tables."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return split_task(x, y, int(y.max()) + 1, seed)


def class_incremental(task: Task, groups: list[list[int]]) -> list[tuple[Tensor, Tensor]]:
    """The training rows of one group of classes after another."""
    x, y = task.train
    found = []
    for group in groups:
        rows = torch.isin(y, torch.tensor(group))
        found.append((x[rows], y[rows]))
    return found
