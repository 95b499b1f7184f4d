"""Binary networks in one bit a weight: packing, running, writing to safetensors and reading back, to the bit.

Sums of plus and minus one are whole numbers, which float32 and int8 products both give exactly. So a packed layer may
run in whichever way is fastest and still equal the layer it was made from to the last bit:

    int8    products of bytes with 32-bit sums (oneDNN), where torch offers them: x86 CPUs
    float   the signs as float32, everywhere else

Bits are unpacked once, when a layer is first called.
"""

import contextlib
import copy
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from paperworks.errors import ModelFolderError, PaperworksError
from paperworks.nn import check_shape
from paperworks.nn.straight_through import sign
from paperworks.nn.swap import swap_layers

from .layers import BiPerConv2d, BiPerLinear, binary_layers, binary_weight

FORMAT = "paperworks-binary-1"
KERNELS = ("auto", "int8", "float")
CONV_FORM = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode",
             "binary_input", "sign_of_zero", "border")  # fmt: skip
LINEAR_FORM = ("in_features", "out_features", "binary_input", "sign_of_zero")


def pack_bits(signs: Tensor) -> UInt8[Tensor, " bytes"]:
    """Eight signs a byte, the first in the lowest bit; 1 for +1, 0 for -1; the last byte is filled up with zeros.

    Raises:
        ValueError: another value than -1 and +1.
    """
    if not (signs.abs() == 1).all():
        raise ValueError("signs: only -1 and +1 fit in one bit; an exact zero does not (train on, or sign_of_zero=1)")
    bits = (signs.flatten() > 0).to(torch.uint8)
    bits = F.pad(bits, (0, -len(bits) % 8)).view(-1, 8)
    return (bits << torch.arange(8, dtype=torch.uint8, device=bits.device)).sum(1, dtype=torch.uint8)


