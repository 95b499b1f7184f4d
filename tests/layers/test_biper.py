"""BiPer: periodicity, quantisation error, packing to the bit, networks that were not written for it."""

import copy
import itertools
import json
import math

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.nn import functional as F

from paperworks.errors import ModelFolderError, PaperworksError
from paperworks.layers.biper import (
    NAMED_SIZES,
    BiPerConv2d,
    BiPerLinear,
    BiPerResNet,
    BiPerVGG,
    binarize,
    biper_regularizer,
    biper_weight,
    export_binary,
    fit_two_stage,
    gaussian_error,
    laplace_error,
    load_binary,
    pack,
    quantization_error,
    set_stage,
    sign_error,
)
from paperworks.layers.biper.layers import binary_layers
from paperworks.layers.biper.packed import PackedBinary, int8_convolves, pack_bits, unpack_bits
from paperworks.layers.biper.training import warm_cosine
from paperworks.training import Batches, Checkpoint

OMEGA = 20.0


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


# The layers


def test_weights_are_periodic_in_both_stages():
    w = torch.randn(50, dtype=torch.float64)
    for stage in (1, 2):
        torch.testing.assert_close(biper_weight(w + 2 * math.pi / OMEGA, OMEGA, stage), biper_weight(w, OMEGA, stage))
        torch.testing.assert_close(biper_weight(w + math.pi / OMEGA, OMEGA, stage), -biper_weight(w, OMEGA, stage))
    with pytest.raises(ValueError, match="stage"):
        biper_weight(w, OMEGA, 3)


@pytest.mark.parametrize("make", [lambda: BiPerConv2d(3, 4, 3), lambda: BiPerLinear(6, 4)])
def test_latent_gradient_is_the_sines(make):
    """dL/dw = dL/dw_eff omega cos(omega w) in both stages."""
    layer = make().double()
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    for stage in (1, 2):
        set_stage(layer, stage)
        layer.zero_grad()
        effective = biper_weight(layer.weight, OMEGA, stage).detach().requires_grad_()
        signs = torch.sign(x)
        plain = (F.conv2d if isinstance(layer, BiPerConv2d) else F.linear)(signs, effective) * layer.alpha.detach()
        outward = torch.randn_like(plain)
        plain.backward(outward)
        layer(x).backward(outward)
        torch.testing.assert_close(layer.weight.grad, effective.grad * OMEGA * torch.cos(OMEGA * layer.weight))


