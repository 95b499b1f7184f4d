"""The wing's models side by side: `paperworks compare operators --task darcy`.

A model enters as one small function `build(in_channels, out_channels, size, boundary, width)` that gives a module of
(batch, channels, *space) whose size grows with `width`; the lab finds the width of the size that is asked for.
Everything else is the same for all: data, normalisation, loss (relative L2), batches, steps, and tuning.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paperworks.errors import DataFileError
from paperworks.lab.wings import Comparison, Model, Splits, Task, Unsuitable

from .field_files import open_fields
from .field_pictures import sample_pictures
from .pde_data import Fields, simulate

SCORED_AT_ONCE = 64
TIMED = 16  # samples of the batch whose inference is timed
DATA_SEED = 1_000_003  # training, validation and test samples of one seed are drawn apart by it


@dataclass(frozen=True)
class Pairs:
    """Samples to score: inputs and targets (n, channels, *space); whole trajectories (n, t, channels, *space)."""

    inputs: Tensor
    targets: Tensor
    series: Tensor | None = None


class Normalised(nn.Module):
    """A model between the data's units: each channel's mean and deviation over the training samples."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor):
        super().__init__()
        self.model = model
        for name, rows in (("input", inputs), ("target", targets)):
            axes = [0, *range(2, rows.ndim)]
            self.register_buffer(f"{name}_mean", rows.mean(axes, keepdim=True)[0])
            self.register_buffer(f"{name}_std", rows.std(axes, keepdim=True)[0].clamp_min(1e-6))

    def forward(self, u: Tensor) -> Tensor:
        """Target fields in their own units."""
        return self.model((u - self.input_mean) / self.input_std) * self.target_std + self.target_mean  # type: ignore[operator]


def relative_l2(prediction: Tensor, truth: Tensor) -> Tensor:
    """Relative L2 error of each sample, over channels and space."""
    return (prediction - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1).clamp_min(1e-12)


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean relative L2 error."""
    return relative_l2(model(batch[0]), batch[1]).mean()


def predicted(model: nn.Module, inputs: Tensor) -> Tensor:
    """Predictions in chunks, on the CPU."""
    device = next(model.parameters()).device
    return torch.cat([model(part.to(device)).float().cpu() for part in inputs.split(SCORED_AT_ONCE)])


@torch.no_grad()
def score(model: nn.Module, rows: Pairs) -> dict[str, float]:
    """Mean relative L2 error; of time series also that at the end of a rollout from the first frame."""
    found = {"relative_l2": float(relative_l2(predicted(model, rows.inputs), rows.targets).mean())}
    if rows.series is not None:
        state = rows.series[:, 0]
        for _ in range(rows.series.shape[1] - 1):
            state = predicted(model, state)
        found["rollout_l2"] = float(relative_l2(state, rows.series[:, -1]).mean())
    return found


def infer(model: nn.Module, rows: Pairs) -> tuple[Any, int]:
    """A batch of test samples, to be timed."""
    inputs = rows.inputs[:TIMED].to(next(model.parameters()).device)
    return lambda: model(inputs), len(inputs)


def pictures(model: nn.Module, splits: Splits) -> list[dict[str, Any]]:
    """Truth, prediction and error of the first test sample, the same for every model."""
    rows: Pairs = splits.test
    inputs, truth = (tensor[:1, None] for tensor in (rows.inputs, rows.targets))
    guess = predicted(model, rows.inputs[:1])[:, None]
    made = sample_pictures(inputs, truth, guess, 0, caption=f"Relative L2 {float(relative_l2(guess, truth)[0]):.3g}.")
    for picture in made[:1]:
        if picture["kind"] == "images":  # the input is the same for all
            kept = {name: picture[name][1:] for name in ("images", "ranges", "colours")}
            labels = ["truth", "prediction", "|error|"]
            return [{**picture, **kept, "labels": labels, "title": "first test sample", "columns": 3}]
        series = {name: values for name, values in picture["series"].items() if name != "input"}
        return [{**picture, "title": "first test sample", "series": series}]
    return []


# Tasks


def as_pairs(data: Fields) -> Pairs:
    """What is given and asked for: the input field or the first of two frames, or every frame and the one after it."""
    if data.inputs is not None:
        return Pairs(data.inputs, data.fields[:, -1])
    if data.fields.shape[1] == 2:
        return Pairs(data.fields[:, 0], data.fields[:, 1])
    return Pairs(*data.pairs(), series=data.fields)


def splits_of(train: Pairs, validation: Pairs, test: Pairs, boundary: str, elsewhere: Mapping[str, Pairs]) -> Splits:
    """The lab's form of a task's data."""
    return Splits(
        (train.inputs, train.targets),
        validation,
        test,
        shape_of(train.inputs, train.targets, boundary),
        elsewhere,
        train,
    )


def shape_of(inputs: Tensor, targets: Tensor, boundary: str) -> dict[str, Any]:
    """What a model's adapter is told."""
    return {
        "in_channels": inputs.shape[1],
        "out_channels": targets.shape[1],
        "size": tuple(inputs.shape[2:]),
        "boundary": boundary,
    }


