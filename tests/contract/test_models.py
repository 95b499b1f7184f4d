"""What every model must satisfy. Models are found, not listed: every public module class that offers `example()`."""

import copy
import importlib
import inspect
import json
import pkgutil
from pathlib import Path

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped
from torch import nn

import paperworks
from paperworks.lab import find_papers
from paperworks.measure import count_parameters
from paperworks.nn import Pretrained

CONTRACTS = {"gradients", "rows", "export", "compile", "autocast", "pretrained"}


def public_names() -> dict[str, object]:
    """Everything in the `__all__` of every wing and every paper."""
    wings = [name for _, name, package in pkgutil.iter_modules(paperworks.__path__, "paperworks.") if package]
    modules = [importlib.import_module(name) for name in wings]
    modules += [importlib.import_module(paper.module) for paper in find_papers().values() if paper.module]
    return {name: getattr(module, name) for module in modules for name in getattr(module, "__all__", ())}


MODELS = sorted(
    {m for m in public_names().values() if inspect.isclass(m) and issubclass(m, Pretrained) and m is not Pretrained},
    key=lambda model: model.__name__,
)
SIZES = sorted(
    {
        build
        for paper in find_papers().values()
        for file in paper.folder.glob("*.py")
        if paper.module and file.stem not in ("study", "recipe", "__init__")
        for build in vars(importlib.import_module(f"{paper.module}.{file.stem}")).values()
        if inspect.isfunction(build) and isinstance(getattr(build, "parameters", None), int)
    },
    key=lambda build: build.__name__,
)


def made(model):
    torch.manual_seed(0)
    example = model.example()
    return example, example.module.eval()


def kept(model, contract):
    if contract in model.exempt:
        pytest.skip(f"exempt: {model.exempt[contract]}")


def test_models_are_found():
    assert {"DeepONet", "CrossViT", "NoPropDT", "ModularAdditionMLP"} <= {model.__name__ for model in MODELS}
    assert len(SIZES) >= 25


@pytest.mark.parametrize("model", MODELS)
def test_exemptions_have_reasons(model):
    assert set(model.exempt) <= CONTRACTS
    assert all(len(reason) > 20 for reason in model.exempt.values())


@pytest.mark.parametrize("build", SIZES)
def test_published_size(build):
    with torch.device("meta"):
        assert count_parameters(build()) == build.parameters


@pytest.mark.parametrize("model", MODELS)
def test_saved_and_loaded_gives_the_same(model, tmp_path):
    kept(model, "pretrained")
    example, module = made(model)
    for parameter in module.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    module.save_pretrained(tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "model.safetensors"} <= files
    assert not [name for name in files if Path(name).suffix in (".bin", ".pt", ".pth", ".pkl")]
    json.loads((tmp_path / "config.json").read_text())
    again = model.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(*example.inputs), module(*example.inputs))


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_output(model):
    outputs = []
    for _ in range(2):
        example, module = made(model)
        torch.manual_seed(1)
        with torch.no_grad():
            outputs.append(module(*example.inputs))
    assert torch.equal(*outputs)


@pytest.mark.parametrize("model", MODELS)
def test_a_row_does_not_depend_on_the_others(model):
    kept(model, "rows")
    example, module = made(model)
    axes = example.batch_axis
    axes = axes if isinstance(axes, tuple) else (axes,) * len(example.inputs)
    with torch.no_grad():
        whole = module(*example.inputs)
        for row in range(len(whole)):
            alone = [
                x if axis is None else x.narrow(axis, row, 1) for x, axis in zip(example.inputs, axes, strict=True)
            ]
            torch.testing.assert_close(module(*alone)[0], whole[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_gradients_reach_every_parameter(model):
    kept(model, "gradients")
    example, module = made(model)
    module.train()
    output = module(*example.inputs)
    (output * torch.randn_like(output)).sum().backward()
    silent = [
        n for n, p in module.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    assert not silent


@pytest.mark.parametrize("model", MODELS)
def test_annotated_shapes_hold(model, monkeypatch):
    example, module = made(model)
    for cls in {type(part) for part in module.modules() if type(part).__module__.startswith("paperworks.")}:
        if "forward" in vars(cls):
            monkeypatch.setattr(cls, "forward", jaxtyped(typechecker=beartype)(cls.forward))
    with torch.no_grad():
        module(*example.inputs)
    assert "->" in str(inspect.signature(model.forward))


@pytest.mark.parametrize("model", MODELS)
def test_bf16_autocast(model):
    kept(model, "autocast")
    example, module = made(model)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        rough = module(*example.inputs).float()
    with torch.no_grad():
        exact = module(*example.inputs)
    assert torch.isfinite(rough).all()
    assert (rough - exact).norm() < 0.1 * exact.norm() + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_export(model):
    kept(model, "export")
    example, module = made(model)
    with torch.no_grad():
        exported = torch.export.export(module, example.inputs).module()
        torch.testing.assert_close(exported(*example.inputs), module(*example.inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.full)])
@pytest.mark.parametrize("model", MODELS)
def test_compile(model, backend):
    kept(model, "compile")
    torch._dynamo.reset()
    example, module = made(model)
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*example.inputs), module(*example.inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_deepcopy(model):
    example, module = made(model)
    twin = copy.deepcopy(module)
    with torch.no_grad():
        expected = module(*example.inputs)
        for parameter in module.parameters():
            parameter.zero_()
        assert torch.equal(twin(*example.inputs), expected)


@pytest.mark.parametrize("model", MODELS)
def test_wrong_shape_is_refused_in_words(model):
    example, module = made(model)
    parameters = [p.name for p in inspect.signature(model.forward).parameters.values() if p.name != "self"]
    for place, tensor in enumerate(example.inputs):
        if tensor.ndim < 2:
            continue
        wrong = list(example.inputs)
        wrong[place] = torch.cat([tensor, tensor], dim=1)[:, : tensor.shape[1] + 1]
        with pytest.raises(ValueError, match=r"expected shape") as refusal:
            module(*wrong)
        name = parameters[place] if place < len(parameters) else ""
        assert "given" in str(refusal.value)
        assert name in str(refusal.value) or model.__name__ == "MIONet"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_gpu_gives_what_the_cpu_gives(model):
    example, module = made(model)
    with torch.no_grad():
        there = copy.deepcopy(module).cuda()(*(x.cuda() for x in example.inputs)).cpu()
        torch.testing.assert_close(there, module(*example.inputs), rtol=1e-3, atol=1e-4)


def test_every_model_is_a_plain_module():
    for model in MODELS:
        assert issubclass(model, nn.Module)
        assert model.__doc__
