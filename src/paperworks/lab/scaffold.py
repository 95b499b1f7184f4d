"""`paperworks new`: a paper folder whose study runs at once, to be replaced line by line by a real method."""

import re
from pathlib import Path

from paperworks.errors import PaperworksError

from .files import write_text


def scaffold(name: str, parent: Path) -> Path:
    """Make `parent/<name>` with a card, a model and a study; returns the folder.

    Raises:
        PaperworksError: the name is no slug, the folder exists, or it cannot be written.
    """
    slug = name.strip().lower().replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", slug):
        raise PaperworksError(f"'{name}' is no paper name: letters, digits and dashes, a letter first")
    folder = parent / name.strip().lower()
    if folder.exists():
        raise PaperworksError(f"{folder} exists already; give another name, or another place with --in")
    title = slug.replace("_", " ").capitalize()
    for file, text in TEMPLATES.items():
        write_text(folder / file, text.replace("SLUG", slug).replace("TITLE", title))
    return folder


CARD = """---
title: "TITLE"
slug: SLUG
arxiv: "0000.00000"
year: 2026
field: examples
idea: "Fit a curve with sine features instead of a plain network."
claim: "Sine features reach a lower test error than a plain network of the same size."
tags: [example]
license: Apache-2.0
official: null
---
## What it does

Replace this by a page in your own words.

## How to use it

```python
import torch
from paperworks import find_paper

model = find_paper("./SLUG").load("model").SineNet(width=32)
print(model(torch.zeros(4, 1)).shape)
```

## What we measured

{{ verdict("curve", 0) | sentence }}

## Read before you believe it

Say here what the controls showed, and how the published number was obtained.
"""

MODEL = '''"""TITLE: the method. Replace it by the paper's, its equation numbers next to the lines that compute them."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape


class SineNet(nn.Module, Pretrained):
    """One hidden layer of sines: `f(x) = w . sin(a x + b) + c`.

    Args:
        width: hidden units.
        sine: False replaces the sine by tanh, which is the baseline.
    """

    def __init__(self, width: int = 32, sine: bool = True):
        super().__init__()
        self.inner, self.outer, self.sine = nn.Linear(1, width), nn.Linear(width, 1), sine
        nn.init.normal_(self.inner.weight, std=6.0 if sine else 1.0)

    def forward(self, x: Float[Tensor, "batch 1"]) -> Float[Tensor, "batch 1"]:
        """Values of the curve at x."""
        check_shape("x", x, ("batch", 1))
        hidden = self.inner(x)
        return self.outer(torch.sin(hidden) if self.sine else torch.tanh(hidden))

    @classmethod
    def example(cls) -> Example:
        """A small instance with inputs."""
        return Example(cls(width=8), (torch.randn(3, 1),))
'''

STUDY = '''"""TITLE: the claim as code. It reads like the methods section of an experiment."""

import torch

from paperworks.lab import Beats, Study, Trial
from paperworks.training import Batches, fit

from .model import SineNet

study = Study(
    "curve",
    question="Do sine features fit a wiggly curve better than tanh features at equal size?",
    arms=("sine", "tanh"),
    settings=dict(width=32, points=256, noise=0.1, lr=1e-2, batch_size=64),
    smoke=dict(steps=200),
    laptop=dict(steps=1000),
    paper=dict(steps=20000),
    seeds=5,
    grid=dict(lr=[1e-3, 3e-3, 1e-2, 3e-2]),
    select=("validation_mse", "lower"),
    equal=("parameters", "steps"),
    claims=[Beats("test_mse", "sine", "tanh", by=1.5)],
)


@study.trial
def trial(t: Trial) -> None:
    """Train one network on noisy samples of a curve, score it on clean ones."""

    def sample(n: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
        x = 2 * torch.rand(n, 1) - 1
        return x, torch.sin(9 * x) * torch.exp(-x) + noise * torch.randn(n, 1)

    train, validation, test = sample(t.settings.points, t.settings.noise), sample(256, 0.0), sample(1000, 0.0)
    net = SineNet(t.settings.width, sine=t.method == "sine")

    def loss(model, batch):
        x, y = batch
        return (model(x) - y).square().mean()

    t.count(net, step=lambda: loss(net, train))
    batches = Batches(train, t.settings.batch_size, t.seed)
    fit(net, loss, batches, steps=t.settings.steps, lr=t.settings.lr, log=t.log, checkpoint=t.checkpoint)
    with torch.no_grad():
        t.row(validation_mse=loss(net, validation), test_mse=loss(net, test))
        if t.seed == 0:
            grid = torch.linspace(-1, 1, 100)[:, None]
            truth = torch.sin(9 * grid) * torch.exp(-grid)
            series = {"truth": truth[:, 0], t.arm: net(grid)[:, 0]}
            t.picture(f"The curve as {t.arm} fits it", "lines", x=grid[:, 0], series=series)
'''

INIT = '"""TITLE."""\n\nfrom .model import SineNet\n\n__all__ = ["SineNet"]\n'

TEMPLATES = {"card.md": CARD, "model.py": MODEL, "study.py": STUDY, "__init__.py": INIT}
