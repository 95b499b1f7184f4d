"""Data of partial differential equations in one layout, and simulators that make it from a seed.

    data = simulate("navier_stokes", 200, seed=0, size=32, frames=11)
    data.fields                    # float32 (samples, time, channel, *space)
    train, test = data[:160], data[160:]

A problem whose input is no state in time (Darcy: the coefficient) keeps it in `inputs`, (samples, channel, *space).
"""

import hashlib
import inspect
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .advection import solve_advection
from .burgers import solve_burgers
from .darcy import darcy_coefficient, solve_darcy
from .navier_stokes import fno_forcing, kolmogorov_forcing, poseidon_forcing, solve_vorticity
from .random_fields import neumann_field, periodic_field, random_sines, turbulent_vorticity
from .shallow_water import solve_shallow_water
from .spectral_grid import resample


@dataclass(frozen=True)
class Fields:
    """Samples of one problem on one grid. Slicing selects samples: `data[:100]`.

    Attributes:
        fields: float32 (n, time, channel, *space).
        coords: one array of positions per axis of space.
        t: (time,) times of the frames.
        params: float32 (n, p) parameters of each sample; p may be 0.
        channel_names: of `fields`.
        bc: per axis of space: periodic, wall, open, dirichlet, neumann, or unknown.
        inputs: float32 (n, channel, *space): what is given besides the first frames (a coefficient), or None.
        input_names, param_names: of `inputs` and `params`.
    """

    fields: Tensor
    coords: tuple[Tensor, ...]
    t: Tensor
    params: Tensor
    channel_names: tuple[str, ...]
    bc: tuple[str, ...]
    inputs: Tensor | None = None
    input_names: tuple[str, ...] = ()
    param_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, times, channels, *space = self.fields.shape
        for name, given, expected in (
            ("coords", tuple(len(axis) for axis in self.coords), tuple(space)),
            ("t", tuple(self.t.shape), (times,)),
            ("params", tuple(self.params.shape), (n, len(self.param_names))),
            ("channel_names", len(self.channel_names), channels),
            ("bc", len(self.bc), len(space)),
            (
                "inputs",
                self.inputs is not None and tuple(self.inputs.shape[:2]),
                bool(self.input_names) and (n, len(self.input_names)),
            ),
        ):
            if given != expected:
                raise ValueError(f"{name}: expected {expected} for fields {tuple(self.fields.shape)}, given {given}")

    def __len__(self) -> int:
        return len(self.fields)

    def __getitem__(self, rows: slice | Tensor | list[int]) -> "Fields":
        inputs = None if self.inputs is None else self.inputs[rows]
        return replace(self, fields=self.fields[rows], params=self.params[rows], inputs=inputs)

    def pairs(self, step: int = 1) -> tuple[Tensor, Tensor]:
        """States and the states `step` frames later, each (n * (time - step), channel, *space)."""
        return self.fields[:, :-step].flatten(0, 1), self.fields[:, step:].flatten(0, 1)


Simulator = Callable[..., Fields]
CHUNK = 16  # samples solved together: what fits into a core's cache


def simulate(
    problem: str, n: int, *, seed: int, size: int, cache: Path | str | None = None, **parameters: Any
) -> Fields:
    """n samples of a problem; the same arguments give the same data, and sample i does not depend on n.

    Args:
        problem: a name of `PROBLEMS`: navier_stokes, decaying_turbulence, kolmogorov, darcy, burgers, advection,
            shallow_water.
        n: samples.
        seed: of the initial states, coefficients and parameters.
        size: points an axis of the result.
        cache: a folder that keeps what was simulated, under a key of all arguments and the solvers' source; default
            the environment's PAPERWORKS_CACHE, or none.
        parameters: keyword arguments of the problem's function in this module.

    Returns:
        `Fields` on the CPU.
    """
    if problem not in PROBLEMS:
        raise ValueError(f"problem {problem!r}: one of {', '.join(PROBLEMS)}")
    if n < 1 or size < 4:
        raise ValueError(f"n: at least 1, size: at least 4, given {n} and {size}")
    simulator = PROBLEMS[problem]
    defaults = {
        name: value.default
        for name, value in inspect.signature(simulator).parameters.items()
        if value.default is not value.empty
    }
    unknown = sorted(parameters.keys() - defaults.keys())
    if unknown:
        raise ValueError(f"{problem} has no parameter {unknown[0]!r}; there are {', '.join(sorted(defaults))}")
    parameters = {**defaults, **parameters}

    def make() -> Fields:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # small transforms get slower with more
        try:
            parts = [simulator(min(CHUNK, n - first), seed, first, size, **parameters) for first in range(0, n, CHUNK)]
        finally:
            torch.set_num_threads(threads)
        return _joined(parts)

    cache = cache if cache is not None else os.environ.get("PAPERWORKS_CACHE") or None
    if cache is None:
        return make()
    key = dict(problem=problem, n=n, seed=seed, size=size, solvers=_source(), torch=torch.__version__, **parameters)
    return _cached(Path(cache), key, make)


