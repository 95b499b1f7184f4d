"""How a classifier holds out: attacks inside an L-infinity ball, noise, and signs that its gradient is masked.

Works on any callable that gives logits. An attack that follows the gradient of the cross-entropy fails where the
softmax saturates: the gradient becomes exactly zero in floating point, `sign(0) = 0`, and nothing moves, although the
network is as easily fooled as before (Athalye et al. 2018, arXiv 1802.00420). So four measures stand beside the fast
gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572): projected gradient steps (Madry et al. 2018, arXiv
1706.06083) on the margin of the logits, which never saturates; examples made with another network; the same attack in
float64; and the share of rows whose gradient is zero.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Classifier = Callable[[Tensor], Any]
Bounds = tuple[float, float] | None
ATTACKS = ("fgsm", "fgsm_true", "fgsm_float64", "margin_pgd", "transfer")
NOISES = ("uniform", "positive", "gaussian")
TITLES = {
    "fgsm": "FGSM, the model's own label",
    "fgsm_true": "FGSM, true label",
    "fgsm_float64": "FGSM, own label, float64",
    "margin_pgd": "margin PGD",
    "transfer": "transferred FGSM",
    "worst": "all attacks together",
    "uniform": "noise U(-eps, eps)",
    "positive": "noise U(0, eps)",
    "gaussian": "noise N(0, eps)",
}
EPS = (0.02, 0.05, 0.1, 0.2, 0.3)


def logits_of(model: Classifier, x: Tensor) -> Tensor:
    """The model's logits (rows, classes); an output with a field `logits` (as in transformers) is unwrapped.

    Raises:
        ValueError: of another shape, or not finite.
    """
    out = model(x)
    logits = getattr(out, "logits", out)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        given = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"model: expected logits of shape ({len(x)}, classes) with two classes or more, given {given}")
    return logits


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """The largest logit of another class minus that of the label, (rows,): above 0 the row is misclassified."""
    own = logits.gather(1, y[:, None])[:, 0]
    return logits.scatter(1, y[:, None], -math.inf).amax(1) - own


def input_gradient(model: Classifier, x: Tensor, y: Tensor, loss: str = "cross_entropy") -> Tensor:
    """Each row's gradient of its own loss with respect to x: `cross_entropy`, or `margin` of the logits.

    Both are linear in the logits' gradient, which is handed to the backward pass as it is: softmax minus one-hot, or
    the strongest rival minus the label. No mean over rows, which would push small gradients to zero.
    """
    return _step_gradient(model, x, y, loss)[0]


def _step_gradient(model: Classifier, x: Tensor, y: Tensor, loss: str, target: Tensor | None = None) -> Any:
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = logits_of(model, x)
    with torch.no_grad():
        values, place = logits.detach(), y[:, None]
        if loss == "cross_entropy":
            towards = values.softmax(1)
        elif loss == "margin":
            towards = torch.zeros_like(values)
            rival = values.scatter(1, place, -math.inf).argmax(1) if target is None else target
            towards.scatter_(1, rival[:, None], 1.0)
        else:
            raise ValueError(f"loss {loss!r}: cross_entropy or margin")
        towards.scatter_add_(1, place, torch.full_like(place, -1, dtype=towards.dtype))
    if not logits.requires_grad:
        raise ValueError("model: its output does not depend on x by torch operations, so it has no gradient to attack")
    (gradient,) = torch.autograd.grad(logits, x, towards)
    return gradient, values


def fgsm(
    model: Classifier, x: Tensor, y: Tensor | None = None, eps: float = 0.1, *, bounds: Bounds = (0.0, 1.0)
) -> Tensor:
    """Fast gradient sign method: `clip(x + eps sign(dCE/dx))`, like x.

    Args:
        y: labels (rows,); None: the model's own predictions, so that a wrong prediction may be repaired.
        bounds: smallest and largest value of an input, or None.
    """
    if y is None:
        with torch.no_grad():
            y = logits_of(model, x).argmax(1)
    return _moved(x, input_gradient(model, x, y), eps, bounds)


def _moved(x: Tensor, gradient: Tensor, eps: float, bounds: Bounds) -> Tensor:
    return _clip(x + eps * gradient.sign().to(x.dtype), bounds)


def _clip(x: Tensor, bounds: Bounds) -> Tensor:
    return x if bounds is None else x.clamp(*bounds)


@torch.no_grad()
def pgd(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    eps: float = 0.1,
    *,
    steps: int = 20,
    restarts: int = 1,
    step_size: float | None = None,
    loss: str = "margin",
    rivals: int = 0,
    stop: bool = True,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Projected gradient sign steps inside the ball of radius eps; each row's first example that fools the model.

    Args:
        x, y: rows and their true labels.
        steps: gradient steps of one start; `step_size` defaults to 2.5 eps / steps.
        restarts: the first starts at x, the others uniformly inside the ball.
        loss: `margin` of the logits, which does not saturate, or `cross_entropy`.
        rivals: beside the strongest rival of each step, aim at this many fixed ones (the strongest at x), one start
            each. With all of them the attack is exact on a linear model whose box is not cut by `bounds`.
        stop: leave a row alone once it is fooled; False: take all steps and return where the last start ended.

    Returns:
        Like x. Rows that nothing fooled hold the end of their last start.
    """
    if steps < 1 or restarts < 1:
        raise ValueError(f"steps, restarts: from 1, given {steps}, {restarts}")
    size = 2.5 * eps / steps if step_size is None else step_size
    found = x.clone()
    logits = logits_of(model, x)
    others = logits.scatter(1, y[:, None], -math.inf).argsort(1, descending=True)[:, :-1]
    if rivals > others.shape[1]:
        rivals = others.shape[1]
    if not stop:
        open_rows = torch.arange(len(x), device=x.device)
    else:
        open_rows = (logits.argmax(1) == y).nonzero()[:, 0]
    starts: list[int | None] = [None] * restarts + list(range(rivals))
    for number, aim in enumerate(starts):
        if not len(open_rows):
            break
        centre, labels = x[open_rows], y[open_rows]
        low, high = centre - eps, centre + eps
        if bounds is not None:
            low, high = low.clamp(*bounds), high.clamp(*bounds)
        now = centre
        if aim is None and number > 0:
            uniform = torch.rand(centre.shape, generator=generator, dtype=x.dtype, device=x.device)
            now = low + (high - low) * uniform
        rows = open_rows
        for step in range(steps + 1):
            last = step == steps
            target = None if aim is None else others[rows, aim]
            if last:
                values, gradient = (logits_of(model, now) if stop else None), None
            else:
                gradient, values = _step_gradient(model, now, labels, loss, target)
            if stop and (step or number):
                assert values is not None
                right = values.argmax(1) == labels
                if not bool(right.all()):
                    found[rows[~right]] = now[~right]
                    keep = right.nonzero()[:, 0]
                    rows, now, labels, low, high = (t[keep] for t in (rows, now, labels, low, high))
                    gradient = None if gradient is None else gradient[keep]
                    if not len(rows):
                        break
            if gradient is not None:
                now = torch.addcmul(now, gradient.sign_(), now.new_tensor(size)).clamp_(low, high)
        found[rows] = now
        open_rows = rows
    return found