def simulated(problem: str, names: tuple[str, ...]) -> Any:
    """A task's `load`: samples of `problem`, with the settings in `names` handed to its simulator."""

    def load(settings: Mapping[str, Any], seed: int, file: Path | None) -> Splits:
        options = tuple((name, settings[name]) for name in names)
        counts = tuple(settings[f"n_{part}"] for part in ("train", "validation", "test"))
        return _simulated(problem, seed, settings["size"], settings["size_elsewhere"], counts, options)

    return load


@lru_cache(maxsize=4)
def _simulated(
    problem: str, seed: int, size: int, other: int, counts: tuple[int, int, int], options: tuple[tuple[str, Any], ...]
) -> Splits:
    """One seed's data, kept for the next model of the same process."""
    drawn = [
        simulate(problem, count, seed=seed + part * DATA_SEED, size=size, **dict(options))
        for part, count in enumerate(counts)
    ]
    elsewhere = simulate(problem, counts[2], seed=seed + 2 * DATA_SEED, size=other, **dict(options))
    name = " × ".join([str(other)] * len(elsewhere.bc))
    train, validation, test = (as_pairs(data) for data in drawn)
    return splits_of(train, validation, test, drawn[0].bc[0], {name: as_pairs(elsewhere)})


def grid(channels: int, dims: int, boundary: str) -> Any:
    """A simulated task's `shape`."""
    return lambda settings, file: {
        "in_channels": channels,
        "out_channels": channels,
        "size": (settings["size"],) * dims,
        "boundary": boundary,
    }


