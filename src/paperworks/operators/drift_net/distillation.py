"""Distillation of the gates, a training loss of arXiv 2509.24868 that the authors' published settings leave off.

While training the solution is known. A teacher gate reads |label's spectrum - block's spectrum| with the block's own
small net, and the student, which reads the block's spectrum alone, is drawn to its mean. The label enters a stage as
random features: the 1x1 convolutions that make them get no gradient in the authors' code, and are fixed here.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .model import DRIFTNet
from .spectral_mixer import SpectralMixer2d


class GateDistillation(nn.Module):
    """`output, gap = distil(net, x, time, target)`; add 0.05 gap to the training loss, the authors' weight.

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
