"""CrossViT: two vision transformers of different patch size that exchange class tokens by cross-attention.

Chen, Fan, Panda, arXiv 2103.14899 (section 3, tables 1 and 6); authors' code IBM/CrossViT, maintained in timm.
Parameters bear timm's names, so that its weights load as they are; the authors' load through `load_official`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.nn.vit import EPSILON, Block, DropPath, PatchEmbed, SelfAttention, initialise_vit

FUSIONS = ("cross", "none", "class", "pairwise", "all")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which the published weights expect


class CrossAttention(nn.Module):
    """Attention with one query, the first token, over all tokens: linear in their number (equations 4 and 5)."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool = True, drop: float = 0.0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads: {num_heads} does not divide the width {dim}")
        self.num_heads, self.drop = num_heads, drop
        self.wq, self.wk, self.wv = (nn.Linear(dim, dim, bias=qkv_bias) for _ in range(3))
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch 1 dim"]:
        """The first token's view of all."""
        b, n, d = x.shape
        shape = (b, n, self.num_heads, d // self.num_heads)
        q = self.wq(x[:, :1]).view(b, 1, *shape[2:]).transpose(1, 2)
        k, v = self.wk(x).view(shape).transpose(1, 2), self.wv(x).view(shape).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, 1, d)
        return F.dropout(self.proj(y), self.drop, self.training)


