import pytest
import torch
from torch import nn

from paperworks.nn.swap import swap_layers


class Doubled(nn.Module):
    """Twice what the layer gives, so that a layer that is never called shows."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    @property
    def weight(self):
        return self.layer.weight

    @property
    def bias(self):
        return self.layer.bias

    def forward(self, x):
        return 2 * self.layer(x)


def doubled(name: str, layer: nn.Module) -> nn.Module:
    return Doubled(layer)


def test_layers_are_replaced_once_and_what_is_put_in_is_not_searched():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 2))).eval()
    x = torch.randn(4, 3)
    first, last = model[0], model[2][0]
    done = swap_layers(model, nn.Linear, doubled)
    assert done.replaced == ("0", "2.0")
    assert done.skipped == {}
    torch.testing.assert_close(model(x), 2 * last(torch.relu(2 * first(x))))
    assert not any(module.training for module in model.modules())
    swap_layers(model, Doubled, lambda name, layer: layer.layer)
    torch.testing.assert_close(model(x), last(torch.relu(first(x))))


def test_a_layer_under_two_names_stays_one():
    shared = nn.Linear(3, 3)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    assert swap_layers(model, nn.Linear, doubled).replaced == ("0", "2")
    assert model[0] is model[2]


def test_a_tied_weight_is_left_and_said():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "body": nn.Linear(3, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    done = swap_layers(model, nn.Linear, doubled)
    assert done.replaced == ("body",)
    assert "tied" in done.skipped["head"]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("stack", [1, 2])
def test_the_fused_path_of_a_transformer_layer_does_not_hide_the_swap(grad, stack):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, stack) if stack > 1 else layer)
    x = torch.randn(2, 5, 8)
    before = model.train()(x)
    done = swap_layers(model, nn.Linear, doubled)
    assert len(done.replaced) == 2 * stack
    assert all("linear" in name for name in done.replaced)
    assert len(done.skipped) == stack
    assert all("MultiheadAttention" in why for why in done.skipped.values())
    expected = model.train()(x)
    assert (expected - before).abs().max() > 0.1
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(model.eval()(x), expected, rtol=1e-5, atol=1e-5)


def test_a_padded_batch_reaches_the_new_layers_as_it_is():
    torch.manual_seed(0)
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2)
    x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    swap_layers(model, nn.Linear, doubled)
    expected = model.train()(x, src_key_padding_mask=padding)
    with torch.no_grad():
        found = model.eval()(x, src_key_padding_mask=padding)
    torch.testing.assert_close(found, expected)


def test_targets_by_name_and_by_predicate():
    def build():
        return nn.ModuleDict({"a": nn.ModuleDict({"q": nn.Linear(2, 2), "k": nn.Linear(2, 2)}), "q": nn.Linear(2, 2)})

    assert swap_layers(build(), nn.Linear, doubled, targets=["q"]).replaced == ("a.q", "q")
    assert swap_layers(build(), nn.Linear, doubled, targets=["a.k"]).replaced == ("a.k",)
    assert swap_layers(build(), nn.Linear, doubled, targets=lambda name, layer: "." in name).replaced == ("a.q", "a.k")
    with pytest.raises(ValueError, match=r"'v' is the end of no layer's name; there are a.q, a.k, q"):
        swap_layers(build(), nn.Linear, doubled, targets=["v"])


def test_nothing_to_replace_is_an_error():
    with pytest.raises(ValueError, match="no Linear was replaced"):
        swap_layers(nn.Sequential(nn.ReLU()), nn.Linear, doubled)
    with pytest.raises(ValueError, match="wrap it"):
        swap_layers(nn.Linear(2, 2), nn.Linear, doubled)
