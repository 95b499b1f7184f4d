"""NoProp in continuous time: NoProp-CT (learned noise schedule) and NoProp-FM (flow matching).

arXiv 2503.24322, section 3 and appendices A, B; figure 6, right: one block that is told the time, no batch norm.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.nn.diffusion import LearnedSchedule

from .model import LabelEmbedding

TIME_FEATURES = 64


def time_features(t: Float[Tensor, " batch"], count: int = TIME_FEATURES) -> Float[Tensor, "batch features"]:
    """Sines and cosines of t in [0, 1] at frequencies falling from 1000 to 0.1."""
    frequencies = 1000 * torch.exp(-math.log(1e4) * torch.arange(count // 2, device=t.device) / (count // 2))
    angles = t[:, None] * frequencies.to(t)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeBlock(nn.Module):
    """(x, z, t) -> logits over classes."""

    def __init__(self, in_shape: Sequence[int], embed_dim: int, num_classes: int, width: int, channels: Sequence[int]):
        super().__init__()
        if len(in_shape) == 3:
            a, b, c = channels
            self.input_path: nn.Module = nn.Sequential(
                nn.Conv2d(in_shape[0], a, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
                nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.Dropout(0.2),
                nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2),
                nn.Flatten(), nn.Linear(c * (in_shape[1] // 4) * (in_shape[2] // 4), width), nn.ReLU(),
            )  # fmt: skip
        else:
            self.input_path = nn.Sequential(
                nn.Linear(in_shape[0], width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
            )
        self.label_path = nn.Sequential(nn.Linear(embed_dim, width), nn.ReLU())
        self.time_path = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.ReLU())
        self.merge = nn.Sequential(
            nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU(),
            nn.Linear(width // 2, num_classes),
        )  # fmt: skip

    def forward(self, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """Logits from the input path's features, which do not depend on z or t."""
        return self.merge(torch.cat([features, self.label_path(z), self.time_path(time_features(t))], dim=-1))


