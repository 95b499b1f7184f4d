"""NoProp (arXiv 2503.24322): every block learns alone to denoise the label, given x; no signal passes between blocks.

NoPropDT (discrete time, equations 1 to 8), NoPropCT (continuous time, equations 9 to 12), NoPropFM (flow matching,
equations 13 to 15), and BackpropChain: the same blocks trained end to end, the paper's baseline (equation 16).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn.diffusion import CosineSchedule, LearnedSchedule, posterior_step
from paperworks.nn.pretrained import Example, Pretrained, published_size
from paperworks.nn.shapes import check_shape

from .blocks import DenoisingBlock, TimeConditionedBlock

EMBEDDINGS = ("onehot", "learned", "prototype")
DECODERS = ("head", "nearest")
CHANNELS = (32, 64, 128)


class LabelEmbedding(nn.Module):
    """One vector u_y a class, the rows of W (num_classes, dim).

    `onehot`: the identity, fixed. `learned`: trained, orthogonal rows at the start if dim allows. `prototype`: trained,
    as large as x; `set_prototypes` starts each row from a typical training input of its class.
    """

    weight: Tensor

    def __init__(self, num_classes: int, kind: str = "onehot", dim: int | None = None):
        super().__init__()
        if kind not in EMBEDDINGS:
            raise ValueError(f"embedding {kind!r}: one of {', '.join(EMBEDDINGS)}")
        if kind == "onehot":
            if dim not in (None, num_classes):
                raise ValueError(f"embed_dim: {num_classes} for one-hot labels, given {dim}")
            self.register_buffer("weight", torch.eye(num_classes))
        else:
            weight = torch.empty(num_classes, 20 if dim is None else dim)
            self.weight = nn.Parameter(nn.init.orthogonal_(weight) if dim is None or dim >= num_classes else
                                       nn.init.normal_(weight))  # fmt: skip
        self.kind, self.dim = kind, self.weight.shape[1]

    def forward(self, y: Int[Tensor, " batch"]) -> Float[Tensor, "batch dim"]:
        """The vectors of the labels."""
        return self.weight[y]

    def nearest(self, z: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """Scores whose largest is the class with the nearest vector: minus half the squared Euclidean distance."""
        return z @ self.weight.T - 0.5 * self.weight.square().sum(1) - 0.5 * z.square().sum(1, keepdim=True)

    @torch.no_grad()
    def set_prototypes(self, x: Float[Tensor, "rows *in_shape"], y: Int[Tensor, " rows"]) -> "LabelEmbedding":
        """Row y becomes the input of class y whose median distance to its class is smallest."""
        flat = x.flatten(1)
        check_shape("x (flattened)", flat, ("rows", self.dim))
        for label in range(len(self.weight)):
            own = flat[y == label]
            if not len(own):
                raise ValueError(f"y: no row of class {label}")
            self.weight[label] = own[torch.cdist(own, own).median(1).values.argmin()]
        return self


class _Labels(nn.Module):
    """What all variants share: label vectors, the linear head on z_T, one fixed starting noise, checks."""

    start: Tensor

    def __init__(self, in_shape: Sequence[int], num_classes: int, embedding: str, embed_dim: int | None, decode: str):
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes: at least 2, given {num_classes}")
        if decode not in DECODERS:
            raise ValueError(f"decode {decode!r}: one of {', '.join(DECODERS)}")
        self.in_shape, self.num_classes, self.decode = tuple(in_shape), num_classes, decode
        if embedding == "prototype":
            embed_dim = int(torch.Size(in_shape).numel())
        self.embedding = LabelEmbedding(num_classes, embedding, embed_dim)
        self.register_buffer("start", torch.randn(self.embedding.dim))

    def _check(self, x: Tensor) -> None:
        check_shape("x", x, ("batch", *self.in_shape))

    def _noise(self, x: Tensor, stochastic: bool) -> Tensor:
        shape = (len(x), self.embedding.dim)
        return torch.randn(shape, device=x.device) if stochastic else self.start.expand(shape)

    def _convex(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1) @ self.embedding.weight


def _prior_divergence(u: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """KL(q(z_0|y) || N(0, I)) of each row."""
    bar = torch.as_tensor(alpha_bar, dtype=u.dtype, device=u.device)
    dim = u.shape[-1]
    return 0.5 * (-dim * bar + bar * u.square().sum(-1) - dim * torch.log1p(-bar))


class NoPropDT(_Labels, Pretrained, tags=["local-learning", "arxiv:2503.24322"]):
    """NoProp in discrete time: T blocks, each trained to name the label's vector from x and a noised copy of it.

    Args:
        in_shape: (features,) or (channels, height, width) of x.
        num_classes: classes.
        T: blocks.
        width: of a block's two paths.
        embedding: `onehot`, `learned` or `prototype` (see `LabelEmbedding`), of size `embed_dim`.
        eta: weight of the denoising term.
        clamp: of the cosine schedule; part of the method, since the last loss weight grows like 1 / clamp.
        decode: `head` (linear, trained) or `nearest` label vector.
        channels: of an image block's convolutions; `grouped` runs the blocks' convolutions as one.
    """

    a: Tensor
    b: Tensor
    c: Tensor
    alpha_bar: Tensor
    snr_gain: Tensor

    def __init__(
        self,
        in_shape: Sequence[int] = (64,),
        num_classes: int = 10,
        T: int = 10,
        width: int = 256,
        embedding: str = "onehot",
        embed_dim: int | None = None,
        eta: float = 0.1,
        clamp: float = 1e-3,
        decode: str = "head",
        channels: Sequence[int] = CHANNELS,
        grouped: bool = False,
    ):
        super().__init__(in_shape, num_classes, embedding, embed_dim, decode)
        self.T, self.eta = T, eta
        dim = self.embedding.dim
        label_image = embedding == "prototype"
        self.blocks = DenoisingBlock(in_shape, dim, num_classes, width, T, label_image, channels, grouped)
        self.head = nn.Linear(dim, num_classes)
        schedule = CosineSchedule(T, clamp)
        for name in ("a", "b", "c", "alpha_bar", "snr_gain"):
            self.register_buffer(name, getattr(schedule, name).float(), persistent=False)

    def noised(self, y: Int[Tensor, " batch"], t: int | None = None) -> Float[Tensor, "copies batch dim"]:
        """Fresh z_{t-1} ~ q(z_{t-1}|y) for t = 1..T (or only `t`): what the blocks are trained on."""
        bar = (self.alpha_bar[:-1] if t is None else self.alpha_bar[t - 1 : t])[:, None, None]
        u = self.embedding(y)
        return bar.sqrt() * u + (1 - bar).sqrt() * torch.randn(len(bar), *u.shape, device=u.device)

    def denoise(self, z: Tensor, x: Tensor, t: int | None = None) -> Float[Tensor, "copies batch dim"]:
        """u_hat_t(z_{t-1}, x) of all blocks (or block `t`): convex combinations of the label vectors."""
        return self._convex(self.blocks(z, x, None if t is None else t - 1))

    @torch.no_grad()
    def encode(self, x: Float[Tensor, "batch *in_shape"]) -> Float[Tensor, "blocks batch width"]:
        """What the blocks make of x before they see z: computed once, it serves any number of `predict(x, seen=...)`.

        In evaluation mode, that is; in training mode dropout and batch norm would draw it anew each time.
        """
        self._check(x)
        return self.blocks.encode(x)

    def head_loss(self, y: Int[Tensor, " batch"]) -> Tensor:
        """Cross-entropy of the head on a fresh z_T ~ q(z_T|y)."""
        u, bar = self.embedding(y), self.alpha_bar[-1]
        z = bar.sqrt() * u + (1 - bar).sqrt() * torch.randn_like(u)
        return F.cross_entropy(self.head(z), y)

    def loss(self, x: Float[Tensor, "batch *in_shape"], y: Int[Tensor, " batch"], t: int | None = None) -> Tensor:
        """L_t of Algorithm 1 for one block t = 1..T, or the sum of all T in one batched pass.

        The sum is exact, since blocks share no parameters. The cross-entropy and the divergence from the prior, which
        do not depend on t, enter a sum once; see `training.fit_blocks` for the head's further steps.
        """
        self._check(x)
        error = (self.denoise(self.noised(y, t), x, t) - self.embedding(y)).square().sum(-1).mean(-1)
        weight = 0.5 * self.T * self.eta * (self.snr_gain if t is None else self.snr_gain[t - 1 : t])
        prior = _prior_divergence(self.embedding(y), self.alpha_bar[0]).mean()
        return (weight * error).sum() + self.head_loss(y) + prior

    def _alone(self, z: Tensor, x: Tensor, t: int, seen: Tensor | None) -> Tensor:
        """u_hat_t(z, x), with what block t has seen of x at hand or not."""
        if seen is None:
            return self.denoise(z[None], x, t)[0]
        return self._convex(self.blocks.logits(z[None], seen[t - 1 : t], t - 1))[0]

    def step(self, z: Tensor, x: Tensor, t: int, stochastic: bool = False, seen: Tensor | None = None) -> Tensor:
        """z_t = a_t u_hat_t(z_{t-1}, x) + b_t z_{t-1}, plus sqrt(c_t) noise if `stochastic`."""
        z_next = self.a[t - 1] * self._alone(z, x, t, seen) + self.b[t - 1] * z
        return z_next + self.c[t - 1].sqrt() * torch.randn_like(z) if stochastic else z_next

    def scores(self, z: Tensor, decode: str | None = None) -> Float[Tensor, "batch classes"]:
        """Class scores of z_T by the head or by the nearest label vector."""
        return self.head(z) if (decode or self.decode) == "head" else self.embedding.nearest(z)

    def forward(self, x: Float[Tensor, "batch *in_shape"]) -> Float[Tensor, "batch classes"]:
        """Class scores by the deterministic chain (c_t = 0) from one fixed noise."""
        self._check(x)
        return self._chain(x, False, None)

    def _chain(self, x: Tensor, stochastic: bool, decode: str | None, seen: Tensor | None = None) -> Tensor:
        z = self._noise(x, stochastic)
        for t in range(1, self.T + 1):
            z = self.step(z, x, t, stochastic, seen)
        return self.scores(z, decode)

    @torch.no_grad()
    def predict(
        self,
        x: Float[Tensor, "batch *in_shape"],
        stochastic: bool = False,
        decode: str | None = None,
        seen: Tensor | None = None,
    ) -> Tensor:
        """Labels; `stochastic` draws every noise afresh, as the paper does; `seen` is what `encode(x)` gave."""
        self._check(x)
        return self._chain(x, stochastic, decode, seen).argmax(-1)

    @torch.no_grad()
    def predict_block(
        self, x: Float[Tensor, "batch *in_shape"], t: int, z: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """Labels by block t ALONE, fed `z` (default: pure noise), as the nearest label vector: the control."""
        self._check(x)
        z = self._noise(x, True) if z is None else z
        return self.embedding.nearest(self._alone(z, x, t, seen)).argmax(-1)

    @classmethod
    def example(cls) -> Example:
        """Three blocks on vectors."""
        return Example(cls((6,), 4, T=3, width=8), (torch.randn(5, 6),))


class _Continuous(_Labels):
    """One block for all t in [0, 1], integrated over `steps` steps at inference."""

    def __init__(
        self, in_shape: Sequence[int], num_classes: int, width: int, embedding: str, embed_dim: int | None,
        steps: int, decode: str, channels: Sequence[int],
    ):  # fmt: skip
        super().__init__(in_shape, num_classes, embedding, embed_dim, decode)
        self.steps = steps
        self.block = TimeConditionedBlock(
            in_shape, self.embedding.dim, num_classes, width, embedding == "prototype", channels
        )
        self.head = nn.Linear(self.embedding.dim, num_classes)

    def _step(self, z: Tensor, x: Tensor, now: Tensor, then: Tensor, stochastic: bool) -> Tensor:
        raise NotImplementedError

    def _integrate(self, x: Tensor, steps: int | None, stochastic: bool, decode: str | None) -> Tensor:
        z = self._noise(x, stochastic)
        times = torch.linspace(0, 1, (steps or self.steps) + 1, device=x.device)
        for now, then in pairwise(times):
            z = self._step(z, x, now, then, stochastic)
        return self.head(z) if (decode or self.decode) == "head" else self.embedding.nearest(z)

    def forward(self, x: Float[Tensor, "batch *in_shape"]) -> Float[Tensor, "batch classes"]:
        """Class scores by `steps` deterministic steps from one fixed noise."""
        self._check(x)
        return self._integrate(x, None, False, None)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "batch *in_shape"], steps: int | None = None, stochastic: bool = False,
                decode: str | None = None) -> Tensor:  # fmt: skip
        """Labels; fewer `steps` than the paper's 1000 are proportionally faster."""
        self._check(x)
        return self._integrate(x, steps, stochastic, decode).argmax(-1)