def read(settings: Mapping[str, Any], seed: int, file: Path | None) -> Splits:
    """A user's file: its samples in an order drawn from the seed, the first to test, the next to validate.

    Where the grid's every second point is a grid of the same domain, models that transfer are also scored on it.
    """
    assert file is not None
    files = open_fields(file)
    if not files.has_fields or (files.times == 1 and not files.input_names):
        raise DataFileError(f"{file} has nothing to learn from: expected inputs and one frame, or at least two frames")
    if len(files) < 3:
        raise DataFileError(f"{file} holds {len(files)} samples; at least 3 are needed: to train, validate and test")
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
    test = min(settings["n_test"], max(1, len(files) // 5))
    held = test + min(settings["n_validation"], max(1, len(files) // 10))
    frames = slice(settings["frames"]) if settings["frames"] else None
    train, validation, kept = (
        as_pairs(files.read(sorted(rows), frames))
        for rows in (order[held : held + settings["n_train"]], order[test:held], order[:test])
    )
    return splits_of(train, validation, kept, files.bc[0], _every_second(kept, files.bc))


def _every_second(rows: Pairs, bc: tuple[str, ...]) -> dict[str, Pairs]:
    """The rows on every second point, if these are a grid of the same domain and enough."""
    size = rows.inputs.shape[2:]
    if min(size) < 16 or any(n % 2 == (kind == "periodic") for n, kind in zip(size, bc, strict=True)):
        return {}
    coarser = (..., *[slice(None, None, 2)] * len(size))
    series = None if rows.series is None else rows.series[coarser]
    found = Pairs(rows.inputs[coarser], rows.targets[coarser], series)
    return {" × ".join(map(str, found.inputs.shape[2:])): found}


def shape_of_file(settings: Mapping[str, Any], file: Path | None) -> dict[str, Any]:
    """What `read` will tell of the file, from its header."""
    assert file is not None
    files = open_fields(file)
    inputs = len(files.input_names) or len(files.channel_names)
    sizes = {"in_channels": inputs, "out_channels": len(files.channel_names), "size": tuple(files.space)}
    return {**sizes, "boundary": files.bc[0]}


FILE = Task(
    "Your file: the field from the input, or the next frame from every frame.",
    read,
    shape_of_file,
    settings=dict(n_train=256, n_validation=32, n_test=64, frames=0),
    smoke=dict(n_train=8, n_validation=4, n_test=4, frames=4),
)
TASKS = {
    "darcy": Task(
        "Darcy flow: a piecewise constant permeability is given, the pressure is asked for.",
        simulated("darcy", ("n_modes",)),
        grid(1, 2, "dirichlet"),
        settings=dict(n_validation=40, n_test=60),
        smoke=dict(n_train=12, n_validation=4, n_test=4, size=16, size_elsewhere=32, n_modes=16),
        laptop=dict(n_train=256, size=24, size_elsewhere=48, n_modes=24),
        paper=dict(n_train=1000, n_test=200, size=85, size_elsewhere=141, n_modes=85),
    ),
    "burgers": Task(
        "Viscous Burgers: the state at time 0 is given, that at time 1 asked for.",
        simulated("burgers", ("nu",)),
        grid(1, 1, "periodic"),
        settings=dict(nu=0.01, n_validation=32, n_test=64),
        smoke=dict(n_train=12, n_validation=4, n_test=4, size=32, size_elsewhere=64, nu=0.1),
        laptop=dict(n_train=256, size=128, size_elsewhere=256),
        paper=dict(n_train=1000, n_test=200, size=1024, size_elsewhere=8192, nu=0.1),
    ),
    "navier-stokes": Task(
        "Forced two-dimensional Navier-Stokes: the vorticity one time unit later is asked for, from every frame; a "
        "rollout applies the model to its own output from the first frame to the last.",
        simulated("navier_stokes", ("nu", "frames")),
        grid(1, 2, "periodic"),
        settings=dict(nu=1e-3),
        smoke=dict(n_train=4, n_validation=2, n_test=2, size=16, size_elsewhere=32, frames=3),
        laptop=dict(n_train=48, n_validation=8, n_test=16, size=24, size_elsewhere=48, frames=9),
        paper=dict(n_train=1000, n_validation=100, n_test=200, size=64, size_elsewhere=128, frames=51),
    ),
}


# Models


def deeponet(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Sensors and locations are the grid's points."""
    from .on_grid import DeepONetOnGrid

    return DeepONetOnGrid(in_channels, out_channels, size, width)


def fnn(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """One net on all sensors and a location."""
    from .on_grid import FNNOnGrid

    return FNNOnGrid(in_channels, out_channels, size, width)


def fno(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Eight modes an axis in two dimensions, sixteen in one; beyond a boundary the grid is continued by a quarter."""
    from .fno import FNO

    modes = [min(16 if len(size) == 1 else 8, n // 2) for n in size]
    padding = 0.0 if boundary == "periodic" else 0.25
    return FNO(in_channels, out_channels, width, modes, projection=4 * width, padding=padding)


def unet(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Two poolings, padded as the boundary asks."""
    from .unet import UNet

    mode = "circular" if boundary == "periodic" else "zeros"
    return UNet(in_channels, out_channels, width, depth=2, padding_mode=mode, ndim=len(size))


def mgno(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """As many levels as halve the grid down to two points, five at the most."""
    from .mgno.model import BOUNDARIES, MgNO

    levels = min(5, (min(size) - 1).bit_length())
    smoothing = [(1, 0)] * (levels - 1) + [(2, 0)]
    kind = boundary if boundary in BOUNDARIES else "neumann"
    return MgNO(in_channels, out_channels, width, smoothing=smoothing, boundary=kind, ndim=len(size))


def drift_net(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Patches of two points, two stages of two blocks."""
    from .drift_net import DRIFTNet

    return DRIFTNet(in_channels, out_channels, square(size, 4), **_stages(boundary, width))


def scot(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """The same with shifted windows of half the patches."""
    from .drift_net import DRIFTNet

    side = square(size, 4)
    window: dict[str, Any] = dict(mixer="window", num_heads=(2, 4), window_size=max(2, side // 4))
    window["periodic_windows"] = boundary == "periodic"
    return DRIFTNet(in_channels, out_channels, side, **_stages(boundary, 2 * width), **window)


def _stages(boundary: str, embed_dim: int) -> dict[str, Any]:
    padding = "circular" if boundary == "periodic" else "zeros"
    sizes: dict[str, Any] = dict(patch_size=2, embed_dim=embed_dim, depths=(2, 2), skip_blocks=(1, 0), gate_hidden=16)
    return sizes | dict(padding=padding, time_conditioned=False)


def sinenet(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Four waves of two poolings."""
    from .sinenet import SineNet

    divisible(size, 4)
    padding = "circular" if boundary == "periodic" else "zeros"
    return SineNet(in_channels, out_channels, width, waves=4, levels=2, padding=padding)


def unet_mod(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """One residual block a level, one halving."""
    from .unet_mod import UNetMod

    divisible(size, 2)
    padding = "circular" if boundary == "periodic" else "zeros"
    return UNetMod(in_channels, out_channels, width, (1, 2), blocks=1, padding=padding, groups=1)


def local_no(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Eight modes an axis, differences in every layer."""
    from .nn_to_no import LocalNO

    side = square(size, 1)
    modes = [2 * min(8, n // 2) for n in size]
    return LocalNO(in_channels, out_channels, width, modes, differential=(True,) * 4, base_resolution=side)


def kernel_unet(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Kernels of five points on the grid of training, resized on others."""
    from .nn_to_no import KernelUNet

    side = square(size, 1)
    sizes: dict[str, Any] = dict(multipliers=(1, 2), kernel_size=5, n_blocks=1)
    return KernelUNet(in_channels, out_channels, width, interpolate=True, base_resolution=side, **sizes)


def oformer(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Two layers of one head, eight modes an axis."""
    from .nn_to_no import OFormer

    plane(size)
    return OFormer(in_channels, out_channels, 4 * width, heads=1, n_layers=2, n_modes=8)


def vit_no(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Sixteen patches; four modes an axis within a patch, eight of the whole image at the end."""
    from .continuum_attention import ViTNeuralOperator

    divisible(size, 4)
    channels = 4 * width
    sizes: dict[str, Any] = dict(patches=4, modes=(4, 4), smoothing=8, heads=4, layers=4)
    return ViTNeuralOperator(in_channels, out_channels, d_model=channels, ff=2 * channels, **sizes)


def fano(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Sixteen patches; two modes an axis of queries, keys and values within a patch."""
    from .continuum_attention import FourierAttentionNeuralOperator

    divisible(size, 4)
    channels = 2 * width
    sizes: dict[str, Any] = dict(patches=4, modes=(2, 2), heads=2, layers=4)
    return FourierAttentionNeuralOperator(in_channels, out_channels, d_model=channels, ff=2 * channels, **sizes)


def tno(in_channels: int, out_channels: int, size: tuple[int, ...], boundary: str, width: int) -> nn.Module:
    """Every point is a token."""
    from .on_grid import TransformerOnLine

    if len(size) != 1:
        raise Unsuitable("takes one-dimensional grids here, as all its points attend to one another")
    return TransformerOnLine(in_channels, out_channels, 4 * width)


def plane(size: tuple[int, ...]) -> None:
    """Refuse all but two dimensions."""
    if len(size) != 2:
        raise Unsuitable("takes two-dimensional grids")


def divisible(size: tuple[int, ...], by: int) -> None:
    """Refuse all but two dimensions of points that `by` divides."""
    plane(size)
    if any(n % by for n in size):
        raise Unsuitable(f"takes grids whose sides {by} divides")


def square(size: tuple[int, ...], by: int) -> int:
    """The side of a square grid; refuse any other."""
    divisible(size, by)
    if size[0] != size[1]:
        raise Unsuitable("takes square grids")
    return size[0]


MODELS = {
    "deeponet": Model(deeponet, "a product of a net of the input and a net of the location", widest=512),
    "fnn": Model(fnn, "one fully connected net on input and location, DeepONet's baseline", widest=512),
    "fno": Model(fno, "Fourier neural operator: low frequencies times learned matrices", transfers=True, widest=256),
    "unet": Model(unet, "convolutions on finer and coarser grids and back, joined by skips", widest=128),
    "mgno": Model(mgno, "linear maps as multigrid V-cycles", transfers=True, widest=128),
    "drift_net": Model(drift_net, "tokens mixed by gated low frequencies and local convolutions", widest=128),
    "scot": Model(scot, "tokens that attend within shifted windows, DRIFT-Net's baseline", widest=128),
    "sinenet": Model(sinenet, "several U-Nets in sequence, each a part of the step", widest=128),
    "unet_mod": Model(unet_mod, "a U-Net of residual blocks with norms, SineNet's baseline", widest=128),
    "local_no": Model(local_no, "a Fourier neural operator with differences in every layer", True, 128),
    "kernel_unet": Model(kernel_unet, "a U-Net converted: its kernels are functions, resized to the grid", True, 128),
    "oformer": Model(oformer, "linear attention with quadrature weights beside low frequencies", True, 128),
    "vit_no": Model(vit_no, "patches of functions that attend to one another", True, 128),
    "fano": Model(fano, "patches whose queries, keys and values are functions too", True, 128),
    "tno": Model(tno, "points that attend to one another with quadrature weights", True, 128),
}

comparison = Comparison(
    tasks=TASKS,
    models=MODELS,
    loss=loss,
    score=score,
    metric="relative_l2",
    file=FILE,
    file_kinds="a file of fields (.h5, .nc, .mat, .npz, .npy, .pt)",
    infer=infer,
    wrap=lambda model, splits: Normalised(model, splits.extra.inputs, splits.extra.targets),
    pictures=pictures,
    settings=dict(batch_size=8, parameters=100_000, seconds=6.0, clip=1.0),
    smoke=dict(steps=3, parameters=5_000, seconds=0.1),
    laptop=dict(steps=160),
    paper=dict(steps=20_000, parameters=1_000_000, seconds=600.0),
    rates=(5e-4, 2e-3, 8e-3, 3.2e-2),
    tuning=dict(steps=40),
)