def unpack_bits(packed: UInt8[Tensor, " bytes"], shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    """The signs again."""
    count = torch.Size(shape).numel()
    check_shape("packed", packed, (-(-count // 8),))
    bits = (packed[:, None] >> torch.arange(8, dtype=torch.uint8, device=packed.device)) & 1
    return bits.flatten()[:count].view(shape).to(dtype).mul_(2).sub_(1)


class _Unpacked:
    """What a layer has unpacked, by kernel. Never copied or saved: a copy unpacks for itself."""

    def __init__(self) -> None:
        self.kept: dict[Any, Any] = {}

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]

    def __deepcopy__(self, memo: Any) -> "_Unpacked":
        return _Unpacked()

    def __reduce__(self) -> Any:
        return _Unpacked, ()


class PackedBinary(nn.Module):
    """A binary convolution or linear layer whose weights are bits: `packed` of a layer, or built from its form.

    Args:
        form: the layer's arguments; those of a convolution have `kernel_size`.
        bias, scale: whether it has them.
        kernel: auto, int8 or float.
    """

    packed: Tensor
    alpha: Tensor | None
    bias: Tensor | None

    def __init__(self, form: Mapping[str, Any], *, bias: bool = False, scale: bool = True, kernel: str = "auto"):
        super().__init__()
        if kernel not in KERNELS:
            raise ValueError(f"kernel {kernel!r}: one of {', '.join(KERNELS)}")
        self.form, self.kernel = dict(form), kernel
        self.conv = "kernel_size" in form
        self._takes_int8 = kernel != "float" and form["binary_input"] and form.get("padding_mode", "zeros") == "zeros"
        with torch.device("meta"):
            like = _empty_layer(form)
        self.shape = tuple(like.weight.shape)
        self._like: list[Any] = [like]  # in a list, so that it is no submodule
        outputs = self.shape[0]
        self.register_buffer("packed", torch.zeros(-(-like.weight.numel() // 8), dtype=torch.uint8))
        self.register_buffer("alpha", torch.ones(outputs, *[1] * 2 * self.conv) if scale else None)
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)
        self._unpacked = _Unpacked()

    @classmethod
    @torch.no_grad()
    def of(cls, layer: BiPerConv2d | BiPerLinear, kernel: str = "auto") -> "PackedBinary":
        """The packed form of a layer in stage 2."""
        names = CONV_FORM if isinstance(layer, BiPerConv2d) else LINEAR_FORM
        made = cls({n: getattr(layer, n) for n in names}, bias=layer.bias is not None, scale=layer.alpha is not None,
                   kernel=kernel)  # fmt: skip
        made.packed = pack_bits(binary_weight(layer))
        made.alpha = None if layer.alpha is None else layer.alpha.detach().clone()
        made.bias = None if layer.bias is None else layer.bias.detach().clone()
        return made.eval()

    def forward(self, x: Float[Tensor, "*rest"]) -> Float[Tensor, "*out"]:
        """What the layer gives in evaluation."""
        expected = (self.form["in_channels"], "height", "width") if self.conv else (self.form["in_features"],)
        check_shape("x", x, ("...", *expected))
        if self._runs_int8(x):
            multiply = self._unpacked.get("int8", self._int8_convolution if self.conv else self._int8_product)
            return multiply(x)
        weight = self._unpacked.get(("float", x.device, x.dtype), lambda: unpack_bits(self.packed, self.shape, x.dtype))
        if self.form["binary_input"]:
            x = sign(x, self.form["sign_of_zero"])
        return self._scaled(self._like[0].convolve(x, weight) if self.conv else F.linear(x, weight))

    def _scaled(self, out: Tensor) -> Tensor:
        if self.bias is not None:
            out = out + (self.bias.view(-1, 1, 1) if self.conv else self.bias)
        return out if self.alpha is None else out * self.alpha

    def _runs_int8(self, x: Tensor) -> bool:
        if not self._takes_int8 or x.dtype != torch.float32 or x.device.type != "cpu":
            return False
        if torch.compiler.is_compiling() or (x.requires_grad and torch.is_grad_enabled()):
            return False
        return int8_convolves() and (not self.conv or x.ndim == 4)

    def _signs_as_bytes(self) -> Callable[[Tensor], Tensor]:
        """A function that gives 0, 1, 2 for -1, 0, +1."""
        zero = torch.zeros(())  # a tensor compares faster than a number
        ge, gt, add, byte = torch.ge, torch.gt, torch.add, torch.uint8
        if self.form["sign_of_zero"] == 0:
            return lambda x: add(ge(x, zero).view(byte), gt(x, zero).view(byte))

        def signs(x: Tensor) -> Tensor:
            above = ge(x, zero).view(byte)
            return add(above, above)

        return signs

    def _int8_convolution(self) -> Callable[[Tensor], Tensor]:
        layer: Any = self._like[0]
        signs, pads = self._signs_as_bytes(), layer._pads  # left, right, top, bottom
        even = pads[0] == pads[1] and pads[2] == pads[3] and not layer.border
        padding = [pads[2], pads[0]] if even else [0, 0]
        stride, dilation, groups = list(layer.stride), list(layer.dilation), layer.groups
        fused = self.bias is None and self.alpha is not None  # the scale rides on the conversion to float
        scale = self.alpha.flatten().float() if fused else torch.ones(self.shape[0])  # type: ignore[union-attr]
        zero_points = torch.zeros(self.shape[0], dtype=torch.int32)
        weight = unpack_bits(self.packed, self.shape, torch.int8)
        weight = torch.ops.onednn.qconv_prepack(weight, scale, 1.0, 1, stride, padding, dilation, groups, None)
        product, float32 = torch.ops.onednn.qconv2d_pointwise.default, torch.float32

        def convolve(x: Tensor) -> Tensor:
            taken = signs(x) if even else F.pad(signs(x), pads, value=1 + int(layer.border))
            out = product(taken, 1.0, 1, weight, scale, zero_points, None, stride, padding, dilation, groups,
                          1.0, 0, float32, "none", [], "")  # fmt: skip
            # oneDNN's is channels last; what follows is to sum in the order that it has in the unpacked network
            out = out.contiguous() if x.is_contiguous() else out
            return out if fused else self._scaled(out)

        return convolve

    def _int8_product(self) -> Callable[[Tensor], Tensor]:
        weight, signs = unpack_bits(self.packed, self.shape, torch.int8).t(), self._signs_as_bytes()

        def multiply(x: Tensor) -> Tensor:
            taken = (signs(x).view(torch.int8) - 1).reshape(-1, x.shape[-1])
            return self._scaled(torch._int_mm(taken, weight).to(x.dtype).view(*x.shape[:-1], -1))

        return multiply

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._unpacked = _Unpacked()

    def _apply(self, fn: Any, recurse: bool = True) -> "PackedBinary":
        self._unpacked = _Unpacked()
        return super()._apply(fn, recurse)  # type: ignore[return-value]

    def extra_repr(self) -> str:
        """What is printed."""
        return f"{' x '.join(map(str, self.shape))} weights in {len(self.packed):,} bytes, kernel={self.kernel}"


def _empty_layer(form: Mapping[str, Any]) -> BiPerConv2d | BiPerLinear:
    arguments: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in form.items()
    }
    return (BiPerConv2d if "kernel_size" in form else BiPerLinear)(**arguments, scale=False, stage=2)


_int8_convolves: list[bool] = []


def int8_convolves() -> bool:
    """Whether this torch has oneDNN's convolution of bytes, and it gives whole numbers exactly here; tried once."""
    if not _int8_convolves:
        try:
            _int8_convolves.append(_try_int8())
        except (AttributeError, RuntimeError, NotImplementedError):
            _int8_convolves.append(False)
    return _int8_convolves[0]


def _try_int8() -> bool:
    weight = torch.ones(8, 8, 3, 3, dtype=torch.int8)
    weight[::2] = -1
    one, zero = torch.ones(8), torch.zeros(8, dtype=torch.int32)
    ready = torch.ops.onednn.qconv_prepack(weight, one, 1.0, 1, [1, 1], [1, 1], [1, 1], 1, None)
    signs = torch.full((1, 8, 4, 4), 2, dtype=torch.uint8)
    out = torch.ops.onednn.qconv2d_pointwise(
        signs, 1.0, 1, ready, one, zero, None, [1, 1], [1, 1], [1, 1], 1, 1.0, 0, torch.float32, "none", [], ""
    )
    return torch.equal(out, F.conv2d(signs.float() - 1, weight.float(), padding=1))


def pack(model: nn.Module, kernel: str = "auto") -> nn.Module:
    """A copy of a network, in evaluation, whose periodic layers keep one bit a weight; all else of it as it is.

    Raises:
        ValueError: no periodic layer, or one in stage 1, whose weights are not bits yet.
    """
    layers = dict(binary_layers(model))
    if not layers:
        raise ValueError("model: no BiPerConv2d or BiPerLinear to pack")
    early = [name for name, layer in layers.items() if layer.stage != 2]
    if early:
        raise ValueError(f"model: {early[0] or 'it'} is in stage 1 and has real weights; train it in stage 2 first")
    if "" in layers:
        return PackedBinary.of(layers[""], kernel)
    packed = copy.deepcopy(model).eval()
    swap_layers(packed, (BiPerConv2d, BiPerLinear), lambda _, layer: PackedBinary.of(layer, kernel))  # type: ignore[arg-type]
    return packed


@dataclass(frozen=True)
class SizeReport:
    """Bytes of a packed network and of the same one in float32. `binary_*` are the weights that became bits."""

    path: str
    binary_weights: int
    binary_bytes: int
    other_bytes: int
    file_bytes: int

    @property
    def float_bytes(self) -> int:
        """All parameters and buffers, the binary weights in float32."""
        return 4 * self.binary_weights + self.other_bytes

    def __str__(self) -> str:
        times = self.float_bytes / self.file_bytes
        return (
            f"{self.path}: {self.file_bytes:,} bytes; in float32 {self.float_bytes:,}, {times:.1f} times as many. "
            f"{self.binary_weights:,} weights take {self.binary_bytes:,} bytes, all else {self.other_bytes:,}."
        )


def export_binary(model: nn.Module, path: Path | str) -> SizeReport:
    """Write a network in stage 2 (or a packed one) to one safetensors file; `load_binary` reads it.

    Raises:
        ValueError: as `pack`.
        PaperworksError: the file cannot be written.
    """
    path = Path(path)
    layers = {name: m for name, m in model.named_modules() if isinstance(m, PackedBinary)}
    packed = model if layers else pack(model)
    layers = {name: m for name, m in packed.named_modules() if isinstance(m, PackedBinary)}
    forms = {name: {"form": m.form, "bias": m.bias is not None, "scale": m.alpha is not None}
             for name, m in layers.items()}  # fmt: skip
    metadata = {"format": FORMAT, "layers": json.dumps(forms), "model": type(model).__name__,
                "config": json.dumps(getattr(model, "_hub_mixin_config", None), default=str)}  # fmt: skip
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(packed, str(temporary), metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise PaperworksError(f"{path} cannot be written: {error}; give another place") from error
    bits = sum(m.packed.numel() for m in layers.values())
    distinct = {t.data_ptr(): t.numel() * t.element_size() for t in packed.state_dict().values() if t.numel()}
    return SizeReport(
        str(path),
        sum(torch.Size(m.shape).numel() for m in layers.values()),
        bits,
        sum(distinct.values()) - bits,
        path.stat().st_size,
    )


def load_binary(path: Path | str, model: nn.Module | None = None, kernel: str = "auto") -> nn.Module:
    """The packed network in a file of `export_binary`, in evaluation.

    Args:
        model: a network built as the exported one was, binarised or not yet; it is changed in place. Not needed for
            the networks of this paper, which the file describes.

    Raises:
        ModelFolderError: not such a file, or its layers are not those of `model`.
    """
    path = Path(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ModelFolderError(f"{path} is no readable safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ModelFolderError(f"{path} is not a binary network; export_binary writes them")
    kind = metadata.get("model", "network") if model is None else type(model).__name__
    try:
        forms, config = json.loads(metadata["layers"]), json.loads(metadata["config"])
        if model is None:
            build = _networks().get(kind)
            if build is None or not isinstance(config, dict):
                raise ModelFolderError(f"{path} holds a {kind}: give load_binary such a network, as model")
            with torch.device("meta"):  # before any memory is taken
                described = _with_packed(build(**config), forms, kernel).state_dict()
            if {name: list(value.shape) for name, value in described.items()} != shapes:
                raise ValueError("its tensors are not those of the network that it describes")
            model = build(**config)
        assert model is not None
        model = _with_packed(model, forms, kernel)
        load_model(model, str(path), strict=True)
    except ModelFolderError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelFolderError(f"{path} does not fit the {kind}: {error}") from error
    return model.eval()


def _networks() -> dict[str, Any]:
    from .model import BiPerResNet, BiPerVGG

    return {"BiPerResNet": BiPerResNet, "BiPerVGG": BiPerVGG}


def _with_packed(model: nn.Module, forms: Mapping[str, Any], kernel: str) -> nn.Module:
    """The network with packed layers where `forms` names them, still empty."""
    made = {
        name: PackedBinary(entry["form"], bias=entry["bias"], scale=entry["scale"], kernel=kernel)
        for name, entry in forms.items()
    }
    if "" in made:
        return made[""]
    kinds = tuple({type(model.get_submodule(name)) for name in made})
    swap_layers(model, kinds, lambda name, _: made[name], targets=lambda name, _: name in made)
    return model
