"""Conversion of ReLU networks that others wrote: what it computes, what it refuses, saving, gradients, costs."""

import functools
import os

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn
from torch.nn import functional as F

from paperworks.learning.spiking import SpikingReLU, convert_to_spiking, cost
from paperworks.learning.spiking.convert import SpikingMaxPool


def randomised(net):
    """Norms away from their start, as after training, and weights that carry the signal to the end."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (module.running_mean, -0.1, 0.1), (module.running_var, 0.5, 1.5), (module.weight.data, 0.7, 1.3),
                (module.bias.data, -0.1, 0.1),
            ):  # fmt: skip
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return net.eval()


def from_transformers(kind):
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    if kind == "resnet":  # max pooling, skip connections, batch norm
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=5
        )
        return transformers.ResNetForImageClassification(config)
    if kind == "regnet":  # grouped convolutions
        config = transformers.RegNetConfig(
            embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], groups_width=4, layer_type="x", num_labels=5
        )
        return transformers.RegNetForImageClassification(config)
    config = transformers.MobileNetV2Config(  # depthwise convolutions, ReLU6
        depth_multiplier=0.1, image_size=32, num_labels=5, hidden_act="relu6", tf_padding=False
    )
    return transformers.MobileNetV2ForImageClassification(config)


def autoencoder_like():
    """A plain perceptron in the manner of torch's examples: one ReLU module used twice."""
    relu = nn.ReLU()
    return nn.Sequential(
        nn.Flatten(), nn.Linear(48, 32), relu, nn.Dropout(0.5), nn.Linear(32, 16), relu, nn.Linear(16, 5)
    )


NETWORKS = {
    "resnet": (functools.partial(from_transformers, "resnet"), (3, 24, 24)),
    "regnet": (functools.partial(from_transformers, "regnet"), (3, 24, 24)),
    "mobilenet": (functools.partial(from_transformers, "mobilenet"), (3, 32, 32)),
    "perceptron": (autoencoder_like, (3, 4, 4)),
}