def _joined(parts: list[Fields]) -> Fields:
    inputs = [part.inputs for part in parts if part.inputs is not None]
    return replace(
        parts[0],
        fields=torch.cat([part.fields for part in parts]),
        params=torch.cat([part.params for part in parts]),
        inputs=torch.cat(inputs) if inputs else None,
    )


def _axes(size: int, dim: int, length: float) -> tuple[Tensor, ...]:
    return (length / size * torch.arange(size, dtype=torch.float32),) * dim


def _times(frames: int, interval: float) -> Tensor:
    return interval * torch.arange(frames, dtype=torch.float32)


def _drawn(n: int, seed: int, first: int, low_high: float | tuple[float, float], *, logarithmic: bool = True) -> Tensor:
    """One parameter a sample: a number, or drawn between two (of a logarithm, if so)."""
    if isinstance(low_high, int | float):
        return torch.full((n,), float(low_high), dtype=torch.float64)
    share = torch.tensor([np.random.default_rng([seed, first + i, 1]).uniform() for i in range(n)])
    low, high = (torch.tensor(float(value), dtype=torch.float64) for value in low_high)
    return low * (high / low) ** share if logarithmic else low + (high - low) * share


def _vorticity(w: Tensor, size: int, length: float, frames: int, interval: float, nu: Tensor, **solver: Any) -> Fields:
    fields = solve_vorticity(w.float(), nu=nu, interval=interval, frames=frames, length=length, **solver)
    return Fields(
        resample(fields, size, 2)[:, :, None].contiguous(),
        _axes(size, 2, length),
        _times(frames, interval),
        nu[:, None].float(),
        ("vorticity",),
        ("periodic", "periodic"),
        param_names=("viscosity",),
    )


def navier_stokes(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    nu: float | tuple[float, float] = 1e-3,
    frames: int = 21,
    interval: float = 1.0,
    dt: float = 0.02,
    forcing: str = "fno",
    amplitude: str = "released",
    simulated_size: int = 64,
    scheme: str = "ab2cn",
) -> Fields:
    """Forced vorticity on the unit square from Gaussian fields: arXiv 2010.08895, section 5.3.

    There nu is 1e-3, 1e-4 or 1e-5, and the first ten frames are given. Solved on at least `simulated_size` points an
    axis and truncated in Fourier space. nu may be a range, from which it is drawn (its logarithm uniform). The
    published sets come from `scheme="eulercn", dt=1e-4, simulated_size=256`, which is far slower and no more accurate.
    """
    fine = max(size, simulated_size)
    choices = {"fno": fno_forcing, "poseidon": poseidon_forcing, "none": lambda _: None}
    if forcing not in choices:
        raise ValueError(f"forcing: one of {', '.join(choices)}, given {forcing!r}")
    w = periodic_field(n, fine, alpha=2.5, tau=7, amplitude=amplitude, seed=seed, first=first)  # type: ignore[arg-type]
    pushed = choices[forcing](fine)
    return _vorticity(w, size, 1.0, frames, interval, _drawn(n, seed, first, nu), dt=dt, forcing=pushed, scheme=scheme)


def decaying_turbulence(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    nu: float | tuple[float, float] = 1e-3,
    frames: int = 9,
    interval: float = 0.5,
    dt: float = 0.01,
    spectrum: str = "gaussian",
    k_peak: float = 4.0,
    simulated_size: int = 64,
) -> Fields:
    """Unforced vorticity on the square of length 2 pi from a random spectrum of root mean square speed 1."""
    fine = max(size, simulated_size)
    w = turbulent_vorticity(n, fine, spectrum=spectrum, k_peak=k_peak, seed=seed, first=first)  # type: ignore[arg-type]
    return _vorticity(w, size, 2 * torch.pi, frames, interval, _drawn(n, seed, first, nu), dt=dt)


