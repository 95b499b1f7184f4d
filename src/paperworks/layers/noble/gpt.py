"""A plain pre-norm GPT whose six projections a block may carry NOBLE branches: for the study and for a user's text."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.nn import Example, Pretrained

from .model import NobleLinear

EMBEDDING_STD = 0.02


class CausalAttention(nn.Module):
    """Multi-head self-attention that looks back only; Q, K, V and output each a layer of their own."""

    def __init__(self, dim: int, num_heads: int, projection: Any):
        super().__init__()
        self.num_heads = num_heads
        self.q, self.k, self.v, self.o = (projection(dim, dim) for _ in range(4))

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Every place attends to itself and those before."""
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """x += attention(norm(x)); x += fc2(gelu(fc1(norm(x))))."""

    def __init__(self, dim: int, num_heads: int, projection: Any):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = CausalAttention(dim, num_heads, projection)
        self.fc1, self.fc2 = projection(dim, 4 * dim), projection(4 * dim, dim)

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        """Places to places."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class NobleGPT(nn.Module, Pretrained):
    """Token indices (batch, length) -> logits (batch, length, vocab_size), length at most `context`.

    Learned positions, untied output layer with a bias. `rank=0` is the same network without branches.

    Args:
        rank: of the branches on Q, K, V, O and both feed-forward matrices.
        nonlinearity, options: of the branches, see `NobleLinear`.
        main_init: deviation of the projections' W, times sqrt(inputs); the same without branches.
    """

    def __init__(
        self,
        vocab_size: int,
        context: int = 64,
        embed_dim: int = 64,
        depth: int = 2,
        num_heads: int = 4,
        rank: int = 16,
        nonlinearity: str = "cosnet",
        options: Mapping[str, Any] | None = None,
        main_init: float = 0.5,
    ):
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"num_heads: {num_heads} does not divide the width {embed_dim}")
        self.context, self.vocab_size = context, vocab_size

        def projection(n_in: int, n_out: int) -> nn.Module:
            if rank:
                return NobleLinear(
                    n_in, n_out, rank=rank, nonlinearity=nonlinearity, options=options, main_init=main_init
                )
            layer = nn.Linear(n_in, n_out)
            nn.init.normal_(layer.weight, std=main_init / math.sqrt(n_in))
            nn.init.zeros_(layer.bias)
            return layer

        self.tokens, self.positions = nn.Embedding(vocab_size, embed_dim), nn.Embedding(context, embed_dim)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=EMBEDDING_STD)
        self.blocks = nn.ModuleList(Block(embed_dim, num_heads, projection) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(embed_dim), nn.Linear(embed_dim, vocab_size)

    @classmethod
    def example(cls) -> Example:
        """Two texts of eight characters."""
        return Example(cls(11, 8, 16, 2, 2, rank=4), (torch.randint(0, 11, (2, 8)),))

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length vocab"]:
        """Logits of the token after each place."""
        if tokens.ndim != 2 or tokens.shape[1] > self.context:
            raise ValueError(
                f"tokens: expected shape (batch, length up to {self.context}), given {tuple(tokens.shape)}"
            )
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def loss(self, tokens: Int[Tensor, "batch length"], after: Int[Tensor, "batch length"]) -> Float[Tensor, ""]:
        """Mean cross-entropy, in nats a token."""
        return F.cross_entropy(self(tokens).flatten(0, 1), after.flatten())

    @torch.no_grad()
    def continue_tokens(
        self,
        tokens: Int[Tensor, " length"],
        count: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, " count"]:
        """`count` tokens drawn one by one after `tokens`; temperature 0 takes the likeliest."""
        seen = tokens[-self.context :]
        for _ in range(count):
            logits = self(seen[None, -self.context :])[0, -1]
            if temperature:
                weights = (logits / temperature).softmax(-1).cpu()
                new = torch.multinomial(weights, 1, generator=generator).to(seen.device)
            else:
                new = logits.argmax()[None]
            seen = torch.cat([seen, new])
        return seen[len(seen) - count :]