def margin_pgd(model: Classifier, x: Tensor, y: Tensor, eps: float = 0.1, **options: Any) -> Tensor:
    """`pgd` on the margin of the logits."""
    return pgd(model, x, y, eps, loss="margin", **options)


@torch.no_grad()
def add_noise(
    x: Tensor,
    kind: str = "uniform",
    size: float = 0.1,
    *,
    bounds: Bounds = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Noise that knows nothing of the model: `uniform` on (-size, size), `positive` on (0, size), which also shifts
    the mean, or `gaussian` with this standard deviation."""
    if kind not in NOISES:
        raise ValueError(f"noise {kind!r}: one of {', '.join(NOISES)}")
    draw = torch.randn if kind == "gaussian" else torch.rand
    noise = draw(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    if kind == "uniform":
        noise = 2 * noise - 1
    return _clip(x + size * noise, bounds)


def zero_gradient_rows(model: Classifier, x: Tensor, y: Tensor | None = None) -> Tensor:
    """Mask (rows,) of rows whose input gradient of the cross-entropy is exactly zero: a sign of gradient masking.

    `y=None` takes the model's own predictions, as the published attack does.
    """
    if y is None:
        with torch.no_grad():
            y = logits_of(model, x).argmax(1)
    return (input_gradient(model, x, y) == 0).flatten(1).all(1)


@dataclass(frozen=True)
class Robustness:
    """What `robustness_report` counted.

    Attributes:
        eps: radii (of noise: its size).
        total: rows.
        clean: rows that are right without any attack.
        right: attack, noise or `worst` -> rows that are still right at each eps. `worst` counts the rows that
            withstand every attack of the report at this radius.
        zero_gradient: rows whose cross-entropy gradient is exactly zero.
        masks: attack or noise -> (len(eps), rows), right or not.
    """

    eps: tuple[float, ...]
    total: int
    clean: int
    right: Mapping[str, tuple[int, ...]]
    zero_gradient: int
    masks: Mapping[str, Tensor]

    @property
    def clean_accuracy(self) -> float:
        """Share of right rows without attack."""
        return self.clean / self.total

    @property
    def zero_gradient_fraction(self) -> float:
        """Share of rows that an attack along the cross-entropy's gradient cannot move."""
        return self.zero_gradient / self.total

    def accuracy(self, attack: str, eps: float) -> float:
        """Share of rows still right under `attack` at this radius."""
        if attack not in self.right:
            raise ValueError(f"attack {attack!r}: this report has {', '.join(self.right)}")
        if eps not in self.eps:
            raise ValueError(f"eps {eps}: this report has {', '.join(map(str, self.eps))}")
        return self.right[attack][self.eps.index(eps)] / self.total

    def curves(self) -> dict[str, list[float]]:
        """Accuracy against radius, from the clean one at 0 on, by the attack's full name."""
        clean = self.clean_accuracy
        return {TITLES[n]: [clean, *(count / self.total for count in counts)] for n, counts in self.right.items()}

    def signs(self, gap: float = 0.15, slack: float = 0.02) -> list[str]:
        """Signs that the gradient is masked, in words; none does not prove that it is not.

        Args:
            gap: by how much one-step accuracy may exceed that of many steps.
            slack: by how much an attack that should be weaker may do better.
        """
        found = []
        if self.zero_gradient_fraction > slack:
            found.append(
                f"{self.zero_gradient} of {self.total} rows have a gradient that is exactly zero: FGSM leaves them "
                "where they are"
            )

        def tell(strong: str, weak: str, least: float, words: str) -> None:
            if strong in self.right and weak in self.right:
                gaps = [a - b for a, b in zip(self.right[strong], self.right[weak], strict=True)]
                most = max(gaps)
                if most > least * self.total:
                    found.append(f"at eps {self.eps[gaps.index(most)]:g} {most} more of {self.total} rows {words}")

        tell("fgsm_true", "margin_pgd", gap, "withstand one gradient step than margin PGD")
        tell("fgsm", "fgsm_float64", slack, "withstand FGSM in this precision than in float64")
        tell("margin_pgd", "transfer", slack, "withstand margin PGD than an attack made with another network")
        for noise in NOISES:
            tell("margin_pgd", noise, slack, f"withstand margin PGD than {TITLES[noise]}")
        return found

    def text(self) -> str:
        """A table for a terminal: rows still right, of all, by attack and radius."""
        wide = max(len(TITLES[name]) for name in self.right)
        head = f"{'rows still right of ' + str(self.total):<{wide}}" + "".join(f"{f'{e:g}':>9}" for e in (0, *self.eps))
        lines = [
            f"{TITLES[name]:<{wide}}{self.clean:>9}" + "".join(f"{count:>9}" for count in counts)
            for name, counts in self.right.items()
        ]
        return "\n".join([head, *lines])


def robustness_report(
    model: Classifier,
    x: Tensor,
    y: Tensor,
    eps: Sequence[float] = EPS,
    *,
    attacks: Sequence[str] | None = None,
    noises: Sequence[str] = NOISES,
    source: Classifier | None = None,
    bounds: Bounds = (0.0, 1.0),
    steps: int = 20,
    restarts: int = 1,
    rivals: int = 0,
    batch_size: int = 1000,
    seed: int = 0,
) -> Robustness:
    """Attack a classifier at every radius and count the rows that stay right.

    A module is put into evaluation mode meanwhile, and rows are moved to its device. No parameter gets a gradient.

    Args:
        model: (rows, ...) -> logits (rows, classes), differentiable in its input.
        x: inputs (rows, ...), inside `bounds`; radii are in their units.
        y: true labels (rows,), whole numbers.
        attacks: of `ATTACKS`; None: all that apply. `fgsm_float64` copies the model and needs a module; `transfer`
            needs a `source`: another classifier of the same inputs, at best of the same architecture, trained apart.
        noises: of `NOISES`, or none.
        steps, restarts, rivals: of margin PGD, see `pgd`.
        batch_size: rows attacked at once.
        seed: of noise and random starts; every batch draws after the one before.
    """
    chosen, radii = _chosen(model, source, attacks, noises), tuple(float(e) for e in eps)
    x, y = _checked(model, x, y, radii, bounds)
    generator = torch.Generator(device=x.device).manual_seed(seed)
    found: dict[str, list[Tensor]] = {name: [] for name in (*chosen, *noises)}
    clean, zero = [], []
    with _evaluating(model, source):
        twin = copy.deepcopy(model).double() if "fgsm_float64" in chosen else None  # type: ignore[attr-defined]
        for rows, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            with torch.no_grad():
                logits = logits_of(model, rows)
            if not bool(torch.isfinite(logits).all()):
                raise ValueError("model: its logits are not finite; nothing can be said of its robustness")
            if int(labels.max()) >= logits.shape[1]:
                raise ValueError(f"y: label {int(labels.max())}, but the model tells {logits.shape[1]} classes apart")
            own = logits.argmax(1)
            clean.append(own == labels)
            gradients = _gradients(chosen, model, twin, source, rows, labels, own)
            zero.append((gradients["fgsm"] == 0).flatten(1).all(1))
            for name in found:
                per_eps = []
                for radius in radii:
                    if name == "margin_pgd":
                        options: dict[str, Any] = dict(steps=steps, restarts=restarts, rivals=rivals)
                        moved = pgd(model, rows, labels, radius, bounds=bounds, generator=generator, **options)
                    elif name in NOISES:
                        moved = add_noise(rows, name, radius, bounds=bounds, generator=generator)
                    else:
                        moved = _moved(rows, gradients[name], radius, bounds)
                    with torch.no_grad():
                        per_eps.append(logits_of(model, moved).argmax(1) == labels)
                found[name].append(torch.stack(per_eps) if radii else torch.empty(0, len(rows), dtype=torch.bool))
    masks = {name: torch.cat(parts, 1).cpu() for name, parts in found.items()}
    if chosen:
        worst = torch.cat(clean).cpu().expand(len(radii), -1).clone()
        for name in chosen:
            worst &= masks[name]
        masks = {**{name: masks[name] for name in chosen}, "worst": worst, **{name: masks[name] for name in noises}}
    counts = {name: tuple(mask.sum(1).tolist()) for name, mask in masks.items()}
    return Robustness(radii, len(x), int(torch.cat(clean).sum()), counts, int(torch.cat(zero).sum()), masks)


def _gradients(
    chosen: Sequence[str],
    model: Classifier,
    twin: Classifier | None,
    source: Classifier | None,
    x: Tensor,
    y: Tensor,
    own: Tensor,
) -> dict[str, Tensor]:
    """What each one-step attack follows; one gradient serves all radii."""
    found = {"fgsm": input_gradient(model, x, own)}
    if "fgsm_true" in chosen:
        found["fgsm_true"] = input_gradient(model, x, y)
    if twin is not None:
        found["fgsm_float64"] = input_gradient(twin, x.double(), own)
    if "transfer" in chosen and source is not None:
        found["transfer"] = input_gradient(source, x, y)
    return found


def _chosen(
    model: Classifier, source: Classifier | None, attacks: Sequence[str] | None, noises: Sequence[str]
) -> tuple[str, ...]:
    module = isinstance(model, nn.Module)
    if attacks is None:
        possible = {"fgsm_float64": module, "transfer": source is not None}
        attacks = [name for name in ATTACKS if possible.get(name, True)]
    unknown = [*(set(attacks) - set(ATTACKS)), *(set(noises) - set(NOISES))]
    if unknown:
        raise ValueError(f"attack or noise {unknown[0]!r}: attacks {', '.join(ATTACKS)}; noises {', '.join(NOISES)}")
    if "transfer" in attacks and source is None:
        raise ValueError("attack transfer: give source=, another classifier of the same inputs")
    if "fgsm_float64" in attacks and not module:
        raise ValueError("attack fgsm_float64: needs a torch module, which it copies to float64")
    return tuple(name for name in ATTACKS if name in attacks)


def _checked(model: Classifier, x: Tensor, y: Tensor, radii: Sequence[float], bounds: Bounds) -> tuple[Tensor, Tensor]:
    if len(x) == 0 or x.ndim < 2 or y.shape != x.shape[:1]:
        raise ValueError(f"x, y: expected shapes (rows, ...) and (rows,), given {tuple(x.shape)}, {tuple(y.shape)}")
    if not x.is_floating_point() or y.is_floating_point() or y.dtype == torch.bool or int(y.min()) < 0:
        raise ValueError(f"x, y: expected floats and whole numbers from 0, given {x.dtype}, {y.dtype}")
    if not all(math.isfinite(e) and e >= 0 for e in radii):
        raise ValueError(f"eps: finite numbers from 0, given {tuple(radii)}")
    low, high = bounds if bounds is not None else (-math.inf, math.inf)
    if not bool(((x >= low) & (x <= high)).all()):  # false for NaN too
        raise ValueError(
            f"x: values from {float(x.min()):.3g} to {float(x.max()):.3g} (or NaN) outside bounds {bounds}; scale it, "
            "or give bounds= as (low, high), or None for none"
        )
    if isinstance(model, nn.Module):
        place = next(iter([*model.parameters(), *model.buffers()]), x)
        x, y = x.to(place.device), y.to(place.device)
    return x.detach(), y.long()


@contextmanager
def _evaluating(*models: Any) -> Iterator[None]:
    """Modules in evaluation mode, each part back in its own mode afterwards."""
    parts = [part for model in models if isinstance(model, nn.Module) for part in model.modules()]
    modes = [part.training for part in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, modes, strict=True):
            part.training = mode
