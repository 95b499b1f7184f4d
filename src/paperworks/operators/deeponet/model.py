"""DeepONet: G(u)(y) = sum_k b_k(u(x_1), ..., u(x_m)) t_k(y) + b_0.

Lu, Jin, Karniadakis, arXiv 1910.03193 (equation 2 and figure 1); authors' code lululxvi/deeponet, maintained
implementation lululxvi/deepxde. The trunk is activated after every layer, its last included; the branch's last layer
is linear. POD-DeepONet: Lu et al., arXiv 2111.05512. MIONet: Jin, Meng, Lu, arXiv 2202.06137.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paperworks.nn import MLP, Example, Pretrained, StackedMLP, check_shape, published_size

MULTI_OUTPUT = ("split_both", "split_branch", "split_trunk", "independent")


class DeepONet(nn.Module, Pretrained, tags=["operator-learning", "arxiv:1910.03193"]):
    """An operator u -> G(u), from scattered samples of G(u)(y).

    Args:
        branch_sizes: features of the branch net, from the number of sensors m to p, for example (100, 40, 40).
        trunk_sizes: features of the trunk net, from the dimension d of y to p, for example (1, 40, 40).
        activation: of both nets: relu, tanh, gelu, silu, sin.
        initializer: glorot_normal, glorot_uniform or he_normal; biases start at zero.
        stacked: p branch nets of one output each instead of one with p outputs (the paper's stacked DeepONet).
        bias: the bias of the branch's last layer and b_0, both or neither (the paper's ablation).
        num_outputs: components of G(u)(y).
        multi_output: how p features serve several outputs: `split_both` shares neither net's features among outputs,
            `split_branch` and `split_trunk` split one net and share the other, `independent` builds separate nets.
    """

    def __init__(
        self,
        branch_sizes: Sequence[int] = (100, 40, 40),
        trunk_sizes: Sequence[int] = (1, 40, 40),
        activation: str = "relu",
        initializer: str = "glorot_normal",
        stacked: bool = False,
        bias: bool = True,
        num_outputs: int = 1,
        multi_output: str = "split_both",
    ):
        super().__init__()
        self.own_modules = False
        self._check(branch_sizes, trunk_sizes, stacked, num_outputs, multi_output)
        self.n_sensors, self.n_dims = branch_sizes[0], trunk_sizes[0]
        self.num_outputs, self.multi_output, self.stacked = num_outputs, multi_output, stacked
        p = trunk_sizes[-1]
        if num_outputs == 1:
            branch, trunk, self.p = list(branch_sizes), list(trunk_sizes), p
        else:
            self.p = p // num_outputs if multi_output == "split_both" else p
            branch, trunk = list(branch_sizes), list(trunk_sizes)
            if multi_output == "split_branch":
                branch[-1] = p * num_outputs
            elif multi_output == "split_trunk":
                trunk[-1] = p * num_outputs
        copies = num_outputs if multi_output == "independent" else 1
        self.branches, self.trunks = nn.ModuleList(), nn.ModuleList()
        for _ in range(copies):
            if stacked:
                sizes = [*branch[:-1], 1]
                self.branches.append(StackedMLP(branch[-1], sizes, activation, initializer, bias_last=bias))
            else:
                self.branches.append(MLP(branch, activation, initializer, bias_last=bias))
            self.trunks.append(MLP(trunk, activation, initializer, activate_last=True))
        self.b0 = nn.Parameter(torch.zeros(num_outputs)) if bias else None
        self.input_transform: Callable[[Tensor], Tensor] | None = None
        self.output_transform: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None

    @staticmethod
    def _check(branch: Sequence[int], trunk: Sequence[int], stacked: bool, num_outputs: int, strategy: str) -> None:
        if len(branch) < 2 or len(trunk) < 2:
            raise ValueError(f"branch_sizes and trunk_sizes: at least input and output, given {branch} and {trunk}")
        if branch[-1] != trunk[-1]:
            raise ValueError(f"trunk_sizes: must end in {branch[-1]} as branch_sizes does, given {trunk[-1]}")
        if strategy not in MULTI_OUTPUT:
            raise ValueError(f"multi_output {strategy!r}: one of {', '.join(MULTI_OUTPUT)}")
        if num_outputs > 1 and strategy == "split_both" and branch[-1] % num_outputs:
            raise ValueError(f"split_both: {branch[-1]} features do not split into {num_outputs} outputs")
        if stacked and len(branch) < 3:
            raise ValueError(f"branch_sizes: a stacked branch needs a hidden layer, given {tuple(branch)}")

    @classmethod
    def from_modules(
        cls, branch: nn.Module, trunk: nn.Module, *, n_sensors: int, n_dims: int, p: int, bias: bool = True
    ) -> "DeepONet":
        """A DeepONet around the user's own branch (u -> (batch, p)) and trunk (y -> (rows, p)).

        u may then have any shape whose axis 0 is the batch. It cannot be saved by `save_pretrained`, since its
        modules are not described by plain values; save their state dicts.
        """
        made = cls((n_sensors, p), (n_dims, p), bias=bias)
        made.branches, made.trunks = nn.ModuleList([branch]), nn.ModuleList([trunk])
        made.own_modules = True
        return made

    def _save_pretrained(self, save_directory) -> None:  # type: ignore[no-untyped-def]
        if self.own_modules:
            raise ValueError("a DeepONet from_modules cannot be saved as a configuration; save its state_dict")
        super()._save_pretrained(save_directory)

    def branch(self, u: Float[Tensor, "batch *sensors"]) -> Float[Tensor, "batch outputs p"]:
        """Coefficients of the inputs, for every output."""
        if self.stacked:
            each = [net(u).squeeze(-1).T for net in self.branches]
        else:
            each = [net(u) for net in self.branches]
        return self._by_output(each, self.multi_output in ("split_both", "split_branch"))

    def trunk(self, y: Float[Tensor, "rows dims"]) -> Float[Tensor, "rows outputs p"]:
        """Basis functions at the locations, for every output."""
        if self.input_transform is not None:
            y = self.input_transform(y)
        return self._by_output([net(y) for net in self.trunks], self.multi_output in ("split_both", "split_trunk"))

    def _by_output(self, each: list[Tensor], split: bool) -> Tensor:
        if len(each) > 1:
            return torch.stack(each, dim=1)
        features = each[0]
        if self.num_outputs > 1 and split:
            return features.reshape(len(features), self.num_outputs, self.p)
        return features[:, None, :]

    def forward(
        self, u: Float[Tensor, "batch *sensors"], y: Float[Tensor, "batch dims"]
    ) -> Float[Tensor, "batch outputs"]:
        """Values of G(u) at one location a row: u (batch, n_sensors), y (batch, n_dims) -> (batch, num_outputs).

        For all functions at the same locations call `grid`, which runs each net once a row and not once a pair.
        """
        self._check_inputs(u, y)
        if len(u) != len(y):
            raise ValueError(
                f"y: expected shape ({len(u)}, {self.n_dims}), one location a row of u, given {tuple(y.shape)}; "
                "for every function at every location call grid(u, y)"
            )
        if self.num_outputs == 1 and self.input_transform is None:  # the common case without reshaping
            net = self.branches[0]
            coefficients = net(u).squeeze(-1).T if self.stacked else net(u)
            values = (coefficients * self.trunks[0](y)).sum(-1, keepdim=True)
        else:
            values = (self.branch(u) * self.trunk(y)).sum(-1)
        if self.b0 is not None:
            values = values + self.b0
        return values if self.output_transform is None else self.output_transform(u, y, values)

    def grid(
        self, u: Float[Tensor, "batch *sensors"], y: Float[Tensor, "rows dims"]
    ) -> Float[Tensor, "batch rows outputs"]:
        """Values of every function at every location: u (batch, n_sensors), y (rows, n_dims)."""
        self._check_inputs(u, y)
        return self.combine(self.branch(u), self.trunk(y), u, y)

    def combine(self, branch: Tensor, trunk: Tensor, u: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Values from branch features (batch, outputs, p) and trunk features (rows, outputs, p).

        Trunk features at fixed locations may be computed once and used again.
        """
        if self.num_outputs == 1:
            left, right = branch[:, 0], trunk[:, 0].T
            values = torch.addmm(self.b0, left, right) if self.b0 is not None else left @ right
            values = values[..., None]
        else:
            shape = (-1, self.num_outputs, -1)
            values = torch.einsum("bop,nop->bno", branch.expand(shape), trunk.expand(shape))
            if self.b0 is not None:
                values = values + self.b0
        return values if self.output_transform is None or u is None else self.output_transform(u, y, values)  # type: ignore[arg-type]

    def _check_inputs(self, u: Tensor, y: Tensor) -> None:
        if not self.own_modules:
            check_shape("u", u, ("batch", self.n_sensors))
        check_shape("y", y, ("rows", y.shape[-1] if self.input_transform else self.n_dims))

    @classmethod
    def example(cls) -> Example:
        """Three functions at five sensors, one location each."""
        return Example(cls((5, 8, 6), (2, 8, 6), activation="tanh"), (torch.randn(3, 5), torch.rand(3, 2)))


