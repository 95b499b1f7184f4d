"""Multitasking Hebbian network (arXiv 2308.04106): one attractor network that recalls several sparse patterns at once.

N spins s_i = +-1 and K patterns xi^mu in {-1, 0, +1}^N whose entries are blank with probability d, the dilution. All
three rules are couplings J_ij = scale / N sum_f e_i^f e_j^f without a diagonal, of different factors e:

    storing        e = xi^mu                     scale = 1 / (1 - d)
    supervised     e = mean_a eta^{mu,a}         scale = 1 / ((1 - d) r^2 (1 + rho))
    unsupervised   e = eta^{mu,a} / sqrt(M)      scale = 1 / ((1 - d) r^2 (1 + rho))

where eta^{mu,a} = xi^mu chi^{mu,a} are M examples of quality r and rho = (1 - r^2) / (M r^2) is their entropy. A sweep
costs O(F N) for F factors, since only the overlaps with the factors are kept and never the N x N couplings.
"""

import math
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import Example, Pretrained, check_shape

RULES = ("storing", "supervised", "unsupervised", "pseudo_inverse")


def dilute_patterns(n_patterns: int, n_spins: int, dilution: float, generator: torch.Generator | None = None) -> Tensor:
    """Random patterns (n_patterns, n_spins) in {-1, 0, 1}: 0 with probability `dilution`, either sign equally often."""
    if not 0 <= dilution < 1:
        raise ValueError(f"dilution: a number from 0 and below 1, given {dilution}")
    signs = 2.0 * torch.randint(0, 2, (n_patterns, n_spins), generator=generator) - 1
    return signs * (torch.rand(n_patterns, n_spins, generator=generator) >= dilution)


def noisy_examples(
    patterns: Float[Tensor, "patterns spins"], n_examples: int, quality: float, generator: torch.Generator | None = None
) -> Float[Tensor, "patterns examples spins"]:
    """Examples whose entries keep the pattern's sign with probability (1 + quality) / 2; blanks stay blank."""
    if not 0 < quality <= 1:
        raise ValueError(f"quality: above 0 and at most 1, given {quality}")
    shape = (len(patterns), n_examples, patterns.shape[1])
    kept = torch.rand(shape, generator=generator) < (1 + quality) / 2
    return patterns[:, None] * (2.0 * kept - 1)


def dataset_entropy(quality: float, n_examples: int) -> float:
    """rho = (1 - r^2) / (M r^2): the variance of an averaged example's entry over that of its pattern."""
    return (1 - quality**2) / (n_examples * quality**2)


class Recall(NamedTuple):
    """What a recall ends in: states (replicas, spins), overlaps with the patterns (replicas, patterns), energy a
    spin (replicas,)."""

    states: Tensor
    overlaps: Tensor
    energy: Tensor