class NoPropCT(_Continuous, Pretrained, tags=["local-learning", "arxiv:2503.24322"]):
    """NoProp in continuous time: one block conditioned on t, a learned noise schedule.

    Args as in `NoPropDT`; `steps` at inference (the paper: 1000), `schedule_width` of the schedule's network.
    """

    def __init__(
        self,
        in_shape: Sequence[int] = (64,),
        num_classes: int = 10,
        width: int = 256,
        embedding: str = "onehot",
        embed_dim: int | None = None,
        eta: float = 1.0,
        steps: int = 1000,
        decode: str = "head",
        channels: Sequence[int] = CHANNELS,
        schedule_width: int = 64,
    ):
        super().__init__(in_shape, num_classes, width, embedding, embed_dim, steps, decode, channels)
        self.eta = eta
        self.schedule = LearnedSchedule(schedule_width)

    def loss(self, x: Float[Tensor, "batch *in_shape"], y: Int[Tensor, " batch"]) -> Tensor:
        """Cross-entropy on z_1, divergence from the prior, and eta/2 SNR'(t) |u_hat - u|^2 at one random t a row."""
        self._check(x)
        u, t = self.embedding(y), torch.rand(len(x), device=x.device)
        ends = self.schedule.alpha_bar(torch.tensor([0.0, 1.0], device=x.device))
        bar = self.schedule.alpha_bar(t)[:, None]
        z = bar.sqrt() * u + (1 - bar).sqrt() * torch.randn_like(u)
        last = ends[1].sqrt() * u + (1 - ends[1]).sqrt() * torch.randn_like(u)
        error = (self._convex(self.block(z, x, t)) - u).square().sum(-1)
        denoising = 0.5 * self.eta * (self.schedule.snr_slope(t) * error).mean()
        return F.cross_entropy(self.head(last), y) + _prior_divergence(u, ends[0]).mean() + denoising

    def _step(self, z: Tensor, x: Tensor, now: Tensor, then: Tensor, stochastic: bool) -> Tensor:
        a, b, c = posterior_step(self.schedule.alpha_bar(now), self.schedule.alpha_bar(then))
        z_next = a * self._convex(self.block(z, x, now.expand(len(x)))) + b * z
        return z_next + c.sqrt() * torch.randn_like(z) if stochastic else z_next

    @classmethod
    def example(cls) -> Example:
        """Two inference steps on vectors."""
        return Example(cls((6,), 4, width=8, steps=2, schedule_width=4), (torch.randn(5, 6),))


