"""DRIFT-Net and scOT, the transformer it is built on: one class, two mixers.

DRIFT-Net: Li and Salim, arXiv 2509.24868; authors' code cruiseresearchgroup/DRIFT-Net. scOT, Poseidon's backbone: Herde
et al., arXiv 2405.19101; code camlab-ethz/poseidon. A hierarchical U-Net over patches: encoder stages of blocks and
patch merging, ConvNeXt blocks on the skips, decoder stages of blocks and patch un-merging, every norm conditioned on
the lead time. A block is y = x + norm(mixer(x)), y + norm(mlp(y)); the mixer is shifted-window attention in scOT and
the spectral mixer in DRIFT-Net.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size

from .norms import layer_norm
from .patches import PatchMerging, PatchRecovery, PatchUnmerging, convolve, fourier_resample
from .spectral_mixer import CUTOFF, LocalMixer2d, SpectralMixer2d, low_block
from .window_attention import WindowAttention

MIXERS = ("spectral", "window", "local")


class DropPath(nn.Module):
    """While training, drops a whole row's residual branch with this probability and scales the others up."""

    def __init__(self, rate: float = 0.0):
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "batch *rest"]) -> Float[Tensor, "batch *rest"]:
        """x, or zeros for some rows."""
        if not self.training or self.rate == 0:
            return x
        kept = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * kept / (1 - self.rate)


class ConvNeXtBlock(nn.Module):
    """x + scale * W2 gelu(W1 norm(depthwise 7x7 (x))), on the skips."""

    def __init__(self, dim: int, time_conditioned: bool = True, padding: str = "zeros"):
        super().__init__()
        self.padding = padding
        self.depthwise = nn.Conv2d(dim, dim, 7, groups=dim)
        self.norm = layer_norm(dim, time_conditioned)
        self.wider, self.narrower = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 1e-6))

    def forward(
        self, x: Float[Tensor, "batch h w channels"], time: Float[Tensor, "batch 1"] | None
    ) -> Float[Tensor, "batch h w channels"]:
        """Tokens to tokens."""
        y = convolve(self.depthwise, x.permute(0, 3, 1, 2), self.padding).permute(0, 2, 3, 1)
        return x + self.scale * self.narrower(F.gelu(self.wider(self.norm(y, time))))


class Block(nn.Module):
    """y = x + norm(mixer(x)); y + norm(mlp(y)): the norms stand after the branches (res-post-norm)."""

    def __init__(self, dim: int, mixer: nn.Module, mlp_ratio: float, time_conditioned: bool, drop_path: float):
        super().__init__()
        hidden = int(mlp_ratio * dim)
        self.mixer, self.norm1 = mixer, layer_norm(dim, time_conditioned)
        self.wider, self.narrower = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norm2 = layer_norm(dim, time_conditioned)
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "batch h w channels"], time: Float[Tensor, "batch 1"] | None
    ) -> Float[Tensor, "batch h w channels"]:
        """Tokens to tokens."""
        x = x + self.drop_path(self.norm1(self.mixer(x), time))
        return x + self.drop_path(self.norm2(self.narrower(F.gelu(self.wider(x))), time))