class CrossAttentionBlock(nn.Module):
    """y = t_0 + CrossAttention(norm(t)); no feed-forward, and the residual is the un-normalised token."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, drop: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=EPSILON)
        self.attn = CrossAttention(dim, num_heads, qkv_bias, drop)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch 1 dim"]:
        """All tokens to the new first one."""
        return x[:, :1] + self.drop_path(self.attn(self.norm1(x)))


def projection(dim: int, out: int) -> nn.Sequential:
    """LayerNorm, GELU, linear: the maps f and g between branches."""
    return nn.Sequential(nn.LayerNorm(dim, eps=EPSILON), nn.GELU(), nn.Linear(dim, out))


class MultiScaleBlock(nn.Module):
    """One encoder: each branch's own blocks, then the exchange of class tokens.

    Args:
        depth: blocks of branch 0, of branch 1, cross-attention blocks L (0 means one, stored without an index; with
            L >= 2 the later ones see a single token, as in the authors' code).
        drop_path: a rate for every block of the encoder.
    """

    def __init__(
        self,
        dim: Sequence[int],
        grids: Sequence[int],
        depth: Sequence[int],
        num_heads: Sequence[int],
        mlp_ratio: Sequence[float],
        qkv_bias: bool,
        drop: float,
        drop_path: Sequence[float],
        fusion: str,
    ):
        super().__init__()
        self.mode, self.grids = fusion, tuple(grids)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                *(Block(dim[i], num_heads[i], mlp_ratio[i], qkv_bias, drop, drop_path[b]) for b in range(depth[i]))
            )
            for i in range(2)
        )
        self.projs, self.fusion, self.revert_projs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        if fusion == "cross":
            for i in range(2):
                other = dim[1 - i]
                self.projs.append(projection(dim[i], other))
                self.revert_projs.append(projection(other, dim[i]))
                each = [
                    CrossAttentionBlock(other, num_heads[1 - i], qkv_bias, drop, drop_path[-1])
                    for _ in range(max(1, depth[2]))
                ]
                self.fusion.append(each[0] if depth[2] == 0 else nn.Sequential(*each))
        elif fusion != "none":  # to the larger width and back; a branch that has it is left as it is
            common = max(dim)
            for d in dim:
                same = d == common
                self.projs.append(nn.Identity() if same else projection(d, common))
                self.revert_projs.append(nn.Identity() if same else projection(common, d))
            if fusion == "all":
                self.fusion.append(nn.LayerNorm(common, eps=EPSILON))
                self.fusion.append(SelfAttention(common, num_heads[dim.index(common)], qkv_bias, drop))

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        """Tokens of both branches to tokens of both branches."""
        xs = [blocks(x) for blocks, x in zip(self.blocks, xs, strict=True)]
        return xs if self.mode == "none" else getattr(self, f"_{self.mode}")(xs)

    def _cross(self, xs: list[Tensor]) -> list[Tensor]:
        out = []
        for i, x in enumerate(xs):
            tokens = torch.cat([self.projs[i](x[:, :1]), xs[1 - i][:, 1:]], dim=1)
            fused = self.revert_projs[i](self.fusion[i](tokens)[:, :1])
            out.append(torch.cat([fused, x[:, 1:]], dim=1))
        return out

    def _class(self, xs: list[Tensor]) -> list[Tensor]:
        total = self.projs[0](xs[0][:, :1]) + self.projs[1](xs[1][:, :1])
        return [torch.cat([back(total), x[:, 1:]], dim=1) for back, x in zip(self.revert_projs, xs, strict=True)]

    def _pairwise(self, xs: list[Tensor]) -> list[Tensor]:
        total = self.projs[0](xs[0][:, :1]) + self.projs[1](xs[1][:, :1])
        patches = [proj(x[:, 1:]) for proj, x in zip(self.projs, xs, strict=True)]
        out = []
        for i, back in enumerate(self.revert_projs):
            other = _resized(patches[1 - i], self.grids[1 - i], self.grids[i])
            out.append(torch.cat([back(total), back(patches[i] + other)], dim=1))
        return out

    def _all(self, xs: list[Tensor]) -> list[Tensor]:
        tokens = torch.cat([proj(x) for proj, x in zip(self.projs, xs, strict=True)], dim=1)
        norm, attention = self.fusion
        tokens = tokens + attention(norm(tokens))
        parts = tokens.split([x.shape[1] for x in xs], dim=1)
        return [back(part) for back, part in zip(self.revert_projs, parts, strict=True)]


def _resized(patches: Tensor, old: int, new: int) -> Tensor:
    if old == new:
        return patches
    image = patches.transpose(1, 2).reshape(len(patches), -1, old, old)
    image = F.interpolate(image, size=(new, new), mode="bilinear", align_corners=False)
    return image.flatten(2).transpose(1, 2)


class CrossViT(nn.Module, Pretrained, tags=["vision", "image-classification", "arxiv:2103.14899"]):
    """Images (batch, in_chans, side, side) to class scores (batch, num_classes).

    Branch 0 has small patches and narrow tokens, branch 1 large patches and wide ones. A square image of any side is
    resized (bicubic) to each branch's own side.

    Args:
        img_size: side of the input; each branch sees it scaled by its entry of `img_scale`.
        patch_size, embed_dim, num_heads, mlp_ratio: one entry a branch.
        depth: one [N, M, L] an encoder: blocks of either branch and of cross-attention, see `MultiScaleBlock`.
        multi_conv: three convolutions in the patch embedding (the dagger models).
        global_pool: `token` (class tokens) or `avg` (mean of patch tokens).
        fusion: `cross` is the paper's; `none`, `class`, `pairwise` and `all` are those it is compared with (table 6).
        init_gain: None is the published initialisation, which stalls at small widths; 1.2 suits those.
    """

    def __init__(
        self,
        img_size: int = 240,
        img_scale: Sequence[float] = (1.0, 224 / 240),
        patch_size: Sequence[int] = (12, 16),
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: Sequence[int] = (192, 384),
        depth: Sequence[Sequence[int]] = ((1, 4, 0),) * 3,
        num_heads: Sequence[int] = (6, 6),
        mlp_ratio: Sequence[float] = (4.0, 4.0),
        multi_conv: bool = False,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "token",
        fusion: str = "cross",
        init_gain: float | None = None,
    ):
        super().__init__()
        if fusion not in FUSIONS:
            raise ValueError(f"fusion {fusion!r}: one of {', '.join(FUSIONS)}")
        if global_pool not in ("token", "avg"):
            raise ValueError(f"global_pool {global_pool!r}: token or avg")
        self.in_chans, self.num_classes, self.global_pool = in_chans, num_classes, global_pool
        self.embed_dim, self.drop_rate, self.grad_checkpointing = tuple(embed_dim), drop_rate, False
        self.img_size_scaled = tuple(round(img_size * scale) for scale in img_scale)
        for side, patch in zip(self.img_size_scaled, patch_size, strict=True):
            if side % patch:
                raise ValueError(f"img_size: a branch's side {side} is not a multiple of its patch size {patch}")
        grids = [side // patch for side, patch in zip(self.img_size_scaled, patch_size, strict=True)]
        self.patch_embed = nn.ModuleList(
            PatchEmbed(patch, in_chans, dim, multi_conv) for patch, dim in zip(patch_size, embed_dim, strict=True)
        )
        for i, (grid, dim) in enumerate(zip(grids, embed_dim, strict=True)):
            for name, tokens in (("cls_token", 1), ("pos_embed", 1 + grid**2)):
                value = nn.init.trunc_normal_(torch.empty(1, tokens, dim), std=0.02)
                self.register_parameter(f"{name}_{i}", nn.Parameter(value))
        # One ramp of drop-path rates over all encoders; a branch's block b takes the rate at place b of its encoder.
        ramp = torch.linspace(0, drop_path_rate, sum(max(d[:2]) + d[2] for d in depth) or 1, device="cpu").tolist()
        self.blocks, place = nn.ModuleList(), 0
        for each in depth:
            length = max(each[:2]) + each[2]
            rates = ramp[place : place + length] or [0.0]
            self.blocks.append(
                MultiScaleBlock(embed_dim, grids, each, num_heads, mlp_ratio, qkv_bias, drop_rate, rates, fusion)
            )
            place += length
        self.norm = nn.ModuleList(nn.LayerNorm(dim, eps=EPSILON) for dim in embed_dim)
        self.head = nn.ModuleList(nn.Linear(dim, num_classes) if num_classes else nn.Identity() for dim in embed_dim)
        initialise_vit(self, init_gain)

    @property
    def num_features(self) -> int:
        """Size of the feature before the head."""
        return sum(self.embed_dim)

    def tokens(self, x: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Tokens of both branches after all encoders, not normalised."""
        check_shape("x", x, ("batch", self.in_chans, "height", "width"))
        if x.shape[2] != x.shape[3]:
            raise ValueError(f"x: expected square images, given {tuple(x.shape)}; crop or pad them to a square")
        xs = self._embedded(x)
        for block in self.blocks:
            if self.grad_checkpointing and self.training:
                xs = checkpoint(block, xs, use_reentrant=False)  # type: ignore[assignment]
            else:
                xs = block(xs)
        return xs

    def _embedded(self, x: Tensor) -> list[Tensor]:
        xs = []
        for i, (embed, side) in enumerate(zip(self.patch_embed, self.img_size_scaled, strict=True)):
            view = x if x.shape[-1] == side else F.interpolate(x, (side, side), mode="bicubic", align_corners=False)
            patches = embed(view)
            tokens = torch.cat([getattr(self, f"cls_token_{i}").expand(len(x), -1, -1), patches], dim=1)
            tokens = tokens + getattr(self, f"pos_embed_{i}")
            xs.append(F.dropout(tokens, self.drop_rate, self.training))
        return xs

    def forward_features(self, x: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Normalised tokens of both branches: [(batch, 1 + n_0, D_0), (batch, 1 + n_1, D_1)]."""
        return [norm(tokens) for norm, tokens in zip(self.norm, self.tokens(x), strict=True)]

    def forward_head(self, xs: list[Tensor], pre_logits: bool = False) -> Tensor:
        """Class scores: the mean over branches of each one's linear layer; `pre_logits`: the features, concatenated."""
        pooled = [x[:, 0] if self.global_pool == "token" else x[:, 1:].mean(1) for x in xs]
        if pre_logits or not self.num_classes:
            return torch.cat(pooled, dim=1)
        first, second = (head(feature) for head, feature in zip(self.head, pooled, strict=True))
        return (first + second) / 2

    def branch_logits(self, x: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Each branch's own class scores (table 6)."""
        return [head(f[:, 0]) for head, f in zip(self.head, self.forward_features(x), strict=True)]

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Class scores."""
        xs = self.tokens(x)
        if self.global_pool == "token":  # only the class tokens need the last norm
            xs = [tokens[:, :1] for tokens in xs]
        return self.forward_head([norm(tokens) for norm, tokens in zip(self.norm, xs, strict=True)])

    def forward_intermediates(
        self, x: Float[Tensor, "batch channels height width"], norm: bool = False, output_fmt: str = "NCHW"
    ) -> list[list[Tensor]]:
        """Patch tokens of both branches after every encoder, as maps (NCHW) or sequences (NLC)."""
        if output_fmt not in ("NCHW", "NLC"):
            raise ValueError(f"output_fmt {output_fmt!r}: NCHW or NLC")
        xs, found = self._embedded(x), []
        for block in self.blocks:
            xs = block(xs)
            patches = [(self.norm[i](t) if norm else t)[:, 1:] for i, t in enumerate(xs)]
            if output_fmt == "NCHW":
                sides = [round(p.shape[1] ** 0.5) for p in patches]
                patches = [p.transpose(1, 2).reshape(len(x), -1, s, s) for p, s in zip(patches, sides, strict=True)]
            found.append(patches)
        return found

    def get_classifier(self) -> nn.ModuleList:
        """Both branches' linear layers."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """New linear layers for other classes; 0 leaves the features."""
        self.num_classes = num_classes
        if global_pool is not None:
            self.global_pool = global_pool
        device = self.norm[0].weight.device
        self.head = nn.ModuleList(
            nn.Linear(dim, num_classes, device=device) if num_classes else nn.Identity() for dim in self.embed_dim
        )
        initialise_vit(self.head)

    def no_weight_decay(self) -> set[str]:
        """Parameters that are not decayed: class tokens and position embeddings.

        The authors meant to leave them out as well, but their filter missed the names, so their training decayed them.
        """
        return {name for name, _ in self.named_parameters() if name.startswith(("cls_token", "pos_embed"))}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters belong to which depth, for layer-wise rates (timm's convention)."""
        return {
            "stem": r"^cls_token|pos_embed|patch_embed",
            "blocks": [(r"^blocks\.(\d+)", None), (r"^norm", (99999,))],
        }

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute every encoder in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def load_official(self, state: Mapping[str, Tensor]) -> "CrossViT":
        """Load the authors' state dict (or timm's, whose names are ours), strictly.

        Raises:
            ValueError: names or shapes are others.
        """
        renamed = {}
        for name, tensor in state.items():
            for kind in ("pos_embed", "cls_token"):
                name = name.replace(f"{kind}.", f"{kind}_") if name.startswith(kind) else name
            renamed[name] = tensor
        try:
            self.load_state_dict(renamed, strict=True)
        except RuntimeError as error:
            raise ValueError(f"state: not the weights of this configuration: {error}") from error
        return self

    @classmethod
    def example(cls) -> Example:
        """16x16 images of one channel, patches of 4 and 8."""
        made = crossvit_toy(in_chans=1, img_size=16, num_classes=5, depth=((1, 2, 0),), init_gain=1.0)
        return Example(made, (torch.randn(3, 1, 16, 16),))


def crossvit_toy(**changes: Any) -> CrossViT:
    """A size that trains on a laptop: 32x32 images, patches of 4 and 8, widths 24 and 48, two encoders."""
    settings: dict[str, Any] = dict(
        img_size=32,
        img_scale=(1.0, 1.0),
        patch_size=(4, 8),
        embed_dim=(24, 48),
        num_heads=(3, 3),
        depth=((1, 2, 0),) * 2,
        num_classes=10,
        init_gain=1.2,
    )
    return CrossViT(**settings | changes)


def _published(
    dim: Sequence[int], heads: int, blocks: int, ratio: float, changes: dict[str, Any], **more: Any
) -> CrossViT:
    settings: dict[str, Any] = dict(
        embed_dim=dim, num_heads=(heads, heads), depth=((1, blocks, 0),) * 3, mlp_ratio=(ratio, ratio)
    )
    return CrossViT(**settings | more | changes)


@published_size(parameters=7_014_800)
def crossvit_tiny_240(**changes: Any) -> CrossViT:
    """CrossViT-Ti (table 1)."""
    return _published((96, 192), 3, 4, 4.0, changes)


@published_size(parameters=26_856_272)
def crossvit_small_240(**changes: Any) -> CrossViT:
    """CrossViT-S (table 1)."""
    return _published((192, 384), 6, 4, 4.0, changes)


@published_size(parameters=105_025_232)
def crossvit_base_240(**changes: Any) -> CrossViT:
    """CrossViT-B (table 1)."""
    return _published((384, 768), 12, 4, 4.0, changes)


@published_size(parameters=8_553_296)
def crossvit_9_240(**changes: Any) -> CrossViT:
    """CrossViT-9 (table 1)."""
    return _published((128, 256), 4, 3, 3.0, changes)


@published_size(parameters=8_776_592)
def crossvit_9_dagger_240(**changes: Any) -> CrossViT:
    """CrossViT-9 with three convolutions."""
    return _published((128, 256), 4, 3, 3.0, changes, multi_conv=True)


@published_size(parameters=27_528_464)
def crossvit_15_240(**changes: Any) -> CrossViT:
    """CrossViT-15 (table 1)."""
    return _published((192, 384), 6, 5, 3.0, changes)


@published_size(parameters=28_209_008)
def crossvit_15_dagger_240(**changes: Any) -> CrossViT:
    """CrossViT-15 with three convolutions."""
    return _published((192, 384), 6, 5, 3.0, changes, multi_conv=True)


@published_size(parameters=28_500_080)
def crossvit_15_dagger_408(**changes: Any) -> CrossViT:
    """CrossViT-15 with three convolutions at 408 pixels (table 4)."""
    more = dict(multi_conv=True, img_size=408, img_scale=(1.0, 384 / 408))
    return _published((192, 384), 6, 5, 3.0, changes, **more)


@published_size(parameters=43_271_408)
def crossvit_18_240(**changes: Any) -> CrossViT:
    """CrossViT-18 (table 1)."""
    return _published((224, 448), 7, 6, 3.0, changes)


@published_size(parameters=44_266_976)
def crossvit_18_dagger_240(**changes: Any) -> CrossViT:
    """CrossViT-18 with three convolutions."""
    return _published((224, 448), 7, 6, 3.0, changes, multi_conv=True)


@published_size(parameters=44_606_560)
def crossvit_18_dagger_408(**changes: Any) -> CrossViT:
    """CrossViT-18 with three convolutions at 408 pixels (table 4)."""
    more = dict(multi_conv=True, img_size=408, img_scale=(1.0, 384 / 408))
    return _published((224, 448), 7, 6, 3.0, changes, **more)


NAMED_SIZES = {
    build.__name__: build
    for build in (
        crossvit_toy,
        crossvit_tiny_240,
        crossvit_small_240,
        crossvit_base_240,
        crossvit_9_240,
        crossvit_9_dagger_240,
        crossvit_15_240,
        crossvit_15_dagger_240,
        crossvit_15_dagger_408,
        crossvit_18_240,
        crossvit_18_dagger_240,
        crossvit_18_dagger_408,
    )
}