class NoPropFM(_Continuous, Pretrained, tags=["local-learning", "arxiv:2503.24322"]):
    """NoProp with flow matching: the block learns the velocity from noise to the label's vector.

    Args as in `NoPropCT`. One-hot labels are read off as the nearest vector; learned ones train a head beside it.
    """

    exempt: ClassVar[dict[str, str]] = {
        "gradients": "with fixed label vectors the prediction is the nearest vector and the head is not used"
    }

    def __init__(
        self,
        in_shape: Sequence[int] = (64,),
        num_classes: int = 10,
        width: int = 256,
        embedding: str = "onehot",
        embed_dim: int | None = None,
        steps: int = 1000,
        decode: str = "nearest",
        channels: Sequence[int] = CHANNELS,
    ):
        super().__init__(in_shape, num_classes, width, embedding, embed_dim, steps, decode, channels)

    def velocity(self, z: Tensor, x: Tensor, t: Tensor) -> Float[Tensor, "batch dim"]:
        """v = logits @ W, without softmax."""
        return self.block(z, x, t) @ self.embedding.weight

    def loss(self, x: Float[Tensor, "batch *in_shape"], y: Int[Tensor, " batch"]) -> Tensor:
        """|v(z_t, x, t) - (z_1 - z_0)|^2; with learned label vectors also the cross-entropy on z_t + (1 - t) v."""
        self._check(x)
        u, t = self.embedding(y), torch.rand(len(x), device=x.device)
        noise = torch.randn_like(u)
        z = t[:, None] * u + (1 - t[:, None]) * noise
        v = self.velocity(z, x, t)
        matching = (v - (u - noise)).square().sum(-1).mean()
        if self.embedding.kind == "onehot":
            return matching
        return matching + F.cross_entropy(self.head(z + (1 - t[:, None]) * v), y)

    def _step(self, z: Tensor, x: Tensor, now: Tensor, then: Tensor, stochastic: bool) -> Tensor:
        return z + (then - now) * self.velocity(z, x, now.expand(len(x)))

    @classmethod
    def example(cls) -> Example:
        """Two Euler steps on vectors."""
        return Example(cls((6,), 4, width=8, steps=2), (torch.randn(5, 6),))