class DRIFTNet(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2509.24868"]):
    """Fields on a square periodic grid to fields on it: (batch, in_channels, n, n), (batch,) -> (batch, out, n, n).

    Args:
        in_channels, out_channels: of the fields.
        image_size: points an axis inside; inputs of other (even) sizes are resampled in Fourier space and back.
        patch_size: pixels of a token, an axis.
        embed_dim: channels of the finest tokens, doubled by every stage.
        depths: blocks of every stage; the grid must be even before each but the last.
        mixer: `spectral` (DRIFT-Net), `window` (scOT), or `local`, a control: the spectral mixer without its spectrum.
        num_heads, window_size: of the window attention, heads a stage; not read by the spectral mixer.
        periodic_windows: shifted windows reach around the edge instead of being masked there.
        skip_blocks: ConvNeXt blocks on the skip of every stage; that of the coarsest is always 0.
        num_bands, gate_hidden, cutoff, layout: of the spectral mixer, see `SpectralMixer2d`. `layout="reference"` is
            the authors' code to the bit and needed by `load_official`; `centered` treats negative frequencies alike.
        padding: of all convolutions: zeros (the authors') or circular.
        time_conditioned: norms depend on the lead time; else they are ordinary and `time` is not given.
        learn_residual: add the first out_channels of the input to the output; needs time_conditioned.
        drop_path: largest rate of dropped residual branches, growing linearly over the blocks.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        image_size: int = 128,
        patch_size: int = 4,
        embed_dim: int = 48,
        depths: Sequence[int] = (4, 4, 4, 4),
        mixer: str = "spectral",
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 16,
        periodic_windows: bool = False,
        skip_blocks: Sequence[int] = (2, 2, 2, 0),
        mlp_ratio: float = 4.0,
        num_bands: int = 6,
        gate_hidden: int = 128,
        cutoff: float = CUTOFF,
        layout: str = "centered",
        padding: str = "zeros",
        time_conditioned: bool = True,
        learn_residual: bool = False,
        drop_path: float = 0.0,
    ):
        super().__init__()
        stages = len(depths)
        _check(image_size, patch_size, embed_dim, depths, mixer, num_heads, skip_blocks, padding)
        self.in_channels, self.out_channels, self.image_size = in_channels, out_channels, image_size
        self.mixer, self.layout, self.cutoff, self.time_conditioned = mixer, layout, cutoff, time_conditioned
        self.learn_residual = learn_residual and time_conditioned
        grid = image_size // patch_size
        rates = torch.linspace(0, drop_path, 2 * sum(depths), device="cpu").tolist()

        def block(stage: int, shifted: bool, rate: float) -> Block:
            dim, size = embed_dim * 2**stage, grid // 2**stage
            if mixer == "window":
                shift = window_size // 2 if shifted else 0
                part: nn.Module = WindowAttention(dim, size, num_heads[stage], window_size, shift, periodic_windows)
            elif mixer == "local":
                part = LocalMixer2d(dim, size, padding)
            else:
                part = SpectralMixer2d(dim, size, num_bands, gate_hidden, cutoff, layout, padding)
            return Block(dim, part, mlp_ratio, time_conditioned, rate)

        self.patch_embed = nn.Conv2d(in_channels, embed_dim, patch_size, stride=patch_size)
        self.embed_norm = layer_norm(embed_dim, time_conditioned)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for stage, depth in enumerate(depths):
            done = sum(depths[:stage])
            self.encoder.append(nn.ModuleList(block(stage, i % 2 == 1, rates[done + i]) for i in range(depth)))
        for stage in reversed(range(stages)):  # as the authors number them, the last block is the unshifted one
            depth, done = depths[stage], sum(depths) + sum(depths[stage + 1 :])
            order = reversed(range(depth))
            self.decoder.append(nn.ModuleList(block(stage, i % 2 == 1, rates[done + depth - 1 - i]) for i in order))
        widths = [embed_dim * 2**stage for stage in range(stages)]
        self.merging = nn.ModuleList(PatchMerging(dim, time_conditioned) for dim in widths[:-1])
        self.unmerging = nn.ModuleList(PatchUnmerging(dim, time_conditioned) for dim in reversed(widths[1:]))
        self.skips = nn.ModuleList(
            nn.ModuleList(ConvNeXtBlock(dim, time_conditioned, padding) for _ in range(count))
            for dim, count in zip(widths[:-1], skip_blocks[:-1], strict=True)
        )
        self.recovery = PatchRecovery(embed_dim, out_channels, patch_size, padding)
        self.apply(_initialise)

    def forward(
        self, x: Float[Tensor, "batch channels height width"], time: Float[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch out height width"]:
        """Fields x (batch, in_channels, n, n) after the lead times `time` (batch,), of the order of 1."""
        check_shape("x", x, ("batch", self.in_channels, x.shape[-1] if x.ndim else "n", "n"))
        t = self._time(x, time)
        size = x.shape[-1]
        x = fourier_resample(x, self.image_size)
        tokens = self.embed_norm(self.patch_embed(x).permute(0, 2, 3, 1), t)
        kept = []
        for stage, blocks in enumerate(self.encoder):
            entered = tokens
            for block in blocks:  # type: ignore[union-attr]
                tokens = block(tokens, t)
            if stage < len(self.merging):
                kept.append(tokens)
                tokens = self.merging[stage](tokens + entered, t)
        for stage, blocks in enumerate(self.decoder):
            if stage:
                tokens = self.unmerging[stage - 1](tokens, t)
                skip = kept.pop()
                for block in self.skips[len(kept)]:  # type: ignore[union-attr]
                    skip = block(skip, t)
                tokens = tokens + skip
            for block in blocks:  # type: ignore[union-attr]
                tokens = block(tokens, t)
        out = self.recovery(tokens)
        if self.learn_residual:
            out = out + x[:, : self.out_channels]
        return fourier_resample(out, size)

    def _time(self, x: Tensor, time: Tensor | None) -> Tensor | None:
        if not self.time_conditioned:
            return None
        if time is None:
            raise ValueError(
                f"time: expected shape ({len(x)},), given None; give the lead times, all 1 where there is one alone "
                "(at time 0 a fresh network's branches vanish), or build with time_conditioned=False"
            )
        check_shape("time", time, (len(x),))
        return time.to(x.dtype)[:, None]

    def load_official(self, state: Mapping[str, Tensor]) -> "DRIFTNet":
        """Load a state dict of the authors' code (DRIFT-Net or scOT, Poseidon's too), strictly but for what is dead.

        Without use there are: the decoder's label layers, the norm before the mixer of spectral blocks, and the
        cutoffs, whose gradients `int` cuts; the cutoffs must agree with ours.

        Raises:
            ValueError: names, shapes, layout or cutoffs are others.
        """
        if self.mixer == "spectral" and self.layout != "reference":
            raise ValueError('layout: the authors\' weights belong to their order of frequencies; use "reference"')
        renamed: dict[str, Tensor] = {}
        for name, tensor in state.items():
            if "U_true" in name or "relative_" in name.rsplit(".", 1)[-1]:
                continue
            if self.mixer == "spectral" and "layernorm_before" in name:
                continue
            if re.search(r"attention\.k[xy]$", name):
                self._check_cutoff(name, tensor)
                continue
            if name.endswith("attention.weight"):
                tensor = torch.view_as_real(tensor)
            renamed[self._our_name(name)] = tensor
        try:
            self.load_state_dict(renamed, strict=True)
        except RuntimeError as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    def _check_cutoff(self, name: str, value: Tensor) -> None:
        part, stage = re.match(r"(encoder|decoder)\.layers\.(\d+)", name).groups()  # type: ignore[union-attr]
        size = getattr(self, part)[int(stage)][0].mixer.size
        place = 0 if name.endswith("kx") else 1
        theirs, ours = (low_block(size, "reference", cut)[place] for cut in (float(value.sigmoid()), self.cutoff))
        if theirs != ours:
            raise ValueError(f"cutoff: {name} keeps {theirs} of {size} frequencies, this model {ours}")

    def _our_name(self, name: str) -> str:
        for pattern, ours in _OFFICIAL:
            name = re.sub(pattern, ours, name)
        if self.mixer == "spectral":
            return name.replace("mixer.norm.", "norm1.")
        return name

    @classmethod
    def example(cls) -> Example:
        """Two channels to one, 16x16 points, two stages; branches made large enough to show."""
        made = cls(2, 1, 16, 2, 8, (1, 2), skip_blocks=(1, 0), num_heads=(2, 4), window_size=4, gate_hidden=8)
        return Example(_shown(made), (torch.randn(3, 2, 16, 16), torch.rand(3) + 0.5))


_OFFICIAL = (
    (r"^embeddings\.patch_embeddings\.projection", "patch_embed"),
    (r"^embeddings\.norm", "embed_norm"),
    (r"^encoder\.layers\.(\d+)\.downsample", r"merging.\1"),
    (r"^decoder\.layers\.(\d+)\.upsample", r"unmerging.\1"),
    (r"^(encoder|decoder)\.layers\.(\d+)\.blocks", r"\1.\2"),
    (r"\.intermediate\.dense", ".wider"),
    (r"(\.\d+)\.output\.dense", r"\1.narrower"),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.output\.dense", ".mixer.projection"),
    (r"\.attention\.self\.continuous_position_bias_mlp\.0", ".mixer.bias_hidden"),
    (r"\.attention\.self\.continuous_position_bias_mlp\.2", ".mixer.bias_out"),
    (r"\.attention\.self\.", ".mixer."),
    (r"\.attention\.", ".mixer."),
    (r"\.band_gate\.mlp\.0", ".gate.hidden"),
    (r"\.band_gate\.mlp\.2", ".gate.out"),
    (r"\.conv_local", ".local"),
    (r"^residual_blocks\.", "skips."),
    (r"\.dwconv", ".depthwise"),
    (r"\.pwconv1", ".wider"),
    (r"\.pwconv2", ".narrower"),
    (r"^(skips\.\d+\.\d+)\.weight$", r"\1.scale"),
    (r"^patch_recovery", "recovery"),
)


def _check(
    image_size: int,
    patch_size: int,
    embed_dim: int,
    depths: Sequence[int],
    mixer: str,
    num_heads: Sequence[int],
    skip_blocks: Sequence[int],
    padding: str,
) -> None:
    if mixer not in MIXERS:
        raise ValueError(f"mixer {mixer!r}: one of {', '.join(MIXERS)}")
    if padding not in ("zeros", "circular"):
        raise ValueError(f"padding {padding!r}: zeros or circular")
    if not depths or min(depths) < 1:
        raise ValueError(f"depths: at least one block a stage, given {tuple(depths)}")
    if len(skip_blocks) != len(depths) or skip_blocks[-1]:
        raise ValueError(
            f"skip_blocks: one entry for each of {len(depths)} stages, the last 0, given {tuple(skip_blocks)}"
        )
    if mixer == "window" and len(num_heads) < len(depths):
        raise ValueError(f"num_heads: one entry for each of {len(depths)} stages, given {tuple(num_heads)}")
    unit = patch_size * 2 ** (len(depths) - 1)
    if image_size % unit or image_size % 2:
        raise ValueError(f"image_size: an even multiple of patch_size 2^(stages - 1) = {unit}, given {image_size}")


def _initialise(module: nn.Module) -> None:
    """Linear and convolution weights N(0, 0.02), biases 0; the transposed convolution keeps torch's default."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def _shown(model: DRIFTNet) -> DRIFTNet:
    """Scales around 1 and weights with gain: at the published initialisation every branch is near 0."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and name.endswith("scale"):
            parameter.fill_(0.5)
        elif re.search(r"norm\d?\.bias\.bias|norm\d?\.weight\.bias", name):
            parameter.add_(1.0 if "weight.bias" in name else 0.1)
        elif parameter.ndim > 1:
            parameter.mul_(5)
    return model


def scot(in_channels: int = 1, out_channels: int = 1, image_size: int = 128, **settings: Any) -> DRIFTNet:
    """scOT: the same network with shifted-window attention in place of the spectral mixer."""
    return DRIFTNet(in_channels, out_channels, image_size, **{"mixer": "window", **settings})


@published_size(parameters=19_067_652)
def drift_tiny(in_channels: int = 4, out_channels: int = 4, **settings: Any) -> DRIFTNet:
    """DRIFT-T: 17,500,932 live parameters, a complex one counted once as the paper does."""
    return DRIFTNet(in_channels, out_channels, **settings)


@published_size(parameters=36_487_492)
def drift_small(in_channels: int = 4, out_channels: int = 4, **settings: Any) -> DRIFTNet:
    """DRIFT-S: eight blocks a stage; 33,354,052 live parameters, a complex one counted once."""
    return DRIFTNet(in_channels, out_channels, **{"depths": (8,) * 4, **settings})


@published_size(parameters=144_996_724)
def drift_base(in_channels: int = 4, out_channels: int = 4, **settings: Any) -> DRIFTNet:
    """DRIFT-B: 96 channels, eight blocks a stage; 132,462,964 live parameters, a complex one counted once."""
    return DRIFTNet(in_channels, out_channels, **{"depths": (8,) * 4, "embed_dim": 96, **settings})


@published_size(parameters=20_774_444)
def scot_tiny(in_channels: int = 4, out_channels: int = 4, **settings: Any) -> DRIFTNet:
    """scOT-T, Poseidon's smallest backbone."""
    return scot(in_channels, out_channels, **settings)


@published_size(parameters=39_901_076)
def scot_small(in_channels: int = 4, out_channels: int = 4, **settings: Any) -> DRIFTNet:
    """scOT-S: eight blocks a stage."""
    return scot(in_channels, out_channels, **{"depths": (8,) * 4, **settings})


@published_size(parameters=157_729_988)
def scot_base(in_channels: int = 4, out_channels: int = 4, **settings: Any) -> DRIFTNet:
    """scOT-B: 96 channels, eight blocks a stage."""
    return scot(in_channels, out_channels, **{"depths": (8,) * 4, "embed_dim": 96, **settings})


NAMED_SIZES = {
    build.__name__: build for build in (drift_tiny, drift_small, drift_base, scot_tiny, scot_small, scot_base)
}