class MultitaskingHebbian(nn.Module, Pretrained, tags=["associative-memory", "arxiv:2308.04106"]):
    """An associative memory of sparse patterns. Make it, then `store` patterns or `learn` from examples.

    Args:
        n_spins: N.
        n_factors: vectors that the couplings are made of: patterns, or all examples when unsupervised.
        rule: storing, supervised, unsupervised; or pseudo_inverse, the projection rule, as a baseline.
        scale: factor of the couplings, set by `store` and `learn`.
        sweeps, n_blocks: of `forward`, which recalls at zero temperature, one interleaved block of spins after another.
    """

    exempt: ClassVar = {
        "gradients": "the memory is made of stored patterns; nothing in it is trained by gradients",
        "autocast": "a spin whose field is nearly zero turns with the rounding of bf16, so states differ",
    }
    factors: Tensor
    duals: Tensor
    scale: Tensor

    def __init__(
        self,
        n_spins: int,
        n_factors: int,
        rule: str = "storing",
        scale: float = 1.0,
        sweeps: int = 5,
        n_blocks: int = 20,
    ):
        super().__init__()
        if rule not in RULES:
            raise ValueError(f"rule {rule!r}: one of {', '.join(RULES)}")
        self.n_spins, self.rule, self.sweeps, self.n_blocks = n_spins, rule, sweeps, min(n_blocks, n_spins)
        self.register_buffer("factors", torch.zeros(n_factors, n_spins))
        self.register_buffer("duals", torch.zeros(n_factors, n_spins))
        self.register_buffer("scale", torch.tensor(float(scale)))

    @classmethod
    def store(cls, patterns: Float[Tensor, "patterns spins"], *, dilution: float | None = None, **options):
        """The memory of given patterns; `dilution` defaults to their share of blanks."""
        check_shape("patterns", patterns, ("patterns", "spins"))
        patterns = patterns.float()
        d = float((patterns == 0).float().mean()) if dilution is None else dilution
        memory = cls(patterns.shape[1], len(patterns), scale=1 / (1 - d), **options)
        memory.factors.copy_(patterns)
        if memory.rule == "pseudo_inverse":  # J projects on the patterns: dual vectors instead of the patterns
            memory.scale.fill_(1.0)
            memory.duals.copy_(torch.linalg.pinv(patterns.double()).T.float() * patterns.shape[1])
        else:
            memory.duals.copy_(patterns)
        return memory

    @classmethod
    def learn(
        cls,
        examples: Float[Tensor, "patterns examples spins"],
        *,
        quality: float,
        dilution: float | None = None,
        rule: str = "supervised",
        **options,
    ):
        """The memory of examples, grouped by pattern. Unsupervised learning makes no use of the grouping."""
        check_shape("examples", examples, ("patterns", "examples", "spins"))
        if rule not in ("supervised", "unsupervised"):
            raise ValueError(f"rule {rule!r}: supervised or unsupervised")
        examples = examples.float()
        _, n_examples, n_spins = examples.shape
        d = float((examples == 0).float().mean()) if dilution is None else dilution
        scale = 1 / ((1 - d) * quality**2 * (1 + dataset_entropy(quality, n_examples)))
        if rule == "supervised":
            factors = examples.mean(1)
        else:
            factors = examples.flatten(0, 1) / math.sqrt(n_examples)
        memory = cls(n_spins, len(factors), rule, scale=scale, **options)
        memory.factors.copy_(factors)
        memory.duals.copy_(factors)
        return memory

    def couplings(self) -> Float[Tensor, "spins spins"]:
        """J in full: N^2 numbers, for small networks and tests."""
        full = self.scale / self.n_spins * self.factors.T @ self.duals
        return full - torch.diag(full.diagonal())

    def fields(self, states: Float[Tensor, "batch spins"]) -> Float[Tensor, "batch spins"]:
        """h_i = sum_j J_ij s_j."""
        inner = states @ self.duals.T @ self.factors
        return self.scale / self.n_spins * (inner - (self.factors * self.duals).sum(0) * states)

    def energy(self, states: Float[Tensor, "batch spins"]) -> Float[Tensor, " batch"]:
        """H / N = -1/2 sum_ij J_ij s_i s_j / N."""
        return -0.5 * (self.fields(states) * states).mean(-1)

    def forward(self, states: Float[Tensor, "batch spins"]) -> Float[Tensor, "batch spins"]:
        """Zero-temperature recall in a fixed order of interleaved blocks; a spin without a field stays as it is."""
        check_shape("states", states, ("batch", self.n_spins))
        inner, self_terms = states @ self.duals.T, (self.factors * self.duals).sum(0)
        order = torch.arange(self.n_spins, device=states.device)
        for _ in range(self.sweeps):
            for first in range(self.n_blocks):
                block = slice(first, None, self.n_blocks)
                here = states[:, block]
                field = inner @ self.factors[:, block] - self_terms[block] * here
                after = torch.where(field == 0, here, torch.sign(field))
                inner = inner + (after - here) @ self.duals[:, block].T
                states = states.index_copy(1, order[block], after)
        return states

    @torch.no_grad()
    def recall(
        self,
        states: Float[Tensor, "replicas spins"],
        patterns: Float[Tensor, "patterns spins"] | None = None,
        *,
        temperature: float = 0.0,
        sweeps: int = 20,
        update: str = "block",
        block_share: float = 0.02,
        generator: torch.Generator | None = None,
    ) -> Recall:
        """Glauber dynamics from `states`, all replicas side by side: P(s_i = 1) = (1 + tanh(h_i / T)) / 2.

        Args:
            patterns: what overlaps are measured with; default: the factors.
            temperature: 0 follows the sign of the field and keeps spins without one.
            update: `sequential` turns one spin after another, in a random order anew each sweep; `block` turns
                `block_share` of the spins at once, which at low load gives the same within sampling error.
        """
        check_shape("states", states, ("replicas", self.n_spins))
        if update not in ("sequential", "block"):
            raise ValueError(f"update {update!r}: sequential or block")
        if temperature < 0:
            raise ValueError(f"temperature: a number from 0, given {temperature}")
        states = states.float().clone()
        size = 1 if update == "sequential" else max(1, round(block_share * self.n_spins))
        factors, duals = self.factors.T.contiguous(), self.duals.T.contiguous()  # a block's rows lie together
        self_terms, inner = (factors * duals).sum(1), states @ duals
        per_spin = self.scale / self.n_spins
        for _ in range(sweeps):
            for block in torch.randperm(self.n_spins, generator=generator).split(size):
                here = states[:, block]
                field = per_spin * (inner @ factors[block].T - self_terms[block] * here)
                if temperature:
                    chance = torch.sigmoid(2 * field / temperature)
                    after = torch.where(torch.rand(here.shape, generator=generator) < chance, 1.0, -1.0)
                else:
                    after = torch.where(field == 0, here, torch.sign(field))
                inner += (after - here) @ duals[block]
                states[:, block] = after
        patterns = self.factors if patterns is None else patterns
        return Recall(states, overlaps(states, patterns), self.energy(states))

    @classmethod
    def example(cls) -> Example:
        """Three patterns of 24 spins."""
        generator = torch.Generator().manual_seed(1)
        memory = cls.store(dilute_patterns(3, 24, 0.3, generator), sweeps=2, n_blocks=4)
        return Example(memory, (2.0 * torch.randint(0, 2, (5, 24), generator=generator) - 1,))


