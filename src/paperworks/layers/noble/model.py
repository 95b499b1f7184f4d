"""A linear layer with a nonlinear low-rank branch beside it, and its learning rates (arXiv 2603.06492).

y = x W + b + N(x W_down + b_down) W_up, with N = CosNet; the branch is part of the layer in training and in use.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import check_shape, published_size

from .branch import branch_nonlinearity

OFFICIAL = (  # the authors' names -> ours
    ("lora_down.", "down."),
    ("lora_up.", "up."),
    ("cos_net.", "nonlinearity."),
    ("lora_middle_nonlinearity.", "nonlinearity."),
)
OFFICIAL_INSIDE = (
    ("nonlinearity.act.freq_", "nonlinearity.activations.0.freq_"),
    ("nonlinearity.second_act.freq_", "nonlinearity.activations.1.freq_"),
    ("nonlinearity.third_act.freq_", "nonlinearity.activations.2.freq_"),
    ("nonlinearity.fc.", "nonlinearity.mixes.0."),
    ("nonlinearity.fc1.", "nonlinearity.mixes.0."),
    ("nonlinearity.fc2.", "nonlinearity.mixes.1."),
)


class NobleLinear(nn.Module):
    """`nn.Linear` plus a nonlinear low-rank branch: (..., in_features) -> (..., out_features).

    Args:
        rank: width r of the branch.
        nonlinearity: one of `branch.NONLINEARITIES`; `cosnet` is the paper's.
        options: of the nonlinearity, see `branch.CosActivation` and `branch.MixedNet`.
        up_init: W_up is drawn with deviation up_init / sqrt(r), so that the branch is nearly silent at the start. Zero
            makes it silent, and then nothing but W_up learns in the first step.
        main_init: W is drawn with deviation main_init / sqrt(in_features), half of the usual; b is zero.
        down_bias: None: as the authors, none for the identity.
        lr_power, mix_lr_power, onesided: the learning-rate multipliers, see `lr_multipliers`.
        main: a layer to keep as it is in place of a new W and b: it maps the last axis.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        rank: int = 32,
        nonlinearity: str = "cosnet",
        options: Mapping[str, Any] | None = None,
        up_init: float = 0.01,
        main_init: float = 0.5,
        down_bias: bool | None = None,
        lr_power: float = 0.2,
        mix_lr_power: float = 0.5,
        onesided: bool = True,
        main: nn.Module | None = None,
    ):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank: at least 1, given {rank}")
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.up_init, self.main_init = up_init, main_init
        self.lr_power, self.onesided = lr_power, onesided
        self.linear = nn.Linear(in_features, out_features, bias) if main is None else main
        wide = 2 * rank if nonlinearity.startswith("swiglu") else rank
        self.down = nn.Linear(in_features, wide, bias=nonlinearity != "identity" if down_bias is None else down_bias)
        full_dim = min(in_features, out_features)
        self.nonlinearity = branch_nonlinearity(nonlinearity, rank, full_dim, mix_lr_power, **(options or {}))
        self.up = nn.Linear(rank, out_features, bias=False)
        if main is None:
            self.reset_main()
        self.reset_branch()

    @torch.no_grad()
    def reset_main(self) -> None:
        """Draw W at `main_init`, b = 0."""
        self.weight.normal_(0, self.main_init / math.sqrt(self.in_features))
        if self.bias is not None:
            self.bias.zero_()

    @torch.no_grad()
    def reset_branch(self) -> None:
        """Draw the branch as at the start: for after code that initialises every `nn.Linear` of a network."""
        self.down.weight.normal_(0, 1 / math.sqrt(self.in_features))
        if self.down.bias is not None:
            self.down.bias.zero_()
        self.up.weight.normal_(0, self.up_init / math.sqrt(self.rank))
        reset = getattr(self.nonlinearity, "reset_parameters", None)
        if reset:
            reset()

    @property
    def weight(self) -> Tensor:
        """W as the main layer holds it. Code that computes with it instead of calling the layer misses the branch."""
        return self.linear.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """b of the main layer."""
        return self.linear.bias  # type: ignore[return-value]

    def lr_multipliers(self) -> dict[str, float]:
        """Of W_up, with m = min(in_features, out_features): (m / r) ** (2 lr_power).

        With `onesided=False` W_up and W_down have (m / r) ** lr_power each.
        """
        ratio = min(self.in_features, self.out_features) / self.rank
        if self.onesided:
            return {"up.weight": ratio ** (2 * self.lr_power)}
        return {"up.weight": ratio**self.lr_power, "down.weight": ratio**self.lr_power}

    def branch(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """What the branch adds."""
        return self.up(self.nonlinearity(self.down(x)))

    def forward(self, x: Float[Tensor, "*batch n_in"]) -> Float[Tensor, "*batch n_out"]:
        """Both paths; the last product is added onto the main layer's output, which saves a pass over it."""
        check_shape("x", x, ("...", self.in_features))
        rows = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        out = self.linear(rows)
        hidden = self.nonlinearity(self.down(rows)).to(out.dtype)
        # Rows first and then in place: in place on a view would copy the whole gradient in the backward pass.
        out.addmm_(hidden, self.up.weight.to(out.dtype).t())
        return out if x.ndim == 2 else out.view(*x.shape[:-1], self.out_features)

    def load_official(self, state: Mapping[str, Tensor]) -> "NobleLinear":
        """Weights of the authors' `NOBLELinear` or `NOBLELinearCosNet`, strictly.

        Raises:
            RuntimeError: names or shapes that are not those of this layer.
        """
        self.load_state_dict({official_name(name): tensor for name, tensor in state.items()})
        return self

    def extra_repr(self) -> str:
        """Sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}, rank={self.rank}"


def official_name(name: str) -> str:
    """Our name of a tensor of the authors' layer."""
    for theirs, ours in (*OFFICIAL, *OFFICIAL_INSIDE):
        if name.startswith(theirs):
            name = ours + name.removeprefix(theirs)
    return name.replace("freq_scale", "frequency").replace("freq_bias", "phase")


def noble_layers(model: nn.Module) -> Iterator[tuple[str, NobleLinear]]:
    """Names and NOBLE layers of a network, each once."""
    for name, module in model.named_modules():
        if isinstance(module, NobleLinear):
            yield name, module


def lr_multiplier_groups(
    model: nn.Module, lr: float, weight_decay: float = 0.0, *, mix_multiplied: bool = True, scale: float = 1.0
) -> list[dict[str, Any]]:
    """Parameter groups for AdamW: a learning rate for each multiplier, and decay for matrices alone.

    Every parameter is in one group. A group bears `lr` and `initial_lr` (so that schedulers keep the ratios), `lr_mult`
    and `weight_decay`. Parameters of one axis (biases, norms, frequencies, phases) are never decayed; what the authors
    do there is not published. Multipliers belong to an optimiser whose steps scale with its rate by itself: with an
    optimiser that normalises whole matrices (Muon), leave the branches to AdamW.

    Args:
        mix_multiplied: False gives CosNet's matrix no multiplier. The authors' layer hangs it on a module where their
            example optimiser looks at parameters, so that it has no effect there.
        scale: exponent on all multipliers; 0 turns them off.
    """
    multipliers: dict[int, float] = {}
    for module in model.modules():
        declared = getattr(module, "lr_multipliers", None)
        if not callable(declared):
            continue
        for name, factor in declared().items():  # type: ignore[union-attr]
            tensor = _parameter(module, name)
            if tensor is not None and (mix_multiplied or not name.startswith("mixes.")):
                multipliers[id(tensor)] = factor**scale
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = multipliers.get(id(parameter), 1.0), parameter.ndim > 1
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": lr * factor,
            "initial_lr": lr * factor,
            "lr_mult": factor,
            "weight_decay": weight_decay if decayed else 0.0,
        }
        for (factor, decayed), parameters in groups.items()
    ]


def _parameter(module: nn.Module, path: str) -> nn.Parameter | None:
    owner, _, name = path.rpartition(".")
    return module.get_submodule(owner)._parameters.get(name)


@published_size(2_612_608)
def feed_forward_768() -> NobleLinear:
    """768 -> 3072 at rank 64, as in a transformer of width 768: 250,240 parameters of the branch, 10.6 % more."""
    return NobleLinear(768, 3072, rank=64)


@published_size(296_640)
def projection_512() -> NobleLinear:
    """512 -> 512 at rank 32, the authors' default: 33,984 parameters of the branch, 12.9 % more."""
    return NobleLinear(512, 512, rank=32)