class PODDeepONet(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2111.05512"]):
    """DeepONet whose trunk is a fixed basis of the training outputs: s(y_j) = mean_j + sum_k b_k(u) phi_k(y_j).

    Args:
        branch_sizes: ends in the number of modes.
        n_locations: number of fixed output locations.
    """

    basis: Tensor
    mean: Tensor

    def __init__(
        self,
        branch_sizes: Sequence[int] = (100, 40, 10),
        n_locations: int = 100,
        activation: str = "relu",
        initializer: str = "glorot_normal",
    ):
        super().__init__()
        self.n_sensors = branch_sizes[0]
        self.branch = MLP(branch_sizes, activation, initializer)
        self.register_buffer("basis", torch.zeros(n_locations, branch_sizes[-1]))
        self.register_buffer("mean", torch.zeros(n_locations))

    def set_basis(self, outputs: Float[Tensor, "functions locations"]) -> "PODDeepONet":
        """Take the basis from training outputs: their leading principal directions, scaled to unit mean square."""
        check_shape("outputs", outputs, ("functions", len(self.mean)))
        modes = self.basis.shape[1]
        if modes > min(outputs.shape):
            raise ValueError(f"outputs: {modes} modes need at least as many functions and locations")
        mean = outputs.mean(0)
        _, _, directions = torch.linalg.svd(outputs - mean, full_matrices=False)
        self.mean.copy_(mean)
        self.basis.copy_(directions[:modes].T * len(mean) ** 0.5)
        return self

    def forward(self, u: Float[Tensor, "batch sensors"]) -> Float[Tensor, "batch locations"]:
        """Values at the fixed locations."""
        check_shape("u", u, ("batch", self.n_sensors))
        return torch.addmm(self.mean, self.branch(u), self.basis.T)

    @classmethod
    def example(cls) -> Example:
        """Two modes at seven locations."""
        made = cls((5, 8, 2), 7, activation="tanh")
        made.set_basis(torch.randn(10, 7))
        return Example(made, (torch.randn(3, 5),))


class MIONet(nn.Module, Pretrained, tags=["operator-learning", "arxiv:2202.06137"]):
    """An operator of several input functions: sum_k b1_k(u1) b2_k(u2) ... t_k(y) + b_0.

    Args:
        branches_sizes: one list of sizes an input function; all end in p.
        trunk_sizes: ends in p.
    """

    def __init__(
        self,
        branches_sizes: Sequence[Sequence[int]] = ((100, 40, 40), (100, 40, 40)),
        trunk_sizes: Sequence[int] = (1, 40, 40),
        activation: str = "relu",
        initializer: str = "glorot_normal",
    ):
        super().__init__()
        if any(sizes[-1] != trunk_sizes[-1] for sizes in branches_sizes):
            raise ValueError(f"branches_sizes: every branch must end in {trunk_sizes[-1]} as trunk_sizes does")
        self.inputs = [sizes[0] for sizes in branches_sizes]
        self.n_dims = trunk_sizes[0]
        self.branches = nn.ModuleList(MLP(sizes, activation, initializer) for sizes in branches_sizes)
        self.trunk = MLP(trunk_sizes, activation, initializer, activate_last=True)
        self.b0 = nn.Parameter(torch.zeros(1))

    def forward(self, *inputs: Float[Tensor, "batch _"]) -> Float[Tensor, "batch 1"]:
        """Values for inputs u1, u2, ..., y: one location a row."""
        if len(inputs) != len(self.branches) + 1:
            raise ValueError(f"inputs: expected {len(self.branches)} functions and y, given {len(inputs)} tensors")
        *functions, y = inputs
        for index, (u, sensors) in enumerate(zip(functions, self.inputs, strict=True)):
            check_shape(f"u{index + 1}", u, ("batch", sensors))
        check_shape("y", y, ("batch", self.n_dims))
        product = self.trunk(y)
        for branch, u in zip(self.branches, functions, strict=True):
            product = product * branch(u)
        return product.sum(-1, keepdim=True) + self.b0

    @classmethod
    def example(cls) -> Example:
        """Two input functions."""
        made = cls(((5, 8, 6), (4, 8, 6)), (1, 8, 6), activation="tanh")
        return Example(made, (torch.randn(3, 5), torch.randn(3, 4), torch.rand(3, 1)))


class FNN(nn.Module, Pretrained, tags=["operator-learning", "baseline"]):
    """The paper's baseline: one fully connected net on the concatenation of u and y."""

    def __init__(
        self,
        n_sensors: int = 100,
        n_dims: int = 1,
        hidden_sizes: Sequence[int] = (100, 100),
        num_outputs: int = 1,
        activation: str = "relu",
        initializer: str = "glorot_normal",
    ):
        super().__init__()
        self.n_sensors, self.n_dims = n_sensors, n_dims
        self.net = MLP((n_sensors + n_dims, *hidden_sizes, num_outputs), activation, initializer)

    def forward(
        self, u: Float[Tensor, "batch sensors"], y: Float[Tensor, "batch dims"]
    ) -> Float[Tensor, "batch outputs"]:
        """Values at one location a row."""
        check_shape("u", u, ("batch", self.n_sensors))
        check_shape("y", y, (len(u), self.n_dims))
        return self.net(torch.cat([u, y], dim=-1))

    @classmethod
    def example(cls) -> Example:
        """Three functions at five sensors."""
        return Example(cls(5, 2, (8, 8), activation="tanh"), (torch.randn(3, 5), torch.rand(3, 2)))


@published_size(parameters=7_401)
def deeponet_antiderivative(**changes) -> DeepONet:  # type: ignore[no-untyped-def]
    """Branch 100-40-40, trunk 1-40-40: the authors' script for the antiderivative."""
    return DeepONet(**{"branch_sizes": (100, 40, 40), "trunk_sizes": (1, 40, 40), **changes})


@published_size(parameters=7_360)
def deeponet_antiderivative_no_bias() -> DeepONet:
    """The same without the bias of the branch's last layer and b_0."""
    return deeponet_antiderivative(bias=False)


@published_size(parameters=164_961)
def deeponet_antiderivative_stacked() -> DeepONet:
    """The same with forty branch nets 100-40-1."""
    return deeponet_antiderivative(stacked=True)


@published_size(parameters=9_041)
def deeponet_antiderivative_deep_trunk() -> DeepONet:
    """The same with a trunk of three layers, the paper's size table."""
    return deeponet_antiderivative(trunk_sizes=(1, 40, 40, 40))


@published_size(parameters=20_401)
def fnn_antiderivative() -> FNN:
    """The baseline of the authors' script: 101-100-100-1."""
    return FNN(100, 1, (100, 100))


@published_size(parameters=6_819_841)
def fnn_antiderivative_best() -> FNN:
    """The widest of the paper's grid of baselines: 101-2560-2560-1."""
    return FNN(100, 1, (2560, 2560))