class BackpropChain(_Labels, Pretrained, tags=["baseline", "arxiv:2503.24322"]):
    """The same blocks trained end to end: z_t = (1 - g_t) z_{t-1} + g_t u_hat_t(z_{t-1}, x), g_t = tanh(w_t).

    Args:
        convex_output: u_hat is a convex combination of label vectors (the paper's chain, which saturates), or the
            plain product of logits and vectors (the fair baseline).
        gate: where every w_t starts; not given in the paper.
    """

    def __init__(
        self,
        in_shape: Sequence[int] = (64,),
        num_classes: int = 10,
        T: int = 10,
        width: int = 256,
        embedding: str = "onehot",
        embed_dim: int | None = None,
        convex_output: bool = True,
        gate: float = 0.1,
        channels: Sequence[int] = CHANNELS,
    ):
        super().__init__(in_shape, num_classes, embedding, embed_dim, "head")
        self.T, self.convex_output = T, convex_output
        dim, image = self.embedding.dim, embedding == "prototype"
        self.blocks = nn.ModuleList(
            DenoisingBlock(in_shape, dim, num_classes, width, 1, image, channels) for _ in range(T)
        )
        self.gates = nn.Parameter(torch.full((T,), gate))
        self.head = nn.Linear(dim, num_classes)

    def forward(self, x: Float[Tensor, "batch *in_shape"]) -> Float[Tensor, "batch classes"]:
        """Class scores; in training z_0 is drawn afresh, in evaluation it is one fixed noise."""
        self._check(x)
        z = self._noise(x, self.training)
        for block, gate in zip(self.blocks, self.gates.tanh(), strict=True):
            logits = block(z[None], x)[0]
            out = self._convex(logits) if self.convex_output else logits @ self.embedding.weight
            z = (1 - gate) * z + gate * out
        return self.head(z)

    def loss(self, x: Float[Tensor, "batch *in_shape"], y: Int[Tensor, " batch"]) -> Tensor:
        """Cross-entropy at the end of the chain."""
        return F.cross_entropy(self(x), y)

    @torch.no_grad()
    def predict(self, x: Float[Tensor, "batch *in_shape"]) -> Tensor:
        """Labels."""
        return self(x).argmax(-1)

    @classmethod
    def example(cls) -> Example:
        """Three blocks on vectors."""
        return Example(cls((6,), 4, T=3, width=8, convex_output=False), (torch.randn(5, 6),))