def overlaps(states: Float[Tensor, "batch spins"], patterns: Float[Tensor, "patterns spins"]) -> Tensor:
    """Mattis overlaps m_mu = mean_i xi_i^mu s_i, (batch, patterns); at most the pattern's activity."""
    return states @ patterns.to(states).T / states.shape[1]


def hierarchical_state(patterns: Float[Tensor, "patterns spins"], generator: torch.Generator | None = None) -> Tensor:
    """The spins that follow each site's first pattern that is not blank there; sites blank in all are drawn at random.

    Returns (1, spins).
    """
    state = 2.0 * torch.randint(0, 2, (patterns.shape[1],), generator=generator) - 1
    for pattern in patterns.flip(0):
        state = torch.where(pattern != 0, pattern, state)
    return state[None]


def pattern_losses(states: Float[Tensor, "batch spins"], patterns: Float[Tensor, "patterns spins"]) -> Tensor:
    """L_mu = |xi - s|^2 |xi + s|^2 / (4 N^2) = ((1 + a_mu)^2 - 4 m_mu^2) / 4, (batch, patterns), a_mu the activity."""
    n = states.shape[1]
    minus = (patterns[None] - states[:, None]).square().sum(-1)
    plus = (patterns[None] + states[:, None]).square().sum(-1)
    return minus * plus / (4 * n**2)


def ternarise(values: Tensor, blank: float = 0.5) -> Tensor:
    """Real numbers (patterns, spins) cut into -1, 0, 1 at two quantiles of each row, a share `blank` in the middle."""
    if not 0 <= blank < 1:
        raise ValueError(f"blank: a share from 0 and below 1, given {blank}")
    low = values.quantile((1 - blank) / 2, dim=1, keepdim=True)
    high = values.quantile((1 + blank) / 2, dim=1, keepdim=True)
    return (values > high).float() - (values < low).float()
