"""BiPer: training steps against the authors' layer, packed inference at batch 1 against the same network in float32.

The authors' code is no package; their layer is written anew here as they compute it: the input divided by its standard
deviation in the graph, `torch.sign` in functions that clone the gradient. The float32 peer of packed inference is the
same network with real weights and activations in `nn.Conv2d`, that is what oneDNN or MKL makes of it.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.layers.biper import NAMED_SIZES, BiPerConv2d, pack, set_stage
from paperworks.nn.swap import swap_layers
from timing import interleaved


class PlainSign(torch.autograd.Function):
    """Their sign of weights."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient.clone()


class HatSign(torch.autograd.Function):
    """Their sign of activations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x)
        return torch.sign(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return (2 - torch.abs(2 * x)).clamp(min=0) * gradient.clone()


class WrittenOut(nn.Module):
    """Their layer, term by term."""

    def __init__(self, layer: BiPerConv2d):
        super().__init__()
        assert layer.alpha is not None
        self.weight = nn.Parameter(layer.weight.detach().clone())
        self.alpha = nn.Parameter(layer.alpha.detach().clone())
        self.stride, self.padding, self.freq, self.stage = layer.stride, layer.padding, layer.freq, layer.stage

    def forward(self, x: Tensor) -> Tensor:
        """In training."""
        scaled = x / torch.sqrt(x.var([1, 2, 3], keepdim=True) + 1e-5)
        weight = torch.sin(self.freq * self.weight)
        weight = weight if self.stage == 1 else PlainSign.apply(weight)
        return F.conv2d(HatSign.apply(scaled), weight, None, self.stride, self.padding) * self.alpha  # type: ignore[arg-type]


def run(rounds: int = 15) -> list[dict[str, Any]]:
    """Training steps, then inference."""
    torch.manual_seed(0)
    steps = []
    images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 10, (16,))
    for stage in (1, 2):
        ours = set_stage(NAMED_SIZES["biper_resnet20"](), stage)
        theirs = set_stage(NAMED_SIZES["biper_resnet20"](), stage)
        theirs.load_state_dict(ours.state_dict())
        swap_layers(theirs, BiPerConv2d, lambda _, layer: WrittenOut(layer))  # type: ignore[arg-type]
        steps.append((f"ResNet-20, stage {stage}, batch 16, train step", step(ours, images, labels),
                      step(theirs, images, labels)))  # fmt: skip
        layer = BiPerConv2d(64, 64, 3, padding=1, stage=stage)
        x = torch.randn(16, 64, 16, 16, requires_grad=True)
        steps.append((f"layer 64-64, 16x16, stage {stage}, batch 16, forward and backward", through(layer, x),
                      through(WrittenOut(layer), x)))  # fmt: skip
    rows = interleaved(steps, rounds, peer="as the authors' code computes it, torch", peer_version=version("torch"))
    return rows + interleaved(inference(), rounds, peer="the same network in float32, torch",
                              peer_version=version("torch"))  # fmt: skip


def inference() -> list[tuple[str, Callable[[], None], Callable[[], None]]]:
    """Packed networks and their float32 likes, one image."""
    cases = []
    for name, label in (("biper_resnet20", "ResNet-20"), ("biper_resnet18", "ResNet-18"),
                        ("biper_vgg_small", "VGG-Small")):  # fmt: skip
        binary = set_stage(NAMED_SIZES[name](), 2).eval()
        real = NAMED_SIZES[name]().eval()
        swap_layers(real, BiPerConv2d, lambda _, layer: as_float(layer))  # type: ignore[arg-type]
        x = torch.randn(1, 3, 32, 32)
        packed = pack(binary)
        assert torch.equal(packed(x), binary(x))
        cases.append((f"{label} packed, batch 1, forward", forward(packed, x), forward(real, x)))
    return cases


def as_float(layer: BiPerConv2d) -> nn.Conv2d:
    """A real convolution of the same shape."""
    return nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False)  # type: ignore[arg-type]


def forward(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Without gradients."""

    def call() -> None:
        with torch.inference_mode():
            net(x)

    return call


def through(net: nn.Module, x: Tensor) -> Callable[[], None]:
    """Forward and backward, to the input too."""

    def call() -> None:
        net(x).sum().backward()
        x.grad = None
        net.zero_grad()

    return call


def step(net: nn.Module, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Forward, backward, the same SGD on both sides."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)

    def call() -> None:
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return call