class NoPropCT(nn.Module, Pretrained, tags=["learning-rule", "arxiv:2503.24322"]):
    """One block for all times, with a learned noise schedule.

    Args:
        num_classes, in_shape, embedding, embed_dim, width, channels: as for `NoPropDT`.
        eta: weight of the denoising loss.
        steps: updates at inference, the paper takes 1000.
    """

    exempt = {
        "gradients": "the schedule is trained by the loss; deterministic class scores reach all else",
    }

    def __init__(
        self,
        num_classes: int = 10,
        in_shape: Sequence[int] = (1, 28, 28),
        embedding: str = "onehot",
        embed_dim: int | None = None,
        eta: float = 1.0,
        width: int = 256,
        channels: Sequence[int] = (32, 64, 128),
        steps: int = 1000,
    ):
        super().__init__()
        self.in_shape, self.eta, self.steps = tuple(in_shape), eta, steps
        self.embedding = LabelEmbedding(num_classes, embedding, embed_dim)
        self.block = TimeBlock(in_shape, self.embedding.dim, num_classes, width, channels)
        self.head = nn.Linear(self.embedding.dim, num_classes)
        self.schedule = LearnedSchedule()

    def noised(self, y: Tensor, t: Tensor) -> Tensor:
        """A draw of q(z_t | y)."""
        u, share = self.embedding(y), self.schedule.abar(t)[:, None]
        return share.sqrt() * u + (1 - share).sqrt() * torch.randn_like(u)

    def estimate(self, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """u_hat(z_t, x, t)."""
        return self.block(features, z, t).softmax(-1) @ self.embedding.weight

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy at t = 1, KL at t = 0, and the denoising loss at a random time a row."""
        t = torch.rand(len(x), device=x.device)
        ones = torch.ones_like(t)
        u = self.embedding(y)
        error = (self.estimate(self.block.input_path(x), self.noised(y, t), t) - u).square().sum(-1)
        share = self.schedule.abar(ones[:1] * 0)
        kl = 0.5 * (share * u.square().sum(-1).mean() - u.shape[-1] * (share + torch.log1p(-share))).squeeze()
        cross_entropy = F.cross_entropy(self.head(self.noised(y, ones)), y)
        return cross_entropy + kl + 0.5 * self.eta * (self.schedule.snr_slope(t) * error).mean()

    def forward(
        self,
        x: Float[Tensor, "batch *shape"],
        z: Float[Tensor, "batch dim"] | None = None,
        steps: int | None = None,
        stochastic: bool = False,
    ) -> Float[Tensor, "batch classes"]:
        """Class scores after `steps` updates from noise to label."""
        check_shape("x", x, ("batch", *self.in_shape))
        steps = self.steps if steps is None else steps
        z = x.new_zeros(len(x), self.embedding.dim) if z is None else z
        check_shape("z", z, (len(x), self.embedding.dim))
        features = self.block.input_path(x)
        shares = self.schedule.abar(torch.linspace(0, 1, steps + 1, device=x.device)).to(x)
        for i in range(steps):
            before, now = shares[i], shares[i + 1]
            alpha = before / now
            u = self.estimate(features, z, torch.full_like(x.flatten(1)[:, 0], i / steps))
            z = now.sqrt() * (1 - alpha) / (1 - before) * u + alpha.sqrt() * (1 - now) / (1 - before) * z
            if stochastic:
                z = z + ((1 - now) * (1 - alpha) / (1 - before)).clamp_min(0).sqrt() * torch.randn_like(z)
        return self.head(z)

    @classmethod
    def example(cls) -> Example:
        """On vectors, three steps."""
        return Example(cls(4, (6,), width=8, steps=3), (torch.randn(3, 6),))


class NoPropFM(nn.Module, Pretrained, tags=["learning-rule", "arxiv:2503.24322"]):
    """Flow matching from noise z_0 to the label's embedding z_1: v(z_t, x, t) learns z_1 - z_0."""

    def __init__(
        self,
        num_classes: int = 10,
        in_shape: Sequence[int] = (1, 28, 28),
        embedding: str = "onehot",
        embed_dim: int | None = None,
        width: int = 256,
        channels: Sequence[int] = (32, 64, 128),
        steps: int = 1000,
    ):
        super().__init__()
        self.in_shape, self.steps = tuple(in_shape), steps
        self.embedding = LabelEmbedding(num_classes, embedding, embed_dim)
        self.block = TimeBlock(in_shape, self.embedding.dim, num_classes, width, channels)
        self.head = nn.Linear(self.embedding.dim, num_classes) if embedding != "onehot" else None

    def velocity(self, features: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """v = logits W, not a convex combination."""
        return self.block(features, z, t) @ self.embedding.weight

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared error of the velocity; plus, for learned labels, cross-entropy at the extrapolated end."""
        t = torch.rand(len(x), device=x.device)
        end = self.embedding(y)
        start = torch.randn_like(end)
        z = t[:, None] * end + (1 - t[:, None]) * start
        v = self.velocity(self.block.input_path(x), z, t)
        loss = (v - (end - start)).square().sum(-1).mean()
        if self.head is not None:
            loss = loss + F.cross_entropy(self.head(z + (1 - t[:, None]) * v), y)
        return loss

    def forward(
        self, x: Float[Tensor, "batch *shape"], z: Float[Tensor, "batch dim"] | None = None, steps: int | None = None
    ) -> Float[Tensor, "batch classes"]:
        """Minus the squared distance of z_1, reached in `steps` Euler steps, to every class's embedding."""
        check_shape("x", x, ("batch", *self.in_shape))
        steps = self.steps if steps is None else steps
        z = x.new_zeros(len(x), self.embedding.dim) if z is None else z
        check_shape("z", z, (len(x), self.embedding.dim))
        features = self.block.input_path(x)
        for i in range(steps):
            z = z + self.velocity(features, z, torch.full_like(x.flatten(1)[:, 0], i / steps)) / steps
        return -(z[:, None, :] - self.embedding.weight).square().sum(-1)

    @classmethod
    def example(cls) -> Example:
        """On vectors, three steps."""
        return Example(cls(4, (6,), width=8, steps=3), (torch.randn(3, 6),))


@published_size(parameters=1_949_066)
def noprop_ct_mnist() -> TimeBlock:
    """The block of NoProp-CT and FM on MNIST."""
    return TimeBlock((1, 28, 28), 10, 10, 256, (32, 64, 128))


@published_size(parameters=2_441_162)
def noprop_ct_cifar10() -> TimeBlock:
    """The block of NoProp-CT and FM on CIFAR-10."""
    return TimeBlock((3, 32, 32), 10, 10, 256, (32, 64, 128))


@published_size(parameters=2_475_812)
def noprop_ct_cifar100() -> TimeBlock:
    """The block of NoProp-CT and FM on CIFAR-100."""
    return TimeBlock((3, 32, 32), 100, 100, 256, (32, 64, 128))
