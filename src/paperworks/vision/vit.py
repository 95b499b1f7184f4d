"""The plain vision transformer of one patch size, as DeiT trains it (arXiv 2010.11929, 2012.12877): the baseline."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape, published_size
from paperworks.nn.vit import EPSILON, Block, PatchEmbed, initialise_vit


class VisionTransformer(nn.Module, Pretrained, tags=["vision", "baseline", "arxiv:2012.12877"]):
    """Images (batch, in_chans, img_size, img_size) to class scores.

    Args:
        init_gain: see `paperworks.nn.vit.initialise_vit`.
    """

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        drop_path_rate: float = 0.0,
        init_gain: float | None = None,
    ):
        super().__init__()
        if img_size % patch_size:
            raise ValueError(f"img_size: {img_size} is not a multiple of the patch size {patch_size}")
        self.img_size, self.in_chans = img_size, in_chans
        self.patch_embed = PatchEmbed(patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, embed_dim), std=0.02))
        tokens = 1 + (img_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, embed_dim), std=0.02))
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        self.blocks = nn.Sequential(*(Block(embed_dim, num_heads, mlp_ratio, drop_path=rate) for rate in rates))
        self.norm = nn.LayerNorm(embed_dim, eps=EPSILON)
        self.head = nn.Linear(embed_dim, num_classes)
        initialise_vit(self, init_gain)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Class scores."""
        check_shape("x", x, ("batch", self.in_chans, self.img_size, self.img_size))
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x)[:, 0]))

    @classmethod
    def example(cls) -> Example:
        """8x8 images of one channel."""
        made = cls(8, 4, 1, 5, 16, 2, 2, init_gain=1.0)
        return Example(made, (torch.randn(3, 1, 8, 8),))


@published_size(parameters=5_717_416)
def deit_tiny() -> VisionTransformer:
    """DeiT-Ti."""
    return VisionTransformer(embed_dim=192, num_heads=3)


@published_size(parameters=22_050_664)
def deit_small() -> VisionTransformer:
    """DeiT-S."""
    return VisionTransformer(embed_dim=384, num_heads=6)


@published_size(parameters=86_567_656)
def deit_base() -> VisionTransformer:
    """DeiT-B."""
    return VisionTransformer(embed_dim=768, num_heads=12)