@functools.cache
def prepared(name):
    make, shape = NETWORKS[name]
    net = randomised(make())
    x = torch.rand(8, *shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = net(x)
    return net, x, getattr(y, "logits", y)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_approach_the_networks_own_as_steps_grow(name):
    net, x, y = prepared(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    converted = convert_to_spiking(net, x, percentile=100)
    with torch.no_grad():
        torch.testing.assert_close(converted.analog(x), y, rtol=1e-4, atol=1e-5)
        errors = []
        for steps in (16, 128):
            converted.steps = steps
            errors.append(float((converted(x) - y).norm() / (y - y.mean(0)).norm()))
    assert errors[1] < (0.7 if name == "mobilenet" else 0.4) * errors[0]  # its fifty layers round fifty times
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_reach_every_weight_and_batch_norm_stays(name):
    net, x, _ = prepared(name)
    converted = convert_to_spiking(net, x, steps=8).train()
    statistics = {key: value.clone() for key, value in converted.state_dict().items() if "running" in key}
    y = converted(x)
    (y * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert not [n for n, p in converted.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert all(torch.equal(converted.state_dict()[key], value) for key, value in statistics.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_saved_and_loaded_gives_the_same(name, tmp_path):
    net, x, _ = prepared(name)
    converted = convert_to_spiking(net, x, steps=8)
    save_model(converted, str(tmp_path / "net.safetensors"))
    other = convert_to_spiking(randomised(NETWORKS[name][0]()), 0.5 * x, steps=8)
    with torch.no_grad():
        expected = converted(x)
        assert name == "perceptron" or not torch.equal(other(x), expected)
        load_model(other, str(tmp_path / "net.safetensors"))
        assert torch.equal(other(x), expected)
    with pytest.raises(TypeError, match="safetensors"):
        converted.save_pretrained(tmp_path)


@pytest.mark.slow
def test_a_converted_network_takes_spikes_in_every_layer_but_the_first():
    net, x, _ = prepared("resnet")
    work = cost(convert_to_spiking(net, x, steps=4), x)
    real = {name for name, (macs, _, _) in work.layers.items() if macs}
    assert [name.rpartition("resnet.")[2] for name in real] == ["embedder.embedder.convolution"]
    assert sum(operations > 0 for _, _, operations in work.layers.values()) == len(work.layers) - 1
    first = cost(net, x).layers["resnet.embedder.embedder.convolution"][0]
    assert work.macs == 4 * first  # the same image every step


def test_count_of_one_layer_is_the_rounded_activation():
    layer = nn.Linear(6, 5).double()
    net, x = nn.Sequential(layer, nn.ReLU()), torch.randn(40, 6, dtype=torch.float64)
    converted = convert_to_spiking(net, x, steps=20, percentile=90).double()
    unit = float(converted.net[0][1].thresholds)
    expected = net(x).clamp(max=unit)
    assert float(((converted(x) - expected) / unit).detach().abs().max()) <= 1 / 40 + 1e-9


def test_calibration_takes_the_quantile_of_what_was_seen():
    net = nn.Sequential(nn.Identity(), nn.ReLU())
    data = torch.arange(1, 101).float().reshape(100, 1)
    for percentile, expected in ((100, 100.0), (90, 90.0), (50, 50.0)):
        converted = convert_to_spiking(net, [data[:50], (data[50:], "label")], percentile=percentile)
        assert float(converted.net[0][1].thresholds) == expected
    assert converted.net[0][1].extra_repr() == "lambda=50"


def test_a_gated_maximum_settles_on_the_maximum():
    pool = SpikingMaxPool(nn.MaxPool2d(2))
    pool.mode, pool.steps = "spikes", 200
    rates = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    spikes = torch.stack([((t + 1) * rates).floor() - (t * rates).floor() for t in range(200)])
    out = pool(spikes.flatten(0, 1)).unflatten(0, (200, 3)).mean(0)
    torch.testing.assert_close(out, F.max_pool2d(rates, 2), rtol=0, atol=0.06)


def test_rate_coded_input_takes_no_multiplications():
    net, x, _ = prepared("perceptron")
    work = cost(convert_to_spiking(net, x, steps=6, encoding="rate"), x)
    assert work.macs == 0
    assert work.neuron_updates == 6 * (32 + 16)


class Functional(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.a, self.relu, self.b, self.function = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), function

    def forward(self, x):
        return self.function(self.b(self.relu(self.a(x))))


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Sigmoid()), "1 is Sigmoid.*nn.ReLU"),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU()), "LayerNorm.*batch norm"),
        (nn.Sequential(nn.Linear(4, 4)), "no nn.ReLU"),
        (Functional(F.relu), "not linear.*F.relu"),
        (Functional(lambda y: y.softmax(-1)), "softmax"),
        (Functional(lambda y: y * y), "product"),
        (Functional(lambda y: y - y.mean(0)), "other rows"),
        (Functional(lambda y: (y, y)), "returns tuple.*output="),
        (nn.Sequential(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), "cannot spike"),
    ],
)
def test_what_cannot_spike_is_refused_in_words(net, told):
    torch.manual_seed(0)  # outputs of both signs: a ReLU that never cuts anything off is linear on these rows
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    with pytest.raises(ValueError, match=told):
        convert_to_spiking(net.eval(), torch.randn(64, 4) if "Transf" not in str(net) else torch.rand(2, 3, 4))


def test_a_published_transformer_is_refused():
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
    )
    with pytest.raises(ValueError, match="cannot spike"):
        convert_to_spiking(transformers.ViTForImageClassification(config).eval(), torch.rand(2, 3, 8, 8))


def test_settings_that_make_no_sense_are_refused():
    net, x, _ = prepared("perceptron")
    for options, told in (
        ({"percentile": 0}, "percentile"), ({"encoding": "morse"}, "encoding"), ({"steps": 0}, "steps"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            convert_to_spiking(net, x, **options)
    with pytest.raises(ValueError, match="at least one row"):
        convert_to_spiking(net, x[:0])
    with pytest.raises(ValueError, match="from 0 to 1"):
        convert_to_spiking(net, x, encoding="rate")(x - 1)
    assert isinstance(convert_to_spiking(net, x).parts()[0], SpikingReLU)


@pytest.mark.slow
def test_answers_of_a_trained_network_are_kept_given_time():
    from paperworks.learning.spiking import relu_network, spiking_mlp_digits
    from paperworks.training.digits import digits

    data = digits(7)
    torch.manual_seed(0)
    net = relu_network(spiking_mlp_digits())
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(net(data.train.x), data.train.y).backward()
        optimizer.step()
    agreement = []
    with torch.no_grad():
        answers = net.eval()(data.val.x).argmax(1)
        assert float((answers == data.val.y).float().mean()) > 0.9
        for steps in (2, 256):
            converted = convert_to_spiking(net, data.train.x, steps=steps, percentile=100)
            agreement.append(float((converted(data.val.x).argmax(1) == answers).float().mean()))
    assert agreement[1] >= 0.99
    assert agreement[1] > agreement[0]
