"""DRIFT-Net's training losses: relative L_p by groups of channels, the error's weighted spectrum, distilled gates.

The authors' code transforms with norm "forward", in which the second term is about a millionth of the first and
switches itself off; `ortho` makes the mean over frequencies of the squared error's spectrum as large as the mean over
points.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .model import DRIFTNet
from .spectral_mixer import SpectralMixer2d


class RelativeLpLoss(nn.Module):
    """Mean over channel groups of mean |error|^p / (mean |target|^p + 1e-10), means over the whole batch.

    Args:
        p: 1 or 2.
        groups: edges of the groups of channels, such as (0, 1, 3) for density and two velocities; None: the plain
            mean of |error|^p.
    """

    def __init__(self, p: int = 1, groups: Sequence[int] | None = None):
        super().__init__()
        if p not in (1, 2):
            raise ValueError(f"p: 1 or 2, given {p}")
        self.p, self.groups = p, None if groups is None else tuple(groups)

    def forward(
        self, guess: Float[Tensor, "batch channels height width"], target: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, ""]:
        """A scalar."""
        error, size = (guess - target).abs() ** self.p, target.abs() ** self.p
        if self.groups is None:
            return error.mean()
        pairs = zip(self.groups[:-1], self.groups[1:], strict=True)
        parts = [error[:, a:b].mean() / (size[:, a:b].mean() + 1e-10) for a, b in pairs]
        return torch.stack(parts).mean()


def frequency_weights(height: int, width: int, alpha: float = 1.5) -> Tensor:
    """(r / r_max)^alpha on the entries of `rfft2`, r the distance from 0 with each axis in units of its highest."""
    fy, fx = torch.fft.fftfreq(height).abs(), torch.fft.rfftfreq(width).abs()
    r = ((fy / fy.max().clamp_min(1e-8))[:, None] ** 2 + (fx / fx.max().clamp_min(1e-8)) ** 2).sqrt()
    return (r / r.max().clamp_min(1e-8)) ** alpha


class FrequencyWeightedLoss(nn.Module):
    """weight * mean of w |rfft2(error)|^2 over batch, channels and stored frequencies.

    Args:
        alpha: exponent of the weights w.
        weight: of the term.
        norm: of the transform: `ortho`, or `forward` as in the authors' code.
    """

    def __init__(self, alpha: float = 1.5, weight: float = 0.3, norm: str = "ortho"):
        super().__init__()
        if norm not in ("ortho", "forward", "backward"):
            raise ValueError(f"norm {norm!r}: ortho, forward or backward")
        self.alpha, self.weight, self.norm = alpha, weight, norm

    def forward(
        self, guess: Float[Tensor, "batch channels height width"], target: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, ""]:
        """A scalar."""
        error = torch.fft.rfft2((guess - target).float(), norm=self.norm)
        height, width = guess.shape[-2:]
        weights = frequency_weights(height, width, self.alpha).to(error.device)
        return self.weight * (weights * (error.real.square() + error.imag.square())).mean()


def radial_spectrum(fields: Float[Tensor, "*batch n n"]) -> Float[Tensor, "*batch k"]:
    """Energy of square periodic fields in shells of |k| rounded, k = 0 .. n / 2: sums to the mean square below n / 2.

    For looking at: which scales a prediction has lost.
    """
    n = fields.shape[-1]
    energy = torch.fft.fft2(fields, norm="forward").abs().square()
    k = torch.fft.fftfreq(n, 1 / n, device=fields.device)
    shell = (k[:, None] ** 2 + k**2).sqrt().round().long().flatten()
    sums = fields.new_zeros(*fields.shape[:-2], int(shell.max()) + 1)
    sums = sums.index_add(-1, shell, energy.flatten(-2))
    return sums[..., : n // 2 + 1]


class GateDistillation(nn.Module):
    """`output, gap = distil(net, x, time, target)`; add 0.05 gap to the training loss, the authors' weight.

    A teacher gate reads |spectrum of the label - spectrum of the block's input| with the block's own small net; the
    student, which reads the input's spectrum alone, is drawn to the teacher's mean. The label enters a stage as random
    features: the 1x1 convolutions that make them get no gradient in the authors' code, and are fixed here. The
    authors' published settings leave this loss off.

    Args:
        net: whose decoder's gates are distilled; it is not held, give it again when calling.
        init_std: of the fixed features of the label.
    """

    def __init__(self, net: DRIFTNet, init_std: float = 0.02):
        super().__init__()
        if net.mixer != "spectral":
            raise ValueError(f"net: gates belong to the spectral mixer, given mixer={net.mixer!r}")
        for stage, blocks in enumerate(net.decoder):
            dim = blocks[0].mixer.dim  # type: ignore[index, union-attr]
            self.register_buffer(f"features{stage}", init_std * torch.randn(dim, net.out_channels))
            self.register_buffer(f"shift{stage}", torch.zeros(dim))

    def forward(
        self, net: DRIFTNet, x: Float[Tensor, "batch channels n n"], time: Tensor | None,
        target: Float[Tensor, "batch out n n"],
    ) -> tuple[Float[Tensor, "batch out n n"], Float[Tensor, ""]]:  # fmt: skip
        """The net's output, and the sum over decoder blocks of the mean squared distance of mean gates."""
        entered: list[tuple[int, SpectralMixer2d, Tensor]] = []
        hooks = [
            block.mixer.register_forward_pre_hook(  # type: ignore[union-attr]
                lambda mixer, given, stage=stage: entered.append((stage, mixer, given[0]))
            )
            for stage, blocks in enumerate(net.decoder)
            for block in blocks  # type: ignore[union-attr]
        ]
        try:
            out = net(x, time)
        finally:
            for hook in hooks:
                hook.remove()
        total = out.new_zeros(())
        for stage, mixer, tokens in entered:
            size = (mixer.size, mixer.size)
            label = F.interpolate(target, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
            label = F.linear(label, getattr(self, f"features{stage}"), getattr(self, f"shift{stage}"))
            spectrum = mixer.spectrum(tokens)
            student = mixer.mean_gate(spectrum)
            with torch.no_grad():
                teacher = mixer.mean_gate(mixer.spectrum(label) - spectrum)
            total = total + F.mse_loss(student, teacher)
        return out, total