def kolmogorov(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    nu: float | tuple[float, float] = 1e-2,
    k: int = 4,
    drag: float = 0.1,
    frames: int = 11,
    interval: float = 0.5,
    dt: float = 0.01,
    warm_up: float = 5.0,
    simulated_size: int = 64,
) -> Fields:
    """Vorticity under the force sin(k y) along x and linear drag on the square of length 2 pi (jax-cfd's set-up)."""
    fine = max(size, simulated_size)
    w = turbulent_vorticity(n, fine, seed=seed, first=first)
    pushed, nus = kolmogorov_forcing(fine, k), _drawn(n, seed, first, nu)
    return _vorticity(w, size, 2 * torch.pi, frames, interval, nus, dt=dt, drag=drag, forcing=pushed, warm_up=warm_up)


def darcy(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    kind: str = "piecewise",
    high: float = 12.0,
    low: float = 3.0,
    alpha: float = 2.0,
    tau: float = 3.0,
    forcing: float = 1.0,
    n_modes: int | None = None,
) -> Fields:
    """-div(a grad u) = f with u = 0 on the boundary: arXiv 2010.08895, section 5.2. `inputs` is a, `fields` is u.

    The same seed and `n_modes` give the same coefficient function at every size.
    """
    g = neumann_field(n, size, alpha=alpha, tau=tau, n_modes=n_modes, seed=seed, first=first)
    a = darcy_coefficient(g, kind, high, low)  # type: ignore[arg-type]
    return Fields(
        solve_darcy(a, forcing).float()[:, None, None],
        (torch.linspace(0, 1, size),) * 2,
        torch.zeros(1),
        torch.zeros(n, 0),
        ("pressure",),
        ("dirichlet", "dirichlet"),
        inputs=a.float()[:, None],
        input_names=("coefficient",),
    )


def burgers(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    nu: float | tuple[float, float] = 0.1,
    initial: str = "fno",
    frames: int = 2,
    interval: float = 1.0,
    dt: float = 1e-3,
    simulated_size: int = 256,
) -> Fields:
    """Viscous Burgers on the periodic unit interval.

    initial: `fno` N(0, 625 (-Laplacian + 25)^-2) with nu = 0.1 in arXiv 2010.08895, `generator` the public script's
    49^2 (-Laplacian + 49)^-2.5 with nu = 1e-3, or `sines`, PDEBench's (frames=201, interval=0.01 there). Steep
    solutions need `simulated_size` of several 1 / nu.
    """
    fine = max(size, simulated_size)
    if initial == "fno":
        u = periodic_field(n, fine, dim=1, alpha=2, tau=5, sigma=25, seed=seed, first=first)
    elif initial == "generator":
        u = periodic_field(n, fine, dim=1, alpha=2.5, tau=7, sigma=49, seed=seed, first=first)
    elif initial == "sines":
        u = random_sines(_axes(fine, 1, 1.0)[0].double().expand(n, -1), seed=seed, first=first)
    else:
        raise ValueError(f"initial: fno, generator or sines, given {initial!r}")
    nus = _drawn(n, seed, first, nu)
    fields = solve_burgers(u, nu=nus, interval=interval, frames=frames, dt=dt)
    return Fields(
        resample(fields, size, 1)[:, :, None].float(),
        _axes(size, 1, 1.0),
        _times(frames, interval),
        nus[:, None].float(),
        ("u",),
        ("periodic",),
        param_names=("viscosity",),
    )


def advection(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    beta: float | tuple[float, float] = 1.0,
    initial: str = "sines",
    frames: int = 11,
    interval: float = 0.1,
) -> Fields:
    """Exact advection on the periodic unit interval, of PDEBench's `sines` (with windows) or `gaussian` fields."""
    speed = _drawn(n, seed, first, beta)
    x, t = _axes(size, 1, 1.0)[0], _times(frames, interval)
    if initial == "sines":
        places = x.double() - speed[:, None, None] * t.double()[:, None]
        fields = random_sines(places, seed=seed, first=first)
    elif initial == "gaussian":
        u = periodic_field(n, size, dim=1, alpha=2, tau=5, sigma=25, seed=seed, first=first)
        fields = solve_advection(u, beta=speed, t=t)
    else:
        raise ValueError(f"initial: sines or gaussian, given {initial!r}")
    return Fields(
        fields[:, :, None].float(), (x,), t, speed[:, None].float(), ("u",), ("periodic",), param_names=("speed",)
    )