def test_forward_and_input_gradient_in_training_are_those_of_the_formula():
    layer = BiPerConv2d(3, 4, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64) * torch.tensor([0.1, 3.0]).view(2, 1, 1, 1) + 0.3
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    scaled = b / (b.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    inside = scaled.clamp(-1, 1)
    soft = inside * (2 - inside.abs())
    through = soft + (torch.sign(scaled) - soft).detach()
    theirs = F.conv2d(through, torch.sin(OMEGA * layer.weight), padding=1) * layer.alpha
    ours = layer(a)
    torch.testing.assert_close(ours, theirs)
    outward = torch.randn_like(ours)
    ours.backward(outward)
    theirs.backward(outward)
    torch.testing.assert_close(a.grad, b.grad)


def test_stage_two_sums_are_whole_numbers_of_one_parity():
    layer = BiPerConv2d(5, 3, 3, stage=2).eval()
    assert set(biper_weight(layer.weight).unique().tolist()) == {-1, 1}
    sums = layer(torch.randn(2, 5, 8, 8)) / layer.alpha
    torch.testing.assert_close(sums, sums.round(), atol=1e-4, rtol=0)
    assert (sums.round() % 2 == 5 * 9 % 2).all()


def test_evaluation_does_not_see_the_size_of_the_input():
    layer = BiPerConv2d(3, 4, 3, padding=1).eval()
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(layer(x * torch.tensor([7.0, 0.01]).view(2, 1, 1, 1)), layer(x))
    training = copy.deepcopy(layer).train()
    assert torch.equal(training(x), layer(x))


def test_borders_and_paddings_are_those_of_a_plain_convolution():
    x = torch.randn(2, 3, 6, 7)
    signs = torch.sign(x)
    for padding, stride in itertools.product((1, (2, 0), "valid"), (1, 2)):
        layer = BiPerConv2d(3, 4, (3, 2), stride, padding).eval()
        plain = F.conv2d(signs, torch.sin(OMEGA * layer.weight), None, stride, padding) * layer.alpha
        torch.testing.assert_close(layer(x), plain)
    for border in (-1, 1):
        layer = BiPerConv2d(3, 4, 3, padding=1, border=border).eval()
        plain = F.conv2d(F.pad(signs, (1, 1, 1, 1), value=border), torch.sin(OMEGA * layer.weight)) * layer.alpha
        torch.testing.assert_close(layer(x), plain)
    layer = BiPerConv2d(3, 4, 3, padding=1, padding_mode="circular").eval()
    plain = F.conv2d(F.pad(signs, (1, 1, 1, 1), mode="circular"), torch.sin(OMEGA * layer.weight)) * layer.alpha
    torch.testing.assert_close(layer(x), plain)


def test_switching_the_stage_leaves_the_weights_and_the_state_remembers_it():
    model = nn.Sequential(BiPerConv2d(2, 3, 3, freq=11.0), nn.Flatten(), BiPerLinear(3, 2, freq=7.5))
    before = {name: value.clone() for name, value in model.named_parameters()}
    set_stage(model, 2)
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
    again = nn.Sequential(BiPerConv2d(2, 3, 3), nn.Flatten(), BiPerLinear(3, 2))
    again.load_state_dict(model.state_dict())
    assert [(layer.freq, layer.stage) for _, layer in binary_layers(again)] == [(11.0, 2), (7.5, 2)]
    x = torch.randn(2, 2, 3, 3)
    assert torch.equal(again.eval()(x), model.eval()(x))


def test_wrong_arguments_are_refused_in_words():
    for wrong in (dict(freq=0), dict(freq=math.inf), dict(stage=0), dict(sign_of_zero=-1), dict(border=0.5)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BiPerConv2d(2, 3, 3, **wrong)
    with pytest.raises(ValueError, match="in_features"):
        BiPerLinear(1, 3)
    with pytest.raises(ValueError, match="expected shape"):
        BiPerLinear(4, 3)(torch.randn(2, 5))
    with pytest.raises(ValueError, match="binarize"):
        set_stage(nn.Linear(2, 2), 2)
    with pytest.raises(ValueError, match="stage"):
        set_stage(BiPerLinear(4, 3), 3)


def test_regulariser_is_a_sum_of_layer_means():
    model = nn.Sequential(BiPerLinear(4, 3), nn.Linear(3, 3), BiPerLinear(3, 9, freq=5))
    plain = sum((torch.sin(f * w) ** 2).mean() for f, w in ((20, model[0].weight), (5, model[2].weight)))
    torch.testing.assert_close(biper_regularizer(model, 0.3), 0.3 * plain)
    torch.testing.assert_close(biper_regularizer(model), sum((0.5 - 0.5 * torch.cos(2 * f * w)).mean()
                               for f, w in ((20, model[0].weight), (5, model[2].weight))))  # fmt: skip


# The quantisation error


@pytest.mark.parametrize(("u", "error"), [(0.1, 0.00943), (0.3, 0.05659), (1, 0.10279), (3, 0.09663), (10, 0.09490)])
def test_laplace_closed_form_agrees_with_sampling(u, error):
    assert laplace_error(u, "optimal") == pytest.approx(error, abs=1e-5)
    w = torch.distributions.Laplace(0.0, u / OMEGA).sample((400_000,))
    for kind in ("optimal", "relative", "official"):
        assert float(quantization_error(w, OMEGA, kind)) == pytest.approx(laplace_error(u, kind), rel=0.01)


@pytest.mark.parametrize("u", [0.01, 0.1, 0.59, 1.18, 2.36, 8])
def test_gaussian_closed_form_agrees_with_sampling(u):
    w = torch.randn(400_000) * u / OMEGA
    for kind in ("optimal", "relative", "official"):
        assert float(quantization_error(w, OMEGA, kind)) == pytest.approx(gaussian_error(u, kind), rel=0.02)


def test_relative_error_falls_with_the_frequency_to_its_limit():
    values = [laplace_error(10 ** (k / 10)) for k in range(-30, 11)]
    assert all(later < earlier for earlier, later in itertools.pairwise(values))
    assert values[0] == pytest.approx(0.5, abs=1e-5)
    assert laplace_error(1e4) == pytest.approx(1 - 8 / math.pi**2, abs=1e-6)
    assert gaussian_error(50.0) == pytest.approx(1 - 8 / math.pi**2, abs=1e-6)
    assert gaussian_error(1e-3) == pytest.approx(1 - 2 / math.pi, abs=1e-4)
    assert gaussian_error(0.0201) == pytest.approx(gaussian_error(0.0199), rel=1e-2)


def test_best_scale_is_the_mean_size():
    s = torch.sin(OMEGA * torch.randn(1000))
    scales = torch.linspace(0.3, 1, 701)
    errors = ((s[None] - scales[:, None] * torch.sign(s)) ** 2).mean(1)
    assert float(scales[errors.argmin()]) == pytest.approx(float(s.abs().mean()), abs=1e-3)
    assert float(sign_error(s, "optimal")) == pytest.approx(float(errors.min()), abs=1e-6)
    assert float(sign_error(torch.tensor([1.0, -1.0]))) == 0
    with pytest.raises(ValueError, match="optimal"):
        sign_error(s, "best")
    with pytest.raises(ValueError, match="u:"):
        laplace_error(0)


# The networks


@pytest.mark.parametrize(
    ("name", "binary"),
    [("biper_resnet20", 267_264), ("biper_resnet18", 10_985_472), ("biper_resnet18a", 718_848),
     ("biper_resnet18b", 2_746_368), ("biper_resnet18c", 2_875_392), ("biper_vgg_small", 4_571_136),
     ("biper_resnet18_imagenet", 10_985_472), ("biper_resnet34_imagenet", 21_086_208)],
)  # fmt: skip
def test_binary_weights_of_published_sizes(name, binary):
    with torch.device("meta"):
        model = NAMED_SIZES[name]()
    assert sum(layer.weight.numel() for _, layer in binary_layers(model)) == binary


def test_initial_regulariser_is_that_of_the_authors_code():
    assert float(biper_regularizer(NAMED_SIZES["biper_resnet20"](), 1.0).detach()) == pytest.approx(8.87, abs=0.1)


def test_any_side_is_taken_and_wrong_arguments_are_refused():
    model = BiPerResNet(blocks=(1, 1), widths=(4, 8)).eval()
    assert model(torch.randn(2, 3, 9, 7)).shape == (2, 10)
    for wrong in (dict(stem="big"), dict(blocks=(1,)), dict(widths=(8, 4, 2))):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BiPerResNet(**wrong)
    with pytest.raises(ValueError, match="side"):
        BiPerVGG(side=30)


def test_official_names_are_taken_and_strangers_refused():
    model = BiPerResNet(blocks=(1, 1), widths=(4, 8), shortcut="conv")
    official = {}
    for name, value in model.state_dict().items():
        if name.endswith("_extra_state"):
            continue
        name = name.replace("groups.0.", "layer1.").replace("groups.1.", "layer2.").replace("shortcut", "downsample")
        name = name.replace("stem_norm", "bn1").replace("stem", "conv1").replace("norm1", "bn1").replace("norm2", "bn2")
        name = name.replace("head", "fc")
        name = "bn2" + name.removeprefix("norm") if name.startswith("norm.") else name
        official["module." + name] = value + 1
    extra = {"module.layer1.0.conv1.tau": torch.ones(()), "module.layer1.0.conv1.beta": torch.ones(4, 1, 1)}
    before = {name: value.clone() for name, value in model.state_dict().items() if not name.endswith("_extra_state")}
    model.load_official(official | extra)
    assert all(torch.equal(model.state_dict()[name], value + 1) for name, value in before.items())
    with pytest.raises(ValueError, match="missing"):
        model.load_official({name: value for name, value in official.items() if "fc" not in name})
    with pytest.raises(ValueError, match="expected shape"):
        model.load_official(official | {"module.fc.bias": torch.ones(3)})


def test_saved_networks_keep_frequency_and_stage(tmp_path):
    model = BiPerResNet(blocks=(1,), widths=(4,), freq=13.0)
    set_stage(model, 2).save_pretrained(tmp_path)
    again = BiPerResNet.from_pretrained(tmp_path)
    assert {(layer.freq, layer.stage) for _, layer in binary_layers(again)} == {(13.0, 2)}


# Packing


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_bits_come_back(count):
    signs = torch.sign(torch.randn(count))
    packed = pack_bits(signs)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-count // 8)
    assert torch.equal(unpack_bits(packed, (count,)), signs)
    with pytest.raises(ValueError, match="expected shape"):
        unpack_bits(packed, (count + 8,))
    with pytest.raises(ValueError, match="exact zero"):
        pack_bits(torch.zeros(3))


CONVS = [dict(padding=1), dict(stride=2, padding=1, bias=True), dict(padding="same", groups=2, scale=False),
         dict(padding=1, border=1), dict(padding=1, border=-1, bias=True), dict(padding=1, padding_mode="reflect"),
         dict(padding=(2, 0), dilation=2, sign_of_zero=0), dict(binary_input=False, padding=1)]  # fmt: skip


@pytest.mark.parametrize("options", CONVS)
@pytest.mark.parametrize("kernel", ["int8", "float"])
def test_packed_convolution_is_the_layer_to_the_bit(options, kernel):
    layer = BiPerConv2d(6, 8, 3, stage=2, **options).eval()
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    x = torch.randn(3, 6, 9, 8)
    x[0, :, :2] = 0.0
    x[0, :, 2:4] = -0.0
    packed = PackedBinary.of(layer, kernel)
    with torch.no_grad():
        for images in (x, x[:1], x.contiguous(memory_format=torch.channels_last)):
            assert torch.equal(packed(images), layer(images))
    assert packed._runs_int8(x) == (
        kernel == "int8" and int8_convolves() and layer.binary_input and layer.padding_mode == "zeros"
    )


@pytest.mark.parametrize("kernel", ["int8", "float"])
@pytest.mark.parametrize("options", [{}, dict(bias=True), dict(scale=False), dict(sign_of_zero=0)])
def test_packed_linear_is_the_layer_to_the_bit(options, kernel):
    layer = BiPerLinear(37, 11, stage=2, **options).eval()
    packed = PackedBinary.of(layer, kernel)
    with torch.no_grad():
        for shape in ((37,), (1, 37), (4, 37), (2, 3, 37)):
            x = torch.randn(shape)
            x[..., :3] = 0
            assert torch.equal(packed(x), layer(x))


@pytest.mark.parametrize("build", [BiPerResNet.example, BiPerVGG.example])
def test_exported_networks_come_back_to_the_bit(build, tmp_path):
    example = build()
    model, (x,) = set_stage(example.module, 2).eval(), example.inputs
    report = export_binary(model, tmp_path / "net.safetensors")
    again = load_binary(tmp_path / "net.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
        assert torch.equal(pack(model, "float")(x), model(x))
        assert torch.equal(copy.deepcopy(again)(x), model(x))
    assert report.binary_weights == sum(layer.weight.numel() for _, layer in binary_layers(model))
    assert report.file_bytes == (tmp_path / "net.safetensors").stat().st_size
    stored = load_file(tmp_path / "net.safetensors")
    assert sum(t.numel() * t.element_size() for t in stored.values()) == report.binary_bytes + report.other_bytes
    assert f"{report.file_bytes:,} bytes" in str(report)
    second = export_binary(again, tmp_path / "again.safetensors")
    assert second.file_bytes == report.file_bytes
    assert torch.equal(load_binary(tmp_path / "again.safetensors", copy.deepcopy(model))(x), model(x).detach())


def test_published_size_is_packed_small(tmp_path):
    report = export_binary(set_stage(NAMED_SIZES["biper_resnet20"](), 2), tmp_path / "resnet20.safetensors")
    assert report.binary_bytes == 267_264 // 8
    assert report.float_bytes / report.file_bytes > 9


def test_packing_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ValueError, match="stage 1"):
        pack(BiPerResNet.example().module)
    with pytest.raises(ValueError, match="to pack"):
        pack(nn.Linear(2, 2))
    model = set_stage(BiPerResNet.example().module, 2)
    path = tmp_path / "net.safetensors"
    export_binary(model, path)
    with pytest.raises(ModelFolderError, match="does not fit"):
        load_binary(path, nn.Sequential(nn.Linear(2, 2)))
    (tmp_path / "broken.safetensors").write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelFolderError, match="no readable"):
        load_binary(tmp_path / "broken.safetensors")
    with safe_open(str(path), framework="pt") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    huge = json.dumps(json.loads(told["config"]) | {"num_classes": 10**12})
    for changed in ({"config": huge}, {"model": "nn"}, {"layers": "{"}, {"config": "[]"}):
        save_file(tensors, tmp_path / "changed.safetensors", told | changed)
        with pytest.raises(ModelFolderError):
            load_binary(tmp_path / "changed.safetensors")
    model.save_pretrained(tmp_path / "plain")
    with pytest.raises(ModelFolderError, match="export_binary"):
        load_binary(tmp_path / "plain" / "model.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(PaperworksError, match="another place"):
        export_binary(model, tmp_path / "file" / "net.safetensors")
    export_binary(set_stage(nn.Sequential(BiPerLinear(4, 3)), 2), path)
    with pytest.raises(ModelFolderError, match="Sequential"):
        load_binary(path)


# Two stages


def toy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), BiPerLinear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))