MNIST, CIFAR = (1, 28, 28), (3, 32, 32)


@published_size(parameters=2_001_290)
def dt_block_mnist() -> DenoisingBlock:
    """One block, one-hot labels (our count from Fig. 6 with padding 1, as are all below)."""
    return DenoisingBlock(MNIST, 10, 10)


@published_size(parameters=20_013_010)
def noprop_dt_mnist() -> NoPropDT:
    """Ten blocks and the head."""
    return NoPropDT(MNIST, 10)


@published_size(parameters=24_933_970)
def noprop_dt_cifar10() -> NoPropDT:
    """Ten blocks and the head."""
    return NoPropDT(CIFAR, 10)


@published_size(parameters=25_290_460)
def noprop_dt_cifar100() -> NoPropDT:
    """Ten blocks and the head."""
    return NoPropDT(CIFAR, 100)


@published_size(parameters=2_003_850)
def dt_block_mnist_learned() -> DenoisingBlock:
    """One block, learned label vectors of size 20."""
    return DenoisingBlock(MNIST, 20, 10)


@published_size(parameters=3_564_426)
def dt_block_mnist_prototype() -> DenoisingBlock:
    """One block, labels as images."""
    return DenoisingBlock(MNIST, 784, 10, label_image=True)


@published_size(parameters=4_548_618)
def dt_block_cifar10_prototype() -> DenoisingBlock:
    """One block, labels as images."""
    return DenoisingBlock(CIFAR, 3072, 10, label_image=True)


@published_size(parameters=1_949_066)
def ct_block_mnist() -> TimeConditionedBlock:
    """The block of continuous time."""
    return TimeConditionedBlock(MNIST, 10, 10)


@published_size(parameters=2_441_162)
def ct_block_cifar10() -> TimeConditionedBlock:
    """The block of continuous time."""
    return TimeConditionedBlock(CIFAR, 10, 10)


@published_size(parameters=2_475_812)
def ct_block_cifar100() -> TimeConditionedBlock:
    """The block of continuous time."""
    return TimeConditionedBlock(CIFAR, 100, 100)