def shallow_water(
    n: int,
    seed: int,
    first: int,
    size: int,
    *,
    radius: float | tuple[float, float] = (0.3, 0.7),
    inside: float = 2.0,
    frames: int = 11,
    interval: float = 0.1,
    boundary: str = "open",
    channels: str = "h",
) -> Fields:
    """PDEBench's radial dam break on [-2.5, 2.5]^2: depth `inside` within a radius, 1 elsewhere, at rest.

    channels: `h`, as PDEBench stores, or `huv` with the velocities. Waves have not reached the boundary at time 1.
    """
    if channels not in ("h", "huv"):
        raise ValueError(f"channels: h or huv, given {channels!r}")
    spacing = 5 / size
    x = -2.5 + spacing * (torch.arange(size, dtype=torch.float64) + 0.5)
    radii = _drawn(n, seed, first, radius, logarithmic=False)
    depth = torch.where((x[:, None] ** 2 + x**2).sqrt() <= radii[:, None, None], inside, 1.0)
    state = torch.stack([depth, torch.zeros_like(depth), torch.zeros_like(depth)], 1).float()
    solved = solve_shallow_water(
        state,
        interval=interval,
        frames=frames,
        spacing=spacing,
        boundary=boundary,  # type: ignore[arg-type]
    )
    if channels == "h":
        solved = solved[:, :, :1]
    else:
        solved = torch.cat([solved[:, :, :1], solved[:, :, 1:] / solved[:, :, :1]], 2)
    return Fields(
        solved.contiguous(),
        (x.float(), x.float()),
        _times(frames, interval),
        radii[:, None].float(),
        tuple(channels),
        (boundary, boundary),
        param_names=("radius",),
    )


PROBLEMS: dict[str, Simulator] = {
    "navier_stokes": navier_stokes,
    "decaying_turbulence": decaying_turbulence,
    "kolmogorov": kolmogorov,
    "darcy": darcy,
    "burgers": burgers,
    "advection": advection,
    "shallow_water": shallow_water,
}


@lru_cache(maxsize=1)
def _source() -> str:
    """A hash of the solvers' source: data of an earlier solver is never taken for data of this one."""
    solvers = ("advection", "burgers", "darcy", "navier_stokes", "random_fields", "shallow_water", "spectral_grid")
    content = [(Path(__file__).parent / f"{name}.py").read_bytes() for name in (*solvers, "pde_data")]
    return hashlib.sha256(b"\0".join(content)).hexdigest()


def _cached(folder: Path, key: dict[str, Any], make: Callable[[], Fields]) -> Fields:
    told = json.dumps(key, sort_keys=True)
    path = folder / f"{key['problem']}-{hashlib.sha256(told.encode()).hexdigest()[:24]}.safetensors"
    found = _load(path, told)
    if found is not None:
        return found
    data = make()
    tensors = {"fields": data.fields, "t": data.t, "params": data.params}
    tensors |= {f"coords{i}": axis.clone() for i, axis in enumerate(data.coords)}
    if data.inputs is not None:
        tensors["inputs"] = data.inputs
    names = {name: list(getattr(data, name)) for name in ("channel_names", "bc", "input_names", "param_names")}
    folder.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=folder, prefix=".", suffix=".safetensors")
    os.close(handle)
    try:
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            beside,
            metadata={"key": told, "names": json.dumps(names)},
        )
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return data


def _load(path: Path, told: str) -> Fields | None:
    """What the cache holds under this key; a damaged file or another key counts as nothing."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("key") != told:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        names = {name: tuple(value) for name, value in json.loads(metadata["names"]).items()}
        coords = tuple(tensors[f"coords{i}"] for i in range(len(names["bc"])))
        return Fields(tensors["fields"], coords, tensors["t"], tensors["params"], inputs=tensors.get("inputs"), **names)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