def loss(net, batch):
    return F.cross_entropy(net(batch[0]), batch[1])


def rows():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 5, generator=generator)
    return Batches((x, (x[:, 0] * x[:, 1] > 0).long()), 16, 0)


def test_two_stages_are_two_fits_with_fresh_momentum():
    ours, plain = toy(), toy()
    fit_two_stage(
        ours, loss, rows(), steps=20, lr=0.1, lr2=0.02, weight_decay=1e-3, weight_decay2=1e-4, tau=0.1, tau2=0.2
    )
    batches, count = rows(), 0
    for stage, rate, decay, tau in ((1, 0.1, 1e-3, 0.1), (2, 0.02, 1e-4, 0.2)):
        set_stage(plain, stage)
        optimiser = torch.optim.SGD(plain.parameters(), lr=rate, momentum=0.9, weight_decay=decay)
        for step in range(10):
            optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / 10))
            (loss(plain, batches(count)) + biper_regularizer(plain, tau)).backward()
            optimiser.step()
            optimiser.zero_grad()
            count += 1
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert ours[1].stage == 2


def test_rates_are_the_authors():
    """20 epochs with 5 of warm-up: the last is 0.0096 of the rate."""
    rates = [warm_cosine(epoch, 20, 5) for epoch in range(20)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates[-1] == pytest.approx(0.0096, abs=1e-4)
    assert [warm_cosine(epoch, 4, 0) for epoch in range(4)] == pytest.approx([1, 0.8536, 0.5, 0.1464], abs=1e-4)


@pytest.mark.parametrize("killed_at", [5, 15])
def test_a_killed_fit_goes_on_to_the_bit(killed_at, tmp_path):
    whole = toy()
    fit_two_stage(whole, loss, rows(), steps=20, warmup=2)
    batches, path = rows(), tmp_path / "checkpoint.safetensors"

    def until(step):
        if step == killed_at:
            raise KeyboardInterrupt
        return batches(step)

    with pytest.raises(KeyboardInterrupt):
        fit_two_stage(toy(), loss, until, steps=20, warmup=2, checkpoint=Checkpoint(path, 0))
    again = toy()
    fit_two_stage(again, loss, rows(), steps=20, warmup=2, checkpoint=Checkpoint(path, 0))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="stage1"):
        fit_two_stage(toy(), loss, rows(), steps=2, stage1=2)
    with pytest.raises(ValueError, match="keep_best"):
        fit_two_stage(toy(), loss, rows(), steps=2, keep_best=("acc", "higher"))


