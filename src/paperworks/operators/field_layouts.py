"""How the field's files lay out their arrays, each described by the axes of its data sets in stored order.

PDEBench (arXiv 2210.07182), PDEArena (arXiv 2209.15616), The Well (arXiv 2412.00568), Poseidon (arXiv 2405.19101),
the `.mat` files of arXiv 2010.08895, neuraloperator's pairs, and the layout of `pde_data.Fields`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paperworks.errors import DataFileError

SPACE = "xyz"
EXPECTED = (
    "'fields' (n, time, channel, ...space); PDEBench's 'tensor', 'density' and 'Vx', '0000/data' or 'velocity'; "
    "PDEArena's 'train/u' and 'train/vx'; The Well's 't0_fields'; Poseidon's 'velocity', 'solution' or 'data'; "
    "or pairs 'x' and 'y', 'a' and 'u', 'coeff' and 'sol', 'input' and 'output'"
)
PAIRS = (("coeff", "sol"), ("source", "solution"), ("nu", "tensor"), ("input", "output"), ("a", "u"), ("x", "y"))


@dataclass(frozen=True)
class Block:
    """One data set that holds some channels.

    Attributes:
        name: of the data set; `{}` stands for a sample's group.
        axes: letters of the stored axes in order: n sample, t time, c (and d) channel, x y z space, _ of size one.
        channels: their names.
        present: False for the outputs that a file to predict from lacks.
    """

    name: str
    axes: str
    channels: tuple[str, ...]
    present: bool = True


@dataclass(frozen=True)
class Layout:
    """Which data sets are the fields and which the static inputs; names of those that go with them.

    Attributes:
        name: whose layout it is.
        fields, inputs: blocks, their channels in this order.
        coords: per axis of space the data set of its positions, or None.
        t: the data set of times, or None.
        params: (parameter, data set) of one number or several a sample, or one for all.
        param_names: of all of them, where the file names them itself.
        bc: per axis of space; empty for unknown.
        groups: of samples, where each has its own.
    """

    name: str
    fields: tuple[Block, ...]
    inputs: tuple[Block, ...] = ()
    coords: tuple[str | None, ...] = ()
    t: str | None = None
    params: tuple[tuple[str, str], ...] = ()
    param_names: tuple[str, ...] = ()
    bc: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


Arrays = Mapping[str, Any]
Attributes = Callable[[str], Mapping[str, Any]]


def recognise(path: Path, arrays: Arrays, attributes: Attributes, split: str | None = None) -> Layout:
    """The layout of a file's arrays; `attributes(name)` are those of a data set or group.

    Raises:
        DataFileError: none that is known; the message lists what is there and what was expected.
    """
    for reader in (_uniform, _the_well, _pdebench_groups, _pdearena, _pdebench, _poseidon, _pairs):
        layout = reader(path, arrays, attributes, split)
        if layout is not None:
            return layout
    names = sorted(arrays)
    shown = ", ".join(f"'{name}'" for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise DataFileError(f"{path} has {shown or 'no arrays'}; expected {EXPECTED}")


def _first(arrays: Arrays, *names: str) -> str | None:
    return next((name for name in names if name in arrays), None)


def _space(path: Path, name: str, shape: tuple[int, ...], others: int) -> str:
    """Letters of the axes of space that are left when `others` axes are something else."""
    dims = len(shape) - others
    if not 1 <= dims <= 3:
        raise DataFileError(f"{path}: '{name}' has shape {shape}; expected {others} axes and one to three of space")
    return SPACE[:dims]


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}{i}" for i in range(count))


def _uniform(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    if "fields" not in arrays and "inputs" not in arrays:
        return None

    def block(name: str, axes: str, names: str) -> Block:
        shape = arrays[name].shape
        space = _space(path, name, shape, len(axes))
        count = shape[len(axes) - 1]
        told = _names(path, arrays, names)
        if told and len(told) != count:
            raise DataFileError(f"{path}: '{names}' names {len(told)} channels, '{name}' has {count}")
        return Block(name, axes + space, told or _numbered("u" if name == "fields" else "a", count))

    inputs = block("inputs", "nc", "input_names") if "inputs" in arrays else None
    if "fields" in arrays or inputs is None:
        fields = block("fields", "ntc", "channel_names")
    else:
        told = _names(path, arrays, "channel_names") or ("u",)
        fields = Block("fields", "ntc" + inputs.axes[2:], told, present=False)
    space = fields.axes[3:]
    return Layout(
        "uniform",
        (fields,),
        (inputs,) if inputs else (),
        coords=tuple(_first(arrays, f"coords{i}") for i in range(len(space))),
        t=_first(arrays, "t"),
        params=(("params", "params"),) if "params" in arrays and arrays["params"].shape[-1] else (),
        param_names=_names(path, arrays, "param_names"),
        bc=_names(path, arrays, "bc"),
    )


def _names(path: Path, arrays: Arrays, name: str) -> tuple[str, ...]:
    if name not in arrays:
        return ()
    value = arrays[name]
    if value.shape != () and len(value.shape) != 1:
        raise DataFileError(f"{path}: '{name}' has shape {value.shape}, expected a list of names")
    listed = [value[()]] if value.shape == () else list(value[:1000])
    return tuple(item.decode() if isinstance(item, bytes) else str(item) for item in listed)


def _the_well(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    found = [name for name in arrays if re.fullmatch(r"t[012]_fields/[^/]+", name)]
    if not found:
        return None
    told = attributes("dimensions").get("spatial_dims")
    dims = [item.decode() if isinstance(item, bytes) else str(item) for item in told] if told is not None else []
    dims = dims or [name for name in SPACE if f"dimensions/{name}" in arrays]
    if not 1 <= len(dims) <= 3:
        raise DataFileError(f"{path}: 'dimensions' names {len(dims)} axes of space, expected one to three")
    fields, inputs = [], []
    for order in range(3):
        names = [_text(name) for name in attributes(f"t{order}_fields").get("field_names", [])]
        names = names or sorted(name.split("/")[1] for name in found if name[1] == str(order))
        for name in names:
            full = f"t{order}_fields/{name}"
            if full not in arrays:
                raise DataFileError(f"{path}: 't{order}_fields' names '{name}', which is not there")
            about = attributes(full)
            varying = [bool(value) for value in about.get("dim_varying", [True] * len(dims))]
            axes = "n" * bool(about.get("sample_varying", True)) + "t" * bool(about.get("time_varying", True))
            axes += "".join(letter for letter, varies in zip(SPACE, varying, strict=False) if varies) + "cd"[:order]
            parts = [""]
            for _ in range(order):
                parts = [part + dim for part in parts for dim in dims]
            channels = tuple(f"{name}_{part}" if part else name for part in parts)
            (fields if "t" in axes else inputs).append(Block(full, axes, channels))
    scalars = [name for name in arrays if re.fullmatch(r"scalars/[^/]+", name) and len(arrays[name].shape) <= 1]
    constant = [name for name in sorted(scalars) if not attributes(name).get("time_varying", False)]
    return Layout(
        "The Well",
        tuple(fields),
        tuple(inputs),
        coords=tuple(_first(arrays, f"dimensions/{dim}") for dim in dims),
        t=_first(arrays, "dimensions/time"),
        params=tuple((name.split("/")[1], name) for name in constant),
        bc=_well_boundaries(arrays, attributes, dims),
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _well_boundaries(arrays: Arrays, attributes: Attributes, dims: list[str]) -> tuple[str, ...]:
    kinds = dict.fromkeys(dims, "open")
    groups = {name.split("/")[1] for name in arrays if name.startswith("boundary_conditions/")}
    for group in sorted(groups):
        about = attributes(f"boundary_conditions/{group}")
        for dim in about.get("associated_dims", []):
            kinds[_text(dim)] = _text(about.get("bc_type", "unknown")).lower()
    return tuple(kinds[dim] for dim in dims) if groups else ()


def _pdebench_groups(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    groups = tuple(sorted(name.removesuffix("/data") for name in arrays if re.fullmatch(r"\d+/data", name)))
    if not groups:
        return None
    first = arrays[f"{groups[0]}/data"]
    space = _space(path, f"{groups[0]}/data", first.shape, 2)
    return Layout(
        "PDEBench, a group a sample",
        (Block("{}/data", "t" + space + "c", _numbered("u", first.shape[-1])),),
        coords=tuple(_first(arrays, f"{groups[0]}/grid/{letter}") for letter in space),
        t=_first(arrays, f"{groups[0]}/grid/t"),
        groups=groups,
    )


def _pdearena(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    groups = sorted({name.split("/")[0] for name in arrays if re.fullmatch(r"[^/]+/(vx|v)", name)})
    groups = [group for group in groups if f"{group}/u" in arrays]
    if not groups and "u" in arrays and "v" in arrays and ("pres" in arrays or "vor" in arrays):
        return _pdearena_weather(path, arrays, "")
    if not groups:
        return None
    chosen = split or (groups[0] if len(groups) == 1 else "train")
    if chosen not in groups:
        raise DataFileError(f"{path} has the parts {', '.join(groups)}; none is called '{chosen}'")
    if f"{chosen}/v" in arrays:
        return _pdearena_weather(path, arrays, f"{chosen}/")
    space = _space(path, f"{chosen}/u", arrays[f"{chosen}/u"].shape, 2)
    names = [name for name in ("u", "vx", "vy", "vz") if f"{chosen}/{name}" in arrays]
    return Layout(
        "PDEArena",
        tuple(Block(f"{chosen}/{name}", "nt" + space, (name,)) for name in names),
        coords=tuple(_first(arrays, f"{chosen}/{letter}") for letter in space),
        t=_first(arrays, f"{chosen}/t"),
        params=(("buo_y", f"{chosen}/buo_y"),) if f"{chosen}/buo_y" in arrays else (),
    )


def _pdearena_weather(path: Path, arrays: Arrays, group: str) -> Layout:
    """Scalars before vectors; a level axis becomes channels; one trajectory a file where there is no group."""
    sample = "n" if group else ""
    blocks = []
    for name in ("pres", "u", "v") if f"{group}pres" in arrays else ("vor", "u", "v"):
        if f"{group}{name}" not in arrays:
            continue
        shape = arrays[f"{group}{name}"].shape
        levels = len(shape) == len(sample) + 4
        if not levels and len(shape) != len(sample) + 3:
            raise DataFileError(
                f"{path}: '{group}{name}' has shape {shape}, expected time, (level,) latitude, longitude"
            )
        count = shape[-3] if levels else 1
        blocks.append(Block(f"{group}{name}", f"{sample}t{'c' * levels}xy", _numbered(name, count)))
    return Layout(
        "PDEArena weather",
        tuple(blocks),
        coords=(_first(arrays, f"{group}lat"), _first(arrays, f"{group}lon")),
        t=_first(arrays, f"{group}time"),
        bc=("unknown", "periodic"),
    )


def _pdebench(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    coords = lambda space: tuple(_first(arrays, f"{letter}-coordinate") for letter in space)  # noqa: E731
    if "tensor" in arrays and "nu" not in arrays:
        space = _space(path, "tensor", arrays["tensor"].shape, 2)
        return Layout(
            "PDEBench", (Block("tensor", "nt" + space, ("u",)),), (), coords(space), _first(arrays, "t-coordinate")
        )
    if "nu" in arrays and len(arrays["nu"].shape) == 3:
        fields = (Block("tensor", "n_xy", ("u",), present="tensor" in arrays),)
        bc = ("dirichlet", "dirichlet")
        return Layout("PDEBench Darcy", fields, (Block("nu", "nxy", ("nu",)),), coords("xy"), bc=bc)
    if "density" in arrays and "Vx" in arrays:
        space = _space(path, "density", arrays["density"].shape, 2)
        names = [name for name in ("density", "pressure", "Vx", "Vy", "Vz") if name in arrays]
        blocks = tuple(Block(name, "nt" + space, (name,)) for name in names)
        return Layout("PDEBench CFD", blocks, (), coords(space), _first(arrays, "t-coordinate"))
    if "velocity" in arrays and "particles" in arrays:
        space = _space(path, "velocity", arrays["velocity"].shape, 3)
        names = tuple(f"V{letter}" for letter in space)
        blocks = (Block("velocity", "nt" + space + "c", names), Block("particles", "nt" + space + "c", ("particles",)))
        pushed = (
            (Block("force", "n" + space + "c", tuple(f"f{letter}" for letter in space)),) if "force" in arrays else ()
        )
        return Layout("PDEBench incompressible", blocks, pushed, t=_first(arrays, "t"))
    return None


def _poseidon(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    name = _first(arrays, "velocity", "solution", "data")
    if name is None or (name == "solution" and "source" in arrays):
        return None
    shape = arrays[name].shape
    speed = (Block("c", "nxy", ("c",)),) if "c" in arrays and len(arrays["c"].shape) == 3 else ()
    if len(shape) == 4:
        return Layout("Poseidon", (Block(name, "ntxy", ("u",)),), speed)
    if len(shape) != 5:
        raise DataFileError(f"{path}: '{name}' has shape {shape}, expected (n, time, channel, x, y)")
    told = {"velocity": ("u", "v", "tracer"), "solution": ("u", "v"), "data": ("rho", "u", "v", "p", "tracer")}[name]
    channels = told[: shape[2]] if shape[2] <= len(told) else _numbered(name, shape[2])
    return Layout("Poseidon", (Block(name, "ntcxy", channels),), speed, bc=("periodic", "periodic"))


def _pairs(path: Path, arrays: Arrays, attributes: Attributes, split: str | None) -> Layout | None:
    """Two arrays of functions on one grid: a static map, or an initial state and its trajectory."""
    for given, wanted in PAIRS:
        if given not in arrays:
            continue
        a = arrays[given].shape
        u = arrays[wanted].shape if wanted in arrays else None
        if len(a) < 2:
            raise DataFileError(f"{path}: '{given}' has shape {a}, expected (n, ...grid)")
        params = (("visc", "visc"),) if "visc" in arrays else ()
        bc = {"coeff": "dirichlet", "source": "dirichlet", "a": "periodic"}.get(given)
        times = _first(arrays, "t", "tspan")
        if u is not None and len(u) == len(a) + 1:
            space = _space(path, given, a, 1)
            if u[2:] == a[1:]:
                axes = "nt" + space
            elif u[1:-1] == a[1:]:
                axes = "n" + space + "t"
            else:
                raise DataFileError(
                    f"{path}: '{wanted}' has shape {u}; for '{given}' {a} expected (n, time, ...grid) or "
                    "(n, ...grid, time)"
                )
            name = "vorticity" if (given, len(space)) == ("a", 2) else wanted
            fields = (Block(wanted, axes, (name,)),)
            return Layout("pairs", fields, (), t=times, params=params, bc=(bc,) * len(space) if bc else ())
        like = u if u is not None else a
        channel = len(a) >= 3 and a[1] <= 8 < min(a[2:])
        space = _space(path, given, a, 1 + channel)
        axes = "n" + "c" * channel + space
        if len(like) != len(a) or like[1 + channel :] != a[1 + channel :]:
            raise DataFileError(
                f"{path}: '{wanted}' has shape {u}; for '{given}' {a} expected as many functions on the same grid"
            )
        outputs = _numbered(wanted, like[1] if channel else 1)
        return Layout(
            "pairs",
            (Block(wanted, axes, outputs, present=u is not None),),
            (Block(given, axes, _numbered(given, a[1] if channel else 1)),),
            params=params,
            bc=(bc,) * len(space) if bc else (),
        )
    return None