# Networks that somebody else wrote


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=30, n_positions=16, n_embd=16, n_layer=2, n_head=2, resid_pdrop=0.0, embd_pdrop=0.0,
                        attn_pdrop=0.0)  # fmt: skip
    return GPT2LMHeadModel(config), torch.randint(0, 30, (2, 7))


def vit():
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16,
                       patch_size=8, num_labels=3, hidden_dropout_prob=0.0)  # fmt: skip
    return ViTForImageClassification(config), torch.randn(2, 3, 16, 16)


def encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2), torch.randn(2, 5, 16)


def resnet():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    return ResNetForImageClassification(config), torch.randn(2, 3, 32, 32)


def output(model, x):
    out = model(x)
    return out if isinstance(out, torch.Tensor) else out.logits


OTHERS = {"gpt2": (gpt2, 6), "vit": (vit, 12), "encoder": (encoder, 3), "resnet": (resnet, 5)}


@pytest.mark.slow  # transformers takes a second to import
@pytest.mark.parametrize("name", OTHERS)
def test_a_strangers_network_is_binarised(name, tmp_path):
    build, least = OTHERS[name]
    model, x = build()
    model.eval()
    with torch.no_grad():
        before = output(model, x)
    same = copy.deepcopy(model)
    swapped = binarize(same, binary_input=False)
    assert len(swapped.replaced) >= least
    with torch.no_grad():  # with real activations the weights are the network's own
        torch.testing.assert_close(output(same, x), before, rtol=1e-3, atol=1e-4)

    made = copy.deepcopy(model)
    swapped = binarize(made)
    assert {n for n, _ in binary_layers(made)} == set(swapped.replaced)
    made.train()
    for stage in (1, 2):
        set_stage(made, stage)
        made.zero_grad()
        out = output(made, x)
        (out * torch.randn_like(out)).sum().backward()
        for path, layer in binary_layers(made):
            assert layer.weight.requires_grad
            assert layer.weight.grad is not None, path
            assert float(layer.weight.grad.abs().sum()) > 0, path

    made.eval()
    save_model(made, str(tmp_path / "weights.safetensors"))
    again, _ = build()
    binarize(again, freq=3.0)
    load_model(again, str(tmp_path / "weights.safetensors"))
    report = export_binary(made, tmp_path / "packed.safetensors")
    packed = load_binary(tmp_path / "packed.safetensors", build()[0])
    with torch.no_grad():
        expected = output(made, x)
        assert not torch.allclose(expected, before)
        assert torch.equal(output(again.eval(), x), expected)
        assert torch.equal(output(packed, x), expected)
    assert report.file_bytes < (tmp_path / "weights.safetensors").stat().st_size


def test_first_last_tied_and_attention_stay_real():
    model, _ = gpt2()
    swapped = binarize(model, skip=())
    assert "tied" in swapped.skipped["lm_head"]
    assert isinstance(model.transformer.h[0].attn.c_attn, BiPerLinear)
    model, _ = encoder()
    swapped = binarize(model, skip=())
    assert any("MultiheadAttention" in reason for reason in swapped.skipped.values())
    model, _ = vit()
    swapped = binarize(model)
    assert "classifier" in swapped.skipped
    assert any("projection" in name for name in swapped.skipped)
    assert not isinstance(model.classifier, BiPerLinear)


def test_starts_targets_and_wrong_words():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 2, 1))
    weight = plain[2].weight.detach().clone()
    model = copy.deepcopy(plain)
    assert binarize(model, start="weights").replaced == ("2",)
    assert torch.equal(model[2].weight, weight)
    model = copy.deepcopy(plain)
    binarize(model, start="fresh", targets=["0", "2"])
    assert isinstance(model[0], BiPerConv2d)
    assert not torch.equal(model[2].weight, weight)
    model = copy.deepcopy(plain)
    nn.init.zeros_(model[2].weight[1])
    binarize(model, start="matched")
    layer = model[2]
    expected = copy.deepcopy(plain[2].weight.detach())
    expected[1] = 0
    torch.testing.assert_close(layer.alpha[..., None] * torch.sin(layer.freq * layer.weight), expected)
    for wrong in (dict(start="cold"), dict(skip=("middle",)), dict(scale=False)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            binarize(copy.deepcopy(plain), **wrong)
    with pytest.raises(ValueError, match="replaced"):
        binarize(nn.Sequential(nn.Linear(3, 3), nn.ReLU()))
